"""One page in one file: style, our own scripts and all data inside; its policy forbids anything else."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import BinaryIO, final

from foveate.core.files import plain, replace_file
from foveate.core.types import FoveateError, Json
from foveate.pages.elements import Html, Part, el, joined

MOST = 15_000_000  # bytes of a page
ROOM = 13_000_000  # of them for pictures and volumes
MODULES = (
    "elements.js",
    "charts.js",
    "tables.js",
    "slider.js",
    "planes.js",
    "boxes.js",
    "viewer.js",
    "live.js",
    "main.js",
)
IMPORT = re.compile(r"^import\b[^;]*;\n", re.MULTILINE)
NAMED = re.compile(r"^(?:async )?(?:function|const|let|class) (\w+)", re.MULTILINE)


@final
class Page:
    """A page while it is put together.

    Attributes:
        title: Its name.
        images: Whether pixels may be shown.
        live: Whether it asks its server again and again for what is new.
    """

    def __init__(self, title: str, *, images: bool = True, live: bool = False) -> None:
        self.title, self.images, self.live = title, images, live
        self.data: dict[str, Json] = {}
        self.sections: list[tuple[str, Html]] = []
        self.head: list[Part] = []
        self.left = ROOM

    def add(self, title: str, *parts: Part) -> None:
        """A section, unless there is nothing in it."""
        body = joined(parts)
        if body:
            name = f"section-{len(self.sections) + 1}"
            inside = [el("h2", title, id=name), body]
            self.sections.append((title, el("section", joined(inside), aria_labelledby=name)))

    def widget(self, kind: str, spec: Json) -> Html:
        """Where a script of ours draws something from data."""
        name = f"{kind}-{len(self.data) + 1}"
        self.data[name] = spec
        return el("div", el("noscript", "This part needs JavaScript."), data_kind=kind, data_widget=name)

    def afford(self, size: int) -> bool:
        """Whether there is room for so many bytes; they are taken."""
        if fits := size <= self.left:
            self.left -= size
        return fits

    def body(self) -> Html:
        """What is shown, with the data that scripts draw."""
        links = [el("a", title, href=f"#section-{i}") for i, (title, _) in enumerate(self.sections, 1)]
        menu = el("nav", joined(links), aria_label="sections") if len(links) > 2 else None
        status = el("span", id="live", role="status", class_="note") if self.live else None
        theme = el("div", data_kind="theme", data_widget="theme")
        top = el("header", el("h1", self.title), status, theme)
        inside = el("main", *self.head, menu, joined(section for _, section in self.sections))
        written = json.dumps(plain(self.data), allow_nan=False, separators=(",", ":"))
        data = Html(written.replace("<", "\\u003c"))
        return joined([top, inside, el("script", data, type="application/json", id="data")])

    def parts(self) -> Iterator[str]:
        """The page from head to foot."""
        connect = "; connect-src 'self'" if self.live else ""
        rule = f"script-src 'sha256-{script_hash()}'{connect}"
        body = self.body()
        yield from frame(self.title, [body], rule, live=self.live, foot=script_element())

    def write(self, path: Path) -> None:
        """The whole file or the one before."""
        text = "".join(self.parts()).encode()
        if len(text) > MOST:
            raise FoveateError(
                f"{path.name} would have {len(text) / 1e6:.0f} MB; accepted are {MOST / 1e6:.0f} MB: name "
                "fewer folders, or give --with_images false."
            )
        replace_file(path, lambda stream: stream.write(text))


def frame(
    title: str, body: Iterable[str], rule: str = "", *, live: bool = False, foot: str = ""
) -> Iterator[str]:
    """A document around a body; without a rule of the policy for them no script runs."""
    policy = (
        "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
    )
    policy = f"{policy}; {rule}" if rule else policy
    yield f'<!doctype html><html lang="en"{" data-live" if live else ""}><head><meta charset="utf-8">'
    yield el("meta", http_equiv="Content-Security-Policy", content=policy)
    yield el("meta", name="viewport", content="width=device-width")
    yield el("title", title) + f"<style>{asset('style.css')}{asset('widgets.css')}</style></head><body>"
    yield from body
    yield f"{foot}</body></html>\n"


def write_frame(path: Path, title: str, body: Iterable[str]) -> None:
    """A page without scripts, written as it is made."""

    def write(stream: BinaryIO) -> None:
        stream.writelines(part.encode() for part in frame(title, body))

    replace_file(path, write)


@cache
def asset(name: str) -> str:
    """A file that ships with this package."""
    return (files("foveate.pages") / "assets" / name).read_text(encoding="utf-8")


@cache
def script() -> str:
    """All modules as one: imports between them are dropped, and what they export is simply there."""
    text = "".join(joined_module(asset(name)) for name in MODULES)
    names = NAMED.findall(text)
    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
    return text


def joined_module(text: str) -> str:
    """A module without its imports and the word `export`."""
    return re.sub(r"^export ", "", IMPORT.sub("", text), flags=re.MULTILINE)


def script_hash() -> str:
    """How the page's policy knows our script, and no other."""
    return base64.b64encode(hashlib.sha256(script().encode()).digest()).decode()


def script_element() -> str:
    """The script as a module, which runs when the page is complete."""
    return f'<script type="module">{script()}</script>'

"""HTML as values: plain text is escaped where it is put in, so that no name or message can be markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import final

VOID = ("br", "hr", "img", "input", "meta")


@final
class Html(str):
    """Text that is markup already."""

    __slots__ = ()


Part = Html | str | None


def el(tag: str, *parts: Part, **attributes: str | int | bool) -> Html:
    """An element; parts that are plain text are escaped, and so are attributes.

    An underscore at the end of a name is dropped, others become hyphens; a false attribute is left out.

    >>> el("p", "a < b", class_="note")
    '<p class="note">a &lt; b</p>'
    """
    words = "".join(attribute(name, value) for name, value in attributes.items() if value is not False)
    inside = joined(parts)
    return Html(f"<{tag}{words}>" if tag in VOID else f"<{tag}{words}>{inside}</{tag}>")


def attribute(name: str, value: str | int | bool) -> str:
    """One attribute with the space before it."""
    spelled = name.removesuffix("_").replace("_", "-")
    return f" {spelled}" if value is True else f' {spelled}="{escape(str(value))}"'


def joined(parts: Iterable[Part]) -> Html:
    """Parts one after the other."""
    return Html("".join(part if isinstance(part, Html) else escape(part or "") for part in parts))


def table(
    head: Sequence[str], rows: Iterable[Sequence[object]], caption: str = "", *, label: str = ""
) -> Html:
    """A table; numbers stand to the right. Where its heading says what it is, a label does for a caption."""
    cells = joined(el("th", each, scope="col") for each in head)
    top = el("thead", el("tr", cells)) if head else None
    body = el("tbody", joined(el("tr", joined(map(cell, row))) for row in rows))
    name = el("caption", caption) if caption else None
    inside = el("table", name, top, body)
    return el(
        "div", inside, class_="wide", tabindex="0", role="region", aria_label=caption or label or "table"
    )


def cell(value: object) -> Html:
    """A cell of a table."""
    if isinstance(value, bool) or value is None or not isinstance(value, int | float):
        inside = value if isinstance(value, Html) else "" if value is None else str(value)
        return el("td", inside)
    return el("td", f"{value:g}" if isinstance(value, float) else str(value), class_="n")


def facts(pairs: Iterable[tuple[str, object]]) -> Html:
    """What is known, name by name; what is not known is left out."""
    known = [(name, value) for name, value in pairs if value not in ("", None)]
    rows = (joined([el("dt", name), el("dd", shown(value))]) for name, value in known)
    return el("dl", joined(rows), class_="facts")


def shown(value: object) -> Part:
    """A value as text."""
    if isinstance(value, Html):
        return value
    return f"{value:g}" if isinstance(value, float) else str(value)


def folded(summary: str, *parts: Part) -> Html:
    """Something that is shown when it is asked for."""
    return el("details", el("summary", summary), joined(parts))

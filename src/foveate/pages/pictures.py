"""Pictures inside a page, as data."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from foveate.core.types import Json
from foveate.pages.elements import Html, el
from foveate.pages.page import Page

QUALITY = 85  # of WebP: what a person looks at
MOST_FRAMES = 12
WIDEST = 1400  # pixels
SECRET = "Pictures are left out (--with_images false)."


def picture(page: Page, path: Path, alt: str, caption: str = "") -> Html:
    """A picture with a caption; words where it cannot be shown."""
    source, why = packed(page, path)
    if not source:
        return el("p", f"{caption or alt}: {why}", class_="note")
    return el("figure", el("img", src=source, alt=alt, loading="lazy"), el("figcaption", caption or alt))


def slider(page: Page, paths: Sequence[Path], labels: Sequence[str], alt: str) -> Html:
    """Pictures over time, one at a time."""
    chosen = spread(len(paths), MOST_FRAMES)
    frames: list[Json] = []
    notes = [f"{len(chosen)} of {len(paths)} are on this page."] if len(chosen) < len(paths) else []
    for i in reversed(chosen):  # where there is no room for all, the last ones matter
        source, why = packed(page, paths[i])
        if source:
            frames.insert(0, {"src": source, "label": labels[i]})
        elif why not in notes:
            notes.append(why)
    drawn = page.widget("slider", {"frames": frames, "alt": alt}) if frames else ""
    return Html(drawn + "".join(el("p", note, class_="note") for note in notes))


def spread(count: int, most: int) -> list[int]:
    """At most so many numbers below a count, evenly spread, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return sorted({round(i * (count - 1) / (most - 1)) for i in range(most)})


def packed(page: Page, path: Path) -> tuple[str, str]:
    """A picture as data, or why there is none."""
    if not page.images:
        return "", SECRET
    try:
        with Image.open(path) as image:
            image.thumbnail((WIDEST, WIDEST * 4))
            stream = io.BytesIO()
            image.convert("RGB" if image.mode != "L" else "L").save(stream, format="WEBP", quality=QUALITY)
    except (OSError, UnidentifiedImageError, ValueError):
        return "", f"{path.name} could not be read."
    text = f"data:image/webp;base64,{base64.b64encode(stream.getvalue()).decode()}"
    return (text, "") if page.afford(len(text)) else ("", "Pictures are missing: there is no room for them.")

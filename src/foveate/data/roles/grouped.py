"""Excluded files in a few lines: those that are named alike and have the same reason, together."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator

from foveate.data.readers.refusals import looks_like_labels
from foveate.data.roles.families import Place, places

FEWEST = 3  # files of a line; fewer are named one by one
NAMED = 3  # files of a group that its line names
NUMBER = re.compile(r"\d[\d.,e+]*")
LABEL_MAPS = "label maps"


def grouped(excluded: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Lines for the terminal; reasons that differ in numbers alone count as the same, and the first is shown.

    Args:
        excluded: Relative paths and reasons.

    >>> list(grouped([(f"{n}_tissue.nii", "it counts as a label map") for n in "abc"] + [("x.nii", "empty")]))
    ['3 files like *_tissue.nii: label maps', 'x.nii: empty']
    """
    listed = list(excluded)
    found = places(name for name, _ in listed)
    groups: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for name, reason in listed:
        groups[pattern_of(found[name]), NUMBER.sub("#", said(reason))].append((name, said(reason)))
    for (pattern, _), members in groups.items():
        if len(members) < FEWEST:
            yield from (f"{name}: {reason}" for name, reason in members)
            continue
        reason = members[0][1]
        names = ", ".join(name for name, _ in members[:NAMED])
        named = "" if reason.startswith(LABEL_MAPS) else f" ({names}{', ...' * (len(members) > NAMED)})"
        yield f"{len(members)} files like {pattern}{named}: {reason}"


def said(reason: str) -> str:
    """The reason in short."""
    return (
        LABEL_MAPS if looks_like_labels(reason) or reason.startswith("it counts as a label map") else reason
    )


def pattern_of(place: Place) -> str:
    """The names of a family with its suffix."""
    folder = "" if place.folder in ("", ".") else f"{place.folder}/"
    if not place.end:
        return f"{folder}*{place.suffix}"
    return f"*{place.end}{place.suffix}" if place.case else f"*/{place.end}{place.suffix}"

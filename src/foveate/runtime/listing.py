"""All keys of all commands, from a file made beforehand, so that errors need no import of torch.

A test compares `listing.json` with what the commands, methods and encoders really accept, and writes it anew
with LISTING_UPDATE=1.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib.metadata import entry_points
from importlib.resources import files
from typing import TypedDict

from foveate.core.registry import nearest
from foveate.core.types import FoveateError

OPEN = {
    "method": "foveate.methods",
    "task": "foveate.tasks",
    "source": "foveate.sources",
    "encoder": "foveate.encoders",
}


class Listing(TypedDict):
    """The content of listing.json."""

    keys: dict[str, list[str]]  # command -> every key that some choice of names gives it
    methods: list[str]  # the lines of `foveate methods`


@cache
def listing() -> Listing:
    """The listing.json that ships with the package."""
    found: Listing = json.loads((files("foveate") / "listing.json").read_text(encoding="utf-8"))
    return found


def refuse_unknown(command: str, keys: Iterable[str]) -> None:
    """Refuse a key that no configuration of a command has; one of another choice is left to the parser."""
    known = listing()["keys"].get(command)
    if known is None:  # of another package
        return
    unlisted = [key for key in keys if not any(f"{each}.".startswith(f"{key}.") for each in known)]
    if not unlisted:  # looking for other packages takes time
        return
    groups = {group for group, points in OPEN.items() if entry_points(group=points)}
    for key in unlisted:
        if key.split(".")[0] not in groups:
            raise FoveateError(
                f"--{key}: there is no such key{elsewhere(key) or nearest(key, known)}. "
                f"`foveate {command} --help_all` lists all."
            )


def elsewhere(key: str) -> str:
    """Which commands have a key that the one in question lacks, to append to an error; "" for none."""
    owners = [name for name, known in listing()["keys"].items() if key in known]
    return f" here; accepted by {', '.join(f'`foveate {name}`' for name in owners)}" if owners else ""

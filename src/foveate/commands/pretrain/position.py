"""Whether other images are compared with (`gamma: auto`): found from the images once, kept with the run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.files import read_json, write_json
from foveate.core.types import FoveateError
from foveate.data.cache.volumes import Cache
from foveate.data.position import THRESHOLD, Position, measure

FILE = "position.json"


def settled(config: PretrainConfig, cache: Cache) -> tuple[PretrainConfig, Position | None]:
    """The run with what its images say of position, and that; None where the method does not ask."""
    found: list[Position] = []

    def aligned() -> bool:
        found.append(recorded(Path(config.out)) or measure(cache))
        return found[0].aligned

    method = config.method.settled(aligned)
    return (replace(config, method=method), found[0]) if found else (config, None)


def recorded(out: Path) -> Position | None:
    """What a run was started with: it goes on as it began."""
    try:
        found = read_json(out / FILE)
        return None if found is None else Position(**found)
    except (TypeError, ValueError):
        raise FoveateError(
            f"{out / FILE} was changed; accepted: the file as foveate wrote it. Restore it, or use "
            "another --out."
        ) from None


def note_position(position: Position | None, out: Path) -> None:
    """Keep what was found."""
    if position:
        write_json(out / FILE, position.as_json())


def decision(position: Position | None) -> str:
    """The line of a log; "" where nobody asked."""
    if position is None:
        return ""
    state = "on" if position.aligned else "off"
    return f"{position.sentence}: positional term {state} (on from {THRESHOLD:g})"

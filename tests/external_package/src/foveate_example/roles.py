"""A command: how many files of every role are in a folder."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from foveate.core.types import Ending
from foveate.runtime.command import Command, Spec


@dataclass(frozen=True, kw_only=True)
class RolesConfig:
    """One count.

    Attributes:
        data: Folder of images.
        role: Count this one only; empty: all.
    """

    data: str = ""
    role: str = ""


def run(config: RolesConfig) -> Ending:
    """Print a line for every role."""
    from foveate.data.sources.folder import (
        FolderSource,  # not before it is asked for: `foveate --help` is quick
    )

    found = Counter(record.role for record in FolderSource().records(Path(config.data)))
    for role, count in sorted(found.items()):
        if config.role in ("", role):
            print(f"{role}: {count}")
    return Ending.FINISHED


SPEC = Spec(name="roles", defaults=lambda _given: RolesConfig(), required={"data": "FOLDER"})
COMMAND = Command(
    name="roles",
    summary="Count the files of every role",
    usage="FOLDER [--role image]",
    spec="foveate_example.roles:SPEC",
    run="foveate_example.roles:run",
    positional="data",
)

"""The configuration of a scan."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

from foveate.core.types import FoveateError
from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class ScanConfig:
    """One scan.

    Attributes:
        data: SRC: the folder to look at, or one file; nothing in it is changed.
        out: Folder of the inventory; the same command again only looks at what is new or changed.
        until: The last pass: stat (names and sizes), headers, or full (voxels).
        num_workers: Processes that read beside this one; 0: none. The result does not depend on it.
        thumbnails: Draw small pictures into the page; never of what may have text burned in.
    """

    data: str = ""
    out: str = ""
    until: Literal["stat", "headers", "full"] = "full"
    num_workers: int = 1
    thumbnails: bool = True

    def __post_init__(self) -> None:
        if self.num_workers < 0:
            raise FoveateError(f"--num_workers {self.num_workers}: accepted are 0 and more.")


SPEC = Spec(
    name="scan",
    defaults=lambda _given: ScanConfig(num_workers=min(4, os.cpu_count() or 1)),
    required={"data": "SRC", "out": "INV"},
)

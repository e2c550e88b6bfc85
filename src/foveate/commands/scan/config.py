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
        data: SRC: the folder or file to scan; nothing in it is changed.
        out: Folder of the inventory; running the same command again reads only new and changed files.
        until: The last pass to run: stat (names and sizes), headers, or full (voxels).
        num_workers: Worker processes that read; 0: the main process. The result does not depend on it.
        thumbnails: Draw small pictures into the page, except of images that may have burned-in text.
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
    examples=(
        "foveate scan SCANS --out INVENTORY                    # writes INVENTORY/inventory.html",
        "foveate scan SCANS --out INVENTORY --until stat        # names and sizes only",
    ),
)

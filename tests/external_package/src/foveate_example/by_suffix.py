"""A layout: scans below `scans/`, one per patient, the patient being the file's name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from foveate.core.types import Dimension, Record


@dataclass(frozen=True, kw_only=True)
class Config:
    """Scans by suffix.

    Attributes:
        name: by_suffix.
        suffix: Of the scans.
    """

    name: Literal["by_suffix"] = "by_suffix"
    suffix: str = ".nii.gz"


@final
class BySuffix:
    """The layout."""

    def __init__(self, config: Config) -> None:
        self.suffix = config.suffix

    def dimension(self, root: Path) -> Dimension:  # noqa: ARG002 - the layout says it
        """Volumes."""
        return 3

    def records(self, root: Path) -> Iterator[Record]:
        """Every scan, by name."""
        for path in sorted((root / "scans").glob(f"*{self.suffix}")):
            relative, patient = path.relative_to(root).as_posix(), path.name.removesuffix(self.suffix)
            yield Record(path=path, relative=relative, patient=patient, evidence=f"suffix {self.suffix}")


build = BySuffix

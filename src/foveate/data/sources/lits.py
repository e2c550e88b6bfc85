"""LiTS: contrast-enhanced abdominal CT with the liver and its tumours.

Source: https://competitions.codalab.org/competitions/17094 (CC BY-NC-ND 4.0). Image and label sometimes
disagree in their affines; the label is on the image's grid.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.layouts import Layout, WrongLayoutError, below, case, folders, volume
from foveate.data.tables import visible

TREE = """
Training Batch 1/            (any folders: the names of the files decide)
  volume-0.nii               (.nii.gz too)
  segmentation-0.nii
Training Batch 2/
  ...
test/
  test-volume-0.nii          (without labels)
"""
CLASSES = {"liver": (1, 2), "tumour": (2,)}  # a tumour is part of the liver
VOLUME = re.compile(r"(test-)?volume-(\d+)\.nii(\.gz)?")


@dataclass(frozen=True, kw_only=True)
class Config:
    """LiTS in its own folders: nothing to choose.

    Attributes:
        name: lits.
    """

    name: Literal["lits"] = "lits"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=cases, axes=3, targets=lambda _root: CLASSES)


def recognises(root: Path) -> bool:
    """Whether a volume and its segmentation lie in `root` or a folder directly in it."""
    for folder in (root, *folders(root)):
        names = {path.name for path in visible(folder)}
        if any(f"segmentation-{m[2]}.nii{m[3] or ''}" in names for m in map(VOLUME.fullmatch, names) if m):
            return True
    return False


def cases(root: Path) -> Iterator[Record]:
    """One image per volume, split `test` where the organisers kept the labels."""
    if not root.is_dir():
        raise WrongLayoutError("it is a file")
    for path in below(root):
        if match := VOLUME.fullmatch(path.name):
            label = None if match[1] else volume(path.parent, f"segmentation-{match[2]}")
            yield case(
                root,
                path,
                evidence=f"file name {path.name}",
                modality="CT",
                patient=f"{match[1] or ''}{int(match[2])}",
                split="test" if match[1] else "",
                maps={LABELS: label} if label else {},
            )

"""BTCV (Beyond the Cranial Vault): abdominal CT with thirteen organs.

Source: https://www.synapse.org/#!Synapse:syn3193805 (registration).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.layouts import Layout, case, either, folders, volume
from foveate.data.tables import visible

TREE = """
RawData/
  Training/
    img/imgXXXX.nii.gz
    label/labelXXXX.nii.gz
  Testing/
    img/imgXXXX.nii.gz       (without labels)
"""
ORGANS = (
    *("spleen", "right kidney", "left kidney", "gallbladder", "oesophagus", "liver", "stomach", "aorta"),
    *("inferior vena cava", "portal and splenic veins", "pancreas"),
    *("right adrenal gland", "left adrenal gland"),
)
CLASSES = {organ: (value,) for value, organ in enumerate(ORGANS, start=1)}
IMAGE = re.compile(r"img(\d{4})\.nii(\.gz)?")


@dataclass(frozen=True, kw_only=True)
class Config:
    """BTCV in its own folders: nothing to choose.

    Attributes:
        name: btcv.
    """

    name: Literal["btcv"] = "btcv"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=cases, axes=3, targets=lambda _root: CLASSES)


def _is_top(folder: Path) -> bool:
    return (folder / "Training" / "img").is_dir()


def recognises(root: Path) -> bool:
    """Whether `Training/img` holds an image named as BTCV's."""
    tops = [top for top in (root, *folders(root)) if _is_top(top)]
    return any(IMAGE.fullmatch(path.name) for top in tops for path in visible(top / "Training" / "img"))


def cases(root: Path) -> Iterator[Record]:
    """One image per scan; those of `Testing` have no label."""
    top = either(root, _is_top, "Training/img")
    for part, split in (("Training", ""), ("Testing", "test")):
        folder = top / part / "img"
        for path in visible(folder) if folder.is_dir() else ():
            if match := IMAGE.fullmatch(path.name):
                label = volume(top / part / "label", f"label{match[1]}")
                yield case(
                    root,
                    path,
                    evidence=f"{part}/img/{path.name}",
                    modality="CT",
                    patient=match[1],
                    split=split,
                    maps={LABELS: label} if label else {},
                )

"""BraTS 2018: four aligned MR sequences of a brain tumour as four channels, with a map of its parts.

Source: https://www.med.upenn.edu/sbia/brats2018/data.html (registration; terms of the challenge).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.labels import LABELS
from foveate.core.types import Record
from foveate.data.layouts import Layout, case, either, excluded_case, folders, volume

TREE = """
MICCAI_BraTS_2018_Data_Training/
  HGG/
    Brats18_<site>_<n>_1/
      Brats18_<site>_<n>_1_{t1,t1ce,t2,flair,seg}.nii.gz
  LGG/
    ...
"""
GRADES = ("HGG", "LGG")
CLASSES = {"WT": (1, 2, 4), "TC": (1, 4), "ET": (4,)}  # overlapping: whole tumour, its core, enhancing part
VISIT = re.compile(r"_\d+$")  # a case is named after its patient and the number of the visit


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which sequences are read.

    Attributes:
        name: brats18.
        channels: The sequences that become the channels of an image, in this order; the default is the order
            of the published PCRLv2 weights.
    """

    name: Literal["brats18"] = "brats18"
    channels: tuple[Literal["t1", "t1ce", "t2", "flair"], ...] = ("t1", "t2", "flair", "t1ce")


def build(config: Config) -> Layout:
    """The layout; cases without a `seg` file (the validation data) are images without a map."""
    return Layout(
        name=config.name,
        tree=TREE,
        cases=lambda root: cases(root, config),
        axes=3,
        targets=lambda _root: CLASSES,
    )


def recognises(root: Path) -> bool:
    """Whether a grade's folder, in `root` or one below, holds a case."""
    grades = [folder for top in (root, *folders(root)) for folder in folders(top) if folder.name in GRADES]
    return any(path.name.startswith("Brats18_") for grade in grades for path in folders(grade)[:1])


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per case, with its grade as the value `grade`."""
    top = either(root, lambda folder: any((folder / grade).is_dir() for grade in GRADES), "HGG or LGG")
    for grade in GRADES:
        for folder in folders(top / grade):
            yield _case(root, folder, grade, config)


def _case(root: Path, folder: Path, grade: str, config: Config) -> Record:
    files = {name: volume(folder, f"{folder.name}_{name}") for name in (*config.channels, "seg")}
    channels = tuple(path for name in config.channels if (path := files[name]))
    if len(channels) < len(config.channels):
        absent = ", ".join(name for name in config.channels if not files[name])
        return excluded_case(root, folder, f"{absent} is missing")
    return case(
        root,
        channels[0],
        channels=channels if len(channels) > 1 else (),
        evidence=f"case with {', '.join(config.channels)}",
        modality="MR",
        patient=VISIT.sub("", folder.name),
        maps={LABELS: files["seg"]} if files["seg"] else {},
        labels={"grade": grade},
    )

"""KiTS19 and its later years: contrast-enhanced CT with kidneys and their tumours.

Source: https://kits-challenge.org (CC BY-NC-SA 4.0). The first axis of these files is z; the affine says
so, and reading brings every volume to RAS+.
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
data/
  case_00000/
    imaging.nii.gz
    segmentation.nii.gz      (absent for the test cases)
  case_00001/
    ...
"""
CLASSES = {
    "2019": {"kidney": (1, 2), "tumour": (2,)},
    "2023": {"kidney": (1, 2, 3), "mass": (2, 3), "tumour": (2,)},  # 3: cyst
}
CASE = re.compile(r"case_\d{5}")


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which year's labels.

    Attributes:
        name: kits.
        year: 2019 has kidney and tumour; 2023 (and 2021) have cysts beside them.
    """

    name: Literal["kits"] = "kits"
    year: Literal["2019", "2023"] = "2019"


def build(config: Config) -> Layout:
    """The layout."""
    classes = CLASSES[config.year]
    return Layout(name=config.name, tree=TREE, cases=cases, axes=3, targets=lambda _root: classes)


def _holds_cases(folder: Path) -> bool:
    return any(CASE.fullmatch(path.name) for path in folders(folder))


def recognises(root: Path) -> bool:
    """Whether a case's folder with its image lies in `root` or one below."""
    tops = [root, *folders(root)]
    found = (path for top in tops for path in folders(top) if CASE.fullmatch(path.name))
    return any(volume(path, "imaging") for path in found)


def cases(root: Path) -> Iterator[Record]:
    """One image per case; without a segmentation, it is of the test set."""
    top = either(root, _holds_cases, "folders case_NNNNN")
    for folder in folders(top):
        if not CASE.fullmatch(folder.name):
            continue
        image, label = volume(folder, "imaging"), volume(folder, "segmentation")
        if image is None:
            yield excluded_case(root, folder, "imaging.nii.gz is missing")
            continue
        yield case(
            root,
            image,
            evidence=f"{folder.name}/{image.name}",
            modality="CT",
            patient=folder.name,
            split="" if label else "test",
            maps={LABELS: label} if label else {},
        )

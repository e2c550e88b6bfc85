"""ChestX-ray14: 112,120 frontal chest radiographs of 30,805 patients with fourteen findings.

Source: https://nihcc.app.box.com/v/ChestXray-NIHCC (no restriction on use; attribution to the NIH Clinical
Center).

The PCRLv2 code comes with three lists, of which the test list is a copy of the validation list. Its real test
set is what the other two leave of the 112,120 images; with `lists: pcrlv2` it is built so and the copy is
never read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from foveate.core.types import FoveateError, Record
from foveate.data.image_files import existing
from foveate.data.layouts import Layout, Missing, WrongLayoutError, case, folders, read_lines
from foveate.data.tables import read_table, visible

TREE = """
images_001/images/*.png      (to images_012; or one folder images/)
Data_Entry_2017.csv          (or Data_Entry_2017_v2020.csv)
train_val_list.txt           (with --source.lists official, the default)
test_list.txt
chest_train.txt              (with --source.lists pcrlv2)
chest_valid.txt
"""
TABLES = ("Data_Entry_2017.csv", "Data_Entry_2017_v2020.csv")
LISTS: dict[str, dict[str, str]] = {
    "official": {"train": "train_val_list.txt", "test": "test_list.txt"},
    "pcrlv2": {"train": "chest_train.txt", "val": "chest_valid.txt"},
    "none": {},
}
UNLISTED = {"official": "", "pcrlv2": "test", "none": ""}  # the split of an image that no list names
FINDINGS = (  # in the order of the columns of PCRLv2's lists
    *("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia"),
    *("Pneumothorax", "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"),
)
INDEX, LABELS, PATIENT = "Image Index", "Finding Labels", "Patient ID"


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which lists say what is for training, validation and test.

    Attributes:
        name: chestxray14.
        lists: `official` reads train_val_list.txt and test_list.txt; `pcrlv2` reads chest_train.txt and
            chest_valid.txt and takes all other images as the test; `none` leaves it open.
        missing: `skip` goes on with the images that are there, for a part of the data set.
    """

    name: Literal["chestxray14"] = "chestxray14"
    lists: Literal["official", "pcrlv2", "none"] = "official"
    missing: Missing = "refuse"


def build(config: Config) -> Layout:
    """The layout."""
    return Layout(name=config.name, tree=TREE, cases=lambda root: cases(root, config), axes=2)


def recognises(root: Path) -> bool:
    """Whether the table of the findings is there."""
    return any((root / name).is_file() for name in TABLES)


def cases(root: Path, config: Config) -> Iterator[Record]:
    """One image per row of the table, each with fourteen findings of 0 or 1."""
    table = next((root / name for name in TABLES if (root / name).is_file()), None)
    if table is None:
        raise WrongLayoutError("Data_Entry_2017.csv is missing")
    paths, splits, rest = _images(root), _splits(root, config), UNLISTED[config.lists]
    rows = read_table(table, (INDEX, LABELS, PATIENT))
    records = (_case(root, row, paths, splits.get(row[INDEX], rest), table) for row in rows)
    yield from existing(records, config.missing, str(table))


def _images(root: Path) -> dict[str, Path]:
    """File name -> path, of every folder of images."""
    places = [root / "images", *(folder / "images" for folder in folders(root))]
    found = {path.name: path for place in places if place.is_dir() for path in visible(place)}
    if not found:
        raise WrongLayoutError("there is no images_001/images nor images with files in it")
    return found


def _splits(root: Path, config: Config) -> Mapping[str, str]:
    """File name -> split; an image in two lists is refused."""
    found: dict[str, str] = {}
    for split, name in LISTS[config.lists].items():
        if not (root / name).is_file():
            raise WrongLayoutError(f"{name} is missing, which --source.lists {config.lists} reads")
        for image in read_lines(root / name):
            if found.setdefault(image, split) != split:
                raise FoveateError(f"{root / name}: {image} is in another list as well.")
    return found


def _case(root: Path, row: Mapping[str, str], paths: Mapping[str, Path], split: str, table: Path) -> Record:
    name, found = row[INDEX], set(row[LABELS].split("|")) - {"No Finding"}
    if unknown := found - set(FINDINGS):
        raise FoveateError(
            f"{table}: {name} has the finding {min(unknown)!r}; accepted: {', '.join(FINDINGS)}."
        )
    return case(
        root,
        paths.get(name, root / "images" / name),
        evidence=f"row of {table.name}",
        modality="CR",
        patient=row[PATIENT],
        split=split,
        labels={finding: int(finding in found) for finding in FINDINGS},
    )

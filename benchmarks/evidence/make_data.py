"""What the grids of this folder start from: its lists, and the cubes of LIDC as NIfTI.

    python benchmarks/evidence/make_data.py $FOVEATE_DATA $FOVEATE_EVIDENCE

writes the lists again, byte for byte, and the cubes as pairs of files: their archives hold image
and mask together, which no layout reads. ACDC keeps the parts that its table names. LIDC names no patients:
names are ordered by their hash, 100 for the test, 20 for validation, the others for training.
"""

from __future__ import annotations

import csv
import sys
from hashlib import blake2b
from pathlib import Path

import nibabel as nib
import numpy as np

HERE = Path(__file__).parent
CUBES = "lidc_nodules"
MM = 2.0  # believed: the archives have no header
TESTS, VALIDATIONS = 100, 20


def main(data: Path, out: Path) -> None:
    """Write everything."""
    write_lists("acdc", acdc_lists(data / "acdc_cine_mr"))
    archives = sorted((data / "lidc_nodules_m3dv/vol50_2x").glob("*.npz"))
    write_lists("lidc", lidc_lists([path.stem for path in archives]))
    for path in archives:
        write_cube(path, out / CUBES)
    print(f"{len(archives)} cubes in {out / CUBES}")


def acdc_lists(data: Path) -> dict[str, list[str]]:
    """The parts of the data set's own table: no patient is in two."""
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    with (data / "patients.csv").open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            lists[row["split"]].append(row["image"])
    return lists


def lidc_lists(names: list[str]) -> dict[str, list[str]]:
    """Names by their hash."""
    mixed = sorted(names, key=lambda name: blake2b(f"evidence/lidc {name}".encode()).digest())
    images = [f"images/{name}.nii.gz" for name in mixed]
    held = TESTS + VALIDATIONS
    return {"test": images[:TESTS], "val": images[TESTS:held], "train": images[held:]}


def write_lists(name: str, lists: dict[str, list[str]]) -> None:
    """A folder as `foveate split` writes it."""
    folder = HERE / f"{name}_split"
    folder.mkdir(exist_ok=True)
    for part, members in lists.items():
        (folder / f"{part}.txt").write_text("".join(f"{each}\n" for each in sorted(members)))


def write_cube(path: Path, out: Path) -> None:
    """Image and mask of one archive."""
    with np.load(path, allow_pickle=False) as found:
        parts = {"images": found["voxel"].astype(np.uint8), "labels": found["seg"].astype(np.uint8)}
    for kind, array in parts.items():
        (out / kind).mkdir(parents=True, exist_ok=True)
        nib.save(nib.Nifti1Image(array, np.diag([MM, MM, MM, 1])), out / kind / f"{path.stem}.nii.gz")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

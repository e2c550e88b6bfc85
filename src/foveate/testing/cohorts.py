"""Small images with structure at several scales, in 2D and 3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.core.dims import LAYERS
from foveate.core.types import Array

CANDIDATES = "candidates.csv"
SHAPES = {2: (72, 80), 3: (24, 26, 20)}


def blobs(shape: tuple[int, ...], seed: int) -> Array:
    """A smooth random image with structure at several scales, 0 to 1000."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = np.zeros(shape)
    for _ in range(8):
        centre, width = rng.uniform(-0.8, 0.8, len(shape)), rng.uniform(0.1, 0.4)
        squared = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        image += rng.uniform(0.2, 1) * np.exp(-squared / width**2)
    scaled: Array = np.round(1000 * image / image.max())
    return scaled


def write_cohort(folder: Path, dimension: int, count: int = 6) -> Path:
    """Images in the usual format of a dimension; the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = blobs(SHAPES[dimension], i)
        if LAYERS[dimension].planes:  # a volume
            write_volume(folder / f"v{i}.nii.gz", image)
        else:
            write_picture(folder / f"p{i}.png", image)
    return folder


def write_labelled(folder: Path, dimension: int, count: int = 8) -> Path:
    """Images, maps of their bright half, a labels.csv, and candidates in `CANDIDATES`; the folder."""
    rows = ["image,grade,found,age,kind"]
    axes = "xyz"[: len(SHAPES[dimension])]
    places = [",".join(["image", *axes, "class", "unit"])]
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = blobs(SHAPES[dimension], i)
        bright = (image > np.median(image)).astype(np.float64)
        name = f"c{i}.nii.gz" if LAYERS[dimension].planes else f"c{i}.png"
        if LAYERS[dimension].planes:
            write_volume(folder / "images" / name, image)
            write_volume(folder / "labels" / name, bright)
        else:
            write_picture(folder / "images" / name, image)
            write_picture(folder / "labels" / name, bright * 1000 / 255)
        rows.append(f"images/{name},{i % 4},{i % 2},{10 * i},{'ab'[i % 2]}")
        for flag, half in ((1, bright), (0, 1 - bright)):
            middle = np.argwhere(half)[half.astype(bool).sum() // 2]
            places.append(",".join([name, *map(str, middle), str(flag), "voxel"]))
    (folder / CANDIDATES).write_text("\n".join(places) + "\n", encoding="utf-8")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


def write_volume(path: Path, image: Array) -> None:
    """NIfTI, with voxels that are no cubes."""
    import nibabel as nib

    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([1.0, 1.0, 1.5, 1])), path)


def write_picture(path: Path, image: Array) -> None:
    """PNG of 8 bits."""
    from PIL import Image

    Image.fromarray(np.round(image / 1000 * 255, 6).astype(np.uint8).T).save(path)

"""Every recipe of fine-tuning trains on a miniature of its data set, in a few steps of a small network."""

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from PIL import Image
from tests.commands.finetune.test_recipes import RECIPES
from tests.conftest import blobs
from tests.data.sources.miniatures import MINIATURES

from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.run import finetune
from foveate.core.types import Ending
from foveate.nets.weights import store as weights
from foveate.runtime.command import layers
from foveate.testing.cohorts import write_labelled

SIZES = {2: (64, 64), 3: (32, 32, 32)}
IN_SUITE = ("quick", "chexpert")
VOLUME = {"prepare.spacing_mm": "native"}  # a step on the data's grid costs the same at any voxel size
CHANNELS = {"encoder.in_channels": "4"}
OWN = {
    "brats18": CHANNELS,
    "btcv": VOLUME,
    "kits": VOLUME,
    "lits": VOLUME,
    "lits_localization": VOLUME,
    "luna16_fp_reduction": VOLUME | {"source.fold": "0"},
    "luna16_detection": VOLUME | {"source.fold": "0"},
}


def filled(root, expected):
    """The files of a layout with something in them: noise, and label maps of all values of its classes."""
    values = sorted({0, *(v for group in expected.classes.values() for v in group)})
    if max(values) == 13:  # the layout names some organs only, the recipe learns all
        values = list(range(14))
    maps = {root / path for path in expected.maps.values()}
    for seed, path in enumerate(sorted(p for p in root.rglob("*") if p.is_file())):
        if path.read_bytes() != b"never opened":
            continue
        image = blobs(SIZES[expected.dimension], seed)
        if path in maps:
            image = np.resize(values, image.shape)
        if expected.dimension == 3:
            nib.save(nib.Nifti1Image(image.astype(np.int16), np.eye(4)), path)
        else:
            Image.fromarray((image / image.max() * 255).astype(np.uint8)).save(path)


def scans(root):
    """Scans with a nodule and another candidate each, in three of the ten subsets."""
    rows = ["seriesuid,coordX,coordY,coordZ,diameter_mm"]
    places = ["seriesuid,coordX,coordY,coordZ,class"]
    for i in range(6):
        (root / f"subset{i % 3}").mkdir(exist_ok=True)
        voxels = (blobs(SIZES[3], i) - 600).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(voxels), str(root / f"subset{i % 3}" / f"1.{i}.mhd"))
        rows.append(f"1.{i},{12 + i},16,14,8.5")
        places += [f"1.{i},{12 + i},16,14,1", f"1.{i},20,{8 + i},9,0"]
    (root / "annotations.csv").write_text("\n".join([*rows, ""]))
    (root / "candidates_V2.csv").write_text("\n".join([*places, ""]))
    return root, 3


def data_of(name, root):
    """A miniature of what a recipe is for, and its dimension."""
    root.mkdir()
    if name.startswith("luna16"):
        return scans(root)
    layout = name.removesuffix("_localization")
    if layout in MINIATURES:
        expected = MINIATURES[layout](root)
        filled(root, expected)
        return root, expected.dimension
    folder = write_labelled(root, 3)
    if name == "strong":  # some have no label
        for path in sorted((folder / "labels").iterdir())[-1:]:
            path.unlink()
    return folder, 3


@pytest.mark.parametrize(
    "name",
    [pytest.param(p.stem, marks=() if p.stem in IN_SUITE else pytest.mark.slow) for p in RECIPES],
)
def test_a_recipe_trains_on_a_miniature(name, tmp_path):
    data, dimension = data_of(name, tmp_path / "data")
    nested, rest = layers({"recipe": name, "init": "none"}, recipes="finetune")
    grid = str(list(SIZES[dimension])).replace(" ", "")
    task = nested["task"] if isinstance(nested["task"], str) else nested["task"]["name"]
    dense = task in ("segmentation", "detection", "candidates")
    small = {
        "data": str(data),
        "out": str(tmp_path / "run"),
        "steps": "4",
        "batch_size": "2",
        "encoder.width": "4",
        "num_workers": "0",
        "log_every": "1",
        "validate_every": "4",
        "preview_every": "0",
        "split.val_share": "0.5",
        "optim.warmup_steps": "1",
        "task.crops.grid": grid,
        **({"task.crops.source_sizes": f"[{grid}]"} if dense else {}),
        **({"semi.supervised_steps": "2", "folds": "2", "fold": "0"} if name == "strong" else {}),
        **OWN.get(name, {}),
    }
    assert finetune(finetune_settings.SPEC.resolve(nested, rest | small)) is Ending.FINISHED
    run = tmp_path / "run" / "fold_0" if name == "strong" else tmp_path / "run"
    tensors, card = weights.read(run)
    assert card["steps"] == 4
    assert all(bool(value.isfinite().all()) for value in tensors.values())

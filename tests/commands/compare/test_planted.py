"""Pre-training on shuffled voxels, and pre-training that starts from weights."""

import nibabel as nib
import numpy as np
import pytest
from tests.commands.compare.test_compare import NAMES, cells, data, grid, resolve, write

from foveate.commands.compare import run as compare
from foveate.commands.compare.grid import finetune_keys, jobs_of
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

__all__ = ["data"]
SHUFFLED = {"method": "context_restoration", "planted": "shuffled", "seeds": 1}
AFTER = {
    "schedule": "after",
    "base": {"name": "simsiam"},
    "superpixels": {"smallest": 0.001, "foreground": 0},
}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A comparison of a method on images and on shuffled ones: (its configuration, its folder)."""
    home = tmp_path_factory.mktemp("planted")
    content = grid(data=str(data), labels=[1], long_steps=2)
    content["arms"]["shuffled"] = SHUFFLED
    config = resolve(
        str(write(home, content)), {"out": str(home / "out"), "only": "scratch,restoring,shuffled"}
    )
    assert compare.compare(config)
    return config, home / "out"


def test_only_the_places_of_voxels_are_lost(data, finished):
    folder = finished[1] / "shuffled/blobs-shuffled-p0-pretrain"
    copies = sorted(folder.iterdir())
    assert [path.name for path in copies] == [f"p{i:05d}_{i:05d}.nii" for i in range(3)]
    for path, name in zip(copies, NAMES, strict=False):
        one, other = (np.asarray(nib.load(each).dataobj, float) for each in (path, data / name))
        assert one.shape == other.shape
        assert not np.array_equal(one, other)
        assert np.array_equal(np.sort(one.ravel()), np.sort(other.ravel()))
        neighbours = [np.corrcoef(a[1:].ravel(), a[:-1].ravel())[0, 1] for a in (one, other)]
        assert abs(neighbours[0]) < 0.2 < neighbours[1]


def test_everything_else_is_as_in_the_other_arm(finished):
    config, out = finished
    runs = [
        parsing.read_yaml(out / f"runs/blobs-{arm}-p0-pretrain/run.yaml") for arm in ("restoring", "shuffled")
    ]
    differ = {key for key in runs[0] if runs[0][key] != runs[1][key]}
    assert differ <= {"data", "out", "split", "source", "patient_pattern"}
    found = cells(out)
    one, other = (found[f"blobs-{arm}-p0-full-n1-f0"] for arm in ("restoring", "shuffled"))
    assert one["first_batch"] == other["first_batch"]
    assert "blobs-shuffled-p0-full-n1-f1" not in found  # one seed
    assert "blobs-restoring-p0-full-n1-f1" in found
    jobs = {job.arm: job for job in jobs_of(config) if (job.kind, job.finetune_seed) == ("test", 0)}
    keys = [finetune_keys(config, jobs[arm], 0.1, 1) for arm in ("restoring", "shuffled", "scratch")]
    assert keys[0] == keys[1] == keys[2]


@pytest.mark.slow
def test_a_pre_training_starts_from_the_weights_of_its_arm(data, finished, tmp_path):
    before = finished[1] / "runs/blobs-scratch-p0-full-n1-f0"
    content = grid(data=str(data), labels=[1]) | {"finetune_seeds": [0]}
    content["tasks"]["blobs"]["pretrain"] = {"steps": 2, "batch_size": 2}
    content["arms"] = {
        "supervised": {"weights": str(before)},
        "regions": {"method": "region_contrast", "weights": str(before), "pretrain": {"method": AFTER}},
    }
    content["arms"]["regions"]["pretrain"]["method"]["region_pool"] = "mean"
    file = write(tmp_path, content)
    config = resolve(str(file), {"out": str(tmp_path / "out"), "only": "regions,supervised"})
    assert compare.compare(config)
    run = tmp_path / "out/runs/blobs-regions-p0-pretrain"
    started, meant = weights.read(run)[1]["initial_weights"], weights.read(before)[1]
    assert started["data_hash"] == meant["data_hash"]
    found = cells(tmp_path / "out")
    assert {cell["arm"] for cell in found.values()} == {"regions", "supervised"}


def test_shuffled_needs_a_method_and_a_count_that_is_one(data, tmp_path):
    for arm, words in (
        ({"planted": "shuffled", "unlabelled": "rest"}, "with arms.a.method only"),
        ({"planted": "no_gain", "labels": [2, 7]}, "labels 7: accepted are .2."),
    ):
        file = write(tmp_path, grid(data=str(data)) | {"arms": {"a": arm}})
        with pytest.raises(FoveateError, match=words):
            resolve(str(file), {"out": "x"})

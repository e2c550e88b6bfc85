"""`foveate.load_model`: what it predicts is what the command writes."""

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.commands.predict.test_predict import ideal
from tests.scoring.test_grids import oblique

from foveate.commands.predict import model as loaded, run
from foveate.commands.predict.config import SPEC
from foveate.core.types import FoveateError


@pytest.fixture
def model(monkeypatch):
    made = ideal()
    for module in (run, loaded):
        monkeypatch.setattr(module, "open_model", lambda *_: made)
    return loaded.LoadedModel("run")


def test_a_file_is_answered_voxel_by_voxel_as_the_command_does(model, tmp_path):
    path = tmp_path / "data" / "a.nii.gz"
    path.parent.mkdir()
    rng = np.random.default_rng(0)
    values = rng.normal(size=(20, 24, 16)).astype(np.float32)
    nib.save(nib.Nifti1Image(values, oblique("LPS", (0.7, 1.1, 2.5))), path)
    (tmp_path / "weights.safetensors").write_bytes(b"x")
    flags = {"run": str(tmp_path / "weights.safetensors"), "data": str(path), "out": str(tmp_path / "out")}
    assert run.predict(SPEC.resolve({}, flags))
    written = np.asarray(nib.load(tmp_path / "out" / "a.nii.gz").dataobj)
    answered = model.predict(path)
    assert np.array_equal(answered, written)
    assert set(np.unique(answered)) == {0, 7}


def test_an_array_is_answered_on_its_own_grid(model):
    values = np.random.default_rng(0).normal(size=(12, 9, 10))
    answered = model.predict(values, spacing_mm=(1.0, 0.5, 2.0))
    assert answered.shape == values.shape
    low, high = np.percentile(values, (0.5, 99.5))
    clear = np.abs(values - (low + high) / 2) > 0.1  # percentiles of a thousand values
    assert np.array_equal((answered == 7)[clear], (values > (low + high) / 2)[clear])
    with pytest.raises(FoveateError, match=r"accepted: \(x, y, z\)"):
        model.predict(values[0])


def test_it_is_a_module_with_the_outputs_of_the_task(model):
    images = torch.rand(2, 1, 8, 8, 8)
    assert torch.equal(model(images), torch.cat([0.5 - images, images - 0.5], 1))
    assert model.class_names == ("background", "bright")

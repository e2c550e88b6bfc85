"""Input normalised by the foreground of an image or by a data set: recorded, and the same in predict."""

import nibabel as nib
import numpy as np
import pytest
from tests.commands.finetune.test_finetune import keys, labelled, rows_of, started, write_pair

from foveate import load_model
from foveate.commands.finetune import config as finetune_settings
from foveate.commands.finetune.images import load_images
from foveate.commands.pretrain import config as pretrain_settings
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

__all__ = ["keys", "labelled"]
IMAGE = {"task.appearance.normalisation": "image"}
DATASET = {"task.appearance.normalisation": "dataset"}


def loaded(flags, tmp_path):
    return load_images(finetune_settings.SPEC.resolve({}, flags), tmp_path / "looked")


def test_the_foreground_window_comes_with_the_normalisation_and_stands_in_the_card(keys, tmp_path, labelled):
    assert started(keys(3, **IMAGE))
    _, card = weights.read(tmp_path / "run")
    assert (card["normalisation"], card["intensity"]["window"]) == ("image", "foreground")
    assert np.isfinite([row["loss"] for row in rows_of(tmp_path / "run") if "loss" in row]).all()
    again = finetune_settings.SPEC.resolve({}, keys(3, "more") | {"init": str(tmp_path / "run")})
    assert (again.task.normalisation, again.prepare.window) == ("image", "foreground")


@pytest.mark.slow
def test_ten_times_the_units_change_nothing_that_is_predicted(keys, tmp_path, labelled):
    assert started(keys(3, steps="12", **IMAGE, **{"tuning.average": "0", "optim.lr": "0.02"}))
    source = nib.load(labelled[3] / "images/c0.nii.gz")
    values = np.asarray(source.dataobj)
    found = []
    for factor in (1, 10):
        path = tmp_path / f"by{factor}.nii.gz"
        nib.save(nib.Nifti1Image((values * factor + 3 * (factor - 1)).astype(np.int16), source.affine), path)
        found.append(load_model(tmp_path / "run").predict(path))
    assert (found[0] == found[1]).mean() > 0.999
    assert len(np.unique(found[0])) == 2


def test_the_window_of_a_data_set_is_that_of_its_labelled_training_voxels(keys, tmp_path, labelled):
    images = loaded(keys(3, **DATASET), tmp_path)
    inside = []
    for volume in images.train:
        image, label = (
            np.asarray(nib.load(labelled[3] / kind / volume.relative.rpartition("/")[2]).dataobj)
            for kind in ("images", "labels")
        )
        inside.append(image[label > 0])
    rising = np.sort(np.concatenate(inside))
    low, high = images.config.prepare.intensity_range
    assert images.config.prepare.window == "range"
    for end, share in ((low, 0.005), (high, 0.995)):
        place = share * (len(rising) - 1)
        assert rising[int(np.floor(place)) - 1] <= end <= rising[int(np.ceil(place)) + 1]
    assert {(v.entry.low, v.entry.high) for v in (*images.train, *images.val)} == {(low, high)}


def test_a_run_by_data_set_resumes_and_its_card_has_the_ends(keys, tmp_path):
    flags = keys(3, **DATASET, unlabelled="rest", **{"split.train_cases": "2", "semi.supervised_steps": "2"})
    assert started(flags)
    assert started(flags | {"steps": "6"})
    _, card = weights.read(tmp_path / "run")
    low, high = card["intensity"]["intensity_range"]
    assert (card["normalisation"], card["intensity"]["window"]) == ("dataset", "range")
    assert low < high
    again = finetune_settings.SPEC.resolve({}, keys(3, "more") | {"init": str(tmp_path / "run")})
    assert again.prepare.intensity_range == (low, high)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            IMAGE | {"prepare.window": "percentiles"},
            "normalisation image belongs to --prepare.window foreground",
        ),
        (DATASET | {"prepare.window": "foreground"}, "belongs to --prepare.window dataset or range"),
    ],
)
def test_another_window_is_refused(keys, flags, message):
    with pytest.raises(FoveateError, match=message):
        started(keys(3, **flags))


def test_several_channels_have_no_one_range(keys, tmp_path):
    for i in range(3):
        write_pair(tmp_path / "data", 3, i)
        path = tmp_path / "data/images" / f"c{i}.nii.gz"
        one = nib.load(path)
        nib.save(nib.Nifti1Image(np.stack([np.asarray(one.dataobj)] * 2, -1), one.affine), path)
    flags = keys(3, data=str(tmp_path / "data"), **{"prepare.fourth_axis": "channels"})
    with pytest.raises(FoveateError, match=r"prepare\.window dataset: accepted for images of one channel"):
        loaded(flags | DATASET, tmp_path)
    images = loaded(flags | IMAGE, tmp_path / "by-image")
    assert len(images.train[0].entry.windows) == 2


def test_pre_training_takes_the_window_too(cohorts, tmp_path):
    given = {
        "data": str(cohorts[3]),
        "out": str(tmp_path / "run"),
        "size": "small",
        "method.name": "positional",
    }
    config = pretrain_settings.SPEC.resolve({}, given | {"method.global_appearance.normalisation": "image"})
    assert config.prepare.window == "foreground"

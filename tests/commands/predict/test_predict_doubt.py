"""How sure a prediction is: in the table, as a map, and which images to look at first."""

import csv
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands.predict.test_predict import (  # noqa: F401 - given is a fixture
    given,
    ideal,
    whole_image,
    write_scan,
)

from foveate.core.types import FoveateError
from foveate.scoring.members.shares import LEVELS


def above(threshold):
    """A network that is rather sure of what is brighter than a threshold."""
    model = ideal()
    model.task.__class__.outputs = staticmethod(
        lambda x: torch.cat([8 * (threshold - x), 8 * (x - threshold)], 1)
    )
    return model


def rows_of(out):
    return {row["image"]: row for row in csv.DictReader((out / "predictions.csv").open())}


def plant(path):
    """The upper half of the ball is grey: one network takes it, the other does not."""
    write_scan(path)
    image = nib.load(path)
    values = np.asarray(image.dataobj).copy()
    half = values[: values.shape[0] // 2]
    half[half > 700] = 450
    nib.save(nib.Nifti1Image(values, image.affine), path)


def test_a_planted_disagreement_comes_first(tmp_path, given, capsys):  # noqa: F811
    for name in ("a", "c"):
        write_scan(tmp_path / f"in/{name}.nii.gz")
    plant(tmp_path / "in/b.nii.gz")
    one, other = above(0.3), above(0.8)
    masks = []
    for model in (one, other):
        _, out = given(tmp_path / "in", out=f"alone{len(masks)}", model=model)
        assert "disagreement" not in rows_of(out)["b.nii.gz"]
        masks.append(np.asarray(nib.load(out / "b.nii.gz").dataobj) > 0)
    _, out = given(tmp_path / "in", model=replace(one, others=(other.task,)))
    rows = rows_of(out)
    dice = 2 * (masks[0] & masks[1]).sum() / (masks[0].sum() + masks[1].sum())
    assert 0.2 < dice < 0.9
    assert float(rows["b.nii.gz"]["disagreement"]) == pytest.approx(1 - dice, abs=1e-3)
    assert float(rows["a.nii.gz"]["disagreement"]) < 0.05
    assert rows["b.nii.gz"]["look_first"] == "1"
    assert sorted(row["look_first"] for row in rows.values()) == ["1", "2", "3"]
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "look at these first" in line][-1:]
    assert said.index("b.nii.gz") < said.index("a.nii.gz")


def test_mirror_images_are_members_of_one_network(tmp_path, given):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz")
    model = above(0.5)
    answer = model.task.__class__.outputs
    model.task.__class__.outputs = staticmethod(lambda x: answer(x.roll(1, 2)))  # all of it to one side
    _, out = given(tmp_path / "in", model=model, mirror="x")
    assert float(rows_of(out)["a.nii.gz"]["disagreement"]) > 0.05


def test_the_map_is_the_entropy_in_the_geometry_of_the_image(tmp_path, given):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz", "PIR")
    keys = {"probabilities": "true", "uncertainty_map": "true"}
    _, out = given(tmp_path / "in", model=above(0.5), **keys)
    found, image = nib.load(out / "a_uncertainty.nii.gz"), nib.load(tmp_path / "in/a.nii.gz")
    assert np.array_equal(found.affine, image.affine)
    assert found.shape == image.shape
    shares = nib.load(out / "a_probabilities.nii.gz").get_fdata().clip(1e-9, 1)
    entropy = -(shares * np.log(shares)).sum(-1) / np.log(2)
    assert np.abs(found.get_fdata() - entropy).max() < 2e-3
    mask = np.asarray(nib.load(out / "a.nii.gz").dataobj) > 0
    assert float(rows_of(out)["a.nii.gz"]["entropy"]) == pytest.approx(entropy[mask].mean(), abs=1e-3)
    with pytest.raises(FoveateError, match="uncertainty_map: True -> False"):
        given(tmp_path / "in", model=above(0.5), probabilities="true")


def test_a_picture_gets_its_map_as_a_picture(tmp_path, given):  # noqa: F811
    (tmp_path / "in").mkdir()
    rows = np.random.default_rng(0).integers(20, 70, (20, 31)).astype(np.uint8)
    rows[4:9, 10:25] += 150
    Image.fromarray(rows).save(tmp_path / "in/p.png")
    keys = {"probabilities": "true", "uncertainty_map": "true"}
    _, out = given(tmp_path / "in", model=ideal(2), **keys)
    shares = np.load(out / "p_probabilities.npz")["probabilities"] / LEVELS
    entropy = -(shares * np.log(shares)).sum(-1) / np.log(2)
    assert np.abs(np.asarray(Image.open(out / "p_uncertainty.png")).T / 255 - entropy).max() < 1 / 250


def test_an_image_in_which_nothing_is_found_has_no_entropy(tmp_path, given):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz")
    _, out = given(tmp_path / "in", model=above(2.0))
    assert rows_of(out)["a.nii.gz"] | {"mask": ""} == {
        "image": "a.nii.gz",
        "mask": "",
        "entropy": "",
        "warning": "",
    }
    _, out = given(tmp_path / "in", out="two", model=replace(above(2.0), others=(above(3.0).task,)))
    assert rows_of(out)["a.nii.gz"]["disagreement"] == "0"


def test_answers_for_whole_images_have_their_deviation(tmp_path, given):  # noqa: F811
    for i, name in enumerate("abc"):
        truth = write_scan(tmp_path / f"in/{name}.nii.gz", shape=(17, 21, 12 + i))
    assert truth.shape == (17, 21, 14)

    def split(volume):
        return [0.25, 0.75] if 13 in volume.shape else [0.9, 0.1]

    first, second = whole_image(lambda _: [0.9, 0.1]), whole_image(split)
    _, out = given(tmp_path / "in", model=replace(first, others=(second.task,)))
    rows = rows_of(out)
    assert [rows[f"{name}.nii.gz"]["disagreement"] for name in "abc"] == ["0", "0.325", "0"]
    assert rows["b.nii.gz"]["look_first"] == "1"
    mean = np.array([0.575, 0.425])
    assert float(rows["b.nii.gz"]["entropy"]) == pytest.approx(-(mean * np.log2(mean)).sum(), abs=1e-3)


@pytest.mark.parametrize("key", ["uncertainty_map", "window.skip_background"])
def test_what_needs_voxels_is_refused_for_whole_images(tmp_path, given, key):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz")
    with pytest.raises(
        FoveateError,
        match=f"--{key} true: the answers are for whole images; accepted for runs that make masks",
    ):
        given(tmp_path / "in", model=whole_image(lambda _: [0.5, 0.5]), **{key: "true"})


def test_rows_of_an_earlier_version_stay_in_the_table(tmp_path, given):  # noqa: F811
    for name in "ab":
        write_scan(tmp_path / f"in/{name}.nii.gz")
    _, out = given(tmp_path / "in")
    table = (out / "predictions.csv").read_text().splitlines()
    (out / "predictions.csv").write_text("image,mask,warning\na.nii.gz,a.nii.gz,\n")
    (out / "done.txt").write_text((out / "done.txt").read_text().splitlines()[0] + "\n")
    given(tmp_path / "in")
    rows = rows_of(out)
    assert rows["a.nii.gz"]["entropy"] == ""
    assert rows["b.nii.gz"]["entropy"] == rows_of_text(table)["b.nii.gz"]["entropy"]


def rows_of_text(lines):
    return {row["image"]: row for row in csv.DictReader(lines)}

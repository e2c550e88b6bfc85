"""Predictions on the file's own grid, whatever happens on the way."""

import csv
import os
import stat

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.scoring.test_grids import ball, oblique

from foveate.cli import main
from foveate.commands.predict import run, sweeps
from foveate.commands.predict.config import SPEC
from foveate.commands.predict.journal import NO_RESULT
from foveate.core.tasks import DenseTask, ImageTask
from foveate.runtime import finetuned as models
from foveate.tasks.segmentation import unions


def bright(images):
    """An ideal network: what is brighter than one half."""
    return torch.cat([0.5 - images, images - 0.5], 1)


def pretended(kind, **members):
    """A task of a kind that has what prediction asks for."""
    made = type("Pretended", (kind,), members)
    made.__abstractmethods__ = frozenset()
    return made()


def ideal(dimension=3, *, activation="softmax", intensity=None, classes=("bright=7",)):
    names = [each.split("=")[0] for each in classes]
    lowest = tuple(min(values) for values in unions(classes).values())
    task = pretended(
        DenseTask,
        label_values=(0, *lowest) if activation == "softmax" else lowest,
        patch=(8,) * dimension,
        activation=activation,
        class_names=("background", *names) if activation == "softmax" else tuple(names),
        outputs=staticmethod(
            bright if activation == "softmax" else lambda x: torch.cat([x - 0.5, x - 0.1], 1)
        ),
    )
    card = {
        "task": {"name": "segmentation", "classes": list(classes)},
        "intensity": intensity or {},
        "dimension": dimension,
    }
    return models.Model(task=task, card=card, device=torch.device("cpu"))


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Runs `predict` with an ideal network in place of the run's."""
    (tmp_path / "weights.safetensors").write_bytes(b"x")

    def go(data, out="out", model=None, **keys):
        monkeypatch.setattr(run, "open_model", lambda *_: model or ideal())
        flags = {"run": str(tmp_path / "weights.safetensors"), "data": str(data), "out": str(tmp_path / out)}
        return run.predict(SPEC.resolve({}, {**flags, **keys})), tmp_path / out

    return go


def write_scan(path, orientation="PIR", shape=(17, 21, 12), spacing=(0.8, 1.1, 3.0)):
    """A bright ball on noise; its mask."""
    truth = ball(shape) > 0
    rng = np.random.default_rng(0)
    image = np.where(truth, 800, 100) + rng.integers(0, 60, shape)
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(image.astype(np.int16), oblique(orientation, spacing)), path)
    return truth


def dice(a, b):
    return 2 * np.count_nonzero(a & b) / (np.count_nonzero(a) + np.count_nonzero(b))


@pytest.mark.parametrize("orientation", ["RAS", "LPS", "PIR", "SAL"])
def test_property_an_oblique_anisotropic_flipped_volume_gets_its_mask_back(tmp_path, given, orientation):
    truth = write_scan(tmp_path / "in/a.nii.gz", orientation)
    finished, out = given(tmp_path / "in")
    assert finished
    mask, image = nib.load(out / "a.nii.gz"), nib.load(tmp_path / "in/a.nii.gz")
    assert np.array_equal(mask.affine, image.affine)
    assert mask.shape == image.shape
    found = np.asarray(mask.dataobj)
    assert set(np.unique(found)) == {0, 7}
    assert np.array_equal(found == 7, truth)


@pytest.mark.skipif(
    "spacing_mm" not in models.PrepareConfig.__dataclass_fields__,
    reason="the cache does not resample",
)
def test_property_a_resampled_volume_gets_its_mask_back(tmp_path, given):
    truth = write_scan(tmp_path / "in/a.nii.gz", shape=(40, 44, 24), spacing=(0.8, 0.9, 1.6))
    model = ideal(intensity={"spacing_mm": [0.7, 1.0, 0.8]})
    finished, out = given(tmp_path / "in", model=model, probabilities="true")
    assert finished
    mask = nib.load(out / "a.nii.gz")
    assert mask.shape == truth.shape
    assert dice(np.asarray(mask.dataobj) == 7, truth) >= 0.98
    shares = nib.load(out / "a_probabilities.nii.gz").get_fdata()
    assert shares.shape == (*truth.shape, 2)
    assert shares.sum(-1) == pytest.approx(1, abs=1e-3)


def test_contract_probabilities_lie_on_the_same_grid(tmp_path, given):
    truth = write_scan(tmp_path / "in/a.nii.gz")
    _, out = given(tmp_path / "in", probabilities="true")
    shares = nib.load(out / "a_probabilities.nii.gz")
    assert np.array_equal(shares.affine, nib.load(tmp_path / "in/a.nii.gz").affine)
    assert np.array_equal(shares.get_fdata()[..., 1] > 0.5, truth)


def test_contract_overlapping_classes_have_a_file_each(tmp_path, given):
    truth = write_scan(tmp_path / "in/a.nii.gz")
    model = ideal(activation="sigmoid", classes=("bright=1", "most=1+2"))
    _, out = given(tmp_path / "in", model=model)
    found = {name: np.asarray(nib.load(out / f"a_{name}.nii.gz").dataobj) for name in ("bright", "most")}
    assert np.array_equal(found["bright"] > 0, truth)
    assert np.array_equal(np.asarray(nib.load(out / "a.nii.gz").dataobj), found["most"] | found["bright"])


def test_contract_a_bad_file_stops_nothing_and_what_is_done_stays(tmp_path, given, capsys):
    for name in ("a", "b/c"):
        write_scan(tmp_path / f"in/{name}.nii.gz")
    (tmp_path / "in/bad.nii.gz").write_bytes(b"no scan")
    finished, out = given(tmp_path / "in")
    assert not finished
    assert {p.name for p in out.rglob("*") if p.is_file()} == {
        "a.nii.gz",
        "c.nii.gz",
        "predict.json",
        "predictions.csv",
        "done.txt",
    }
    said = capsys.readouterr().err
    assert "failed: bad.nii.gz" in said
    assert "2 of 3 images" in said
    before = (out / "a.nii.gz").stat().st_mtime_ns
    os.utime(tmp_path / "in/b/c.nii.gz", (2e9, 2e9))  # this one is newer than its result
    first = (out / "b/c.nii.gz").stat().st_mtime_ns
    given(tmp_path / "in")
    assert (out / "a.nii.gz").stat().st_mtime_ns == before
    assert (out / "b/c.nii.gz").stat().st_mtime_ns > first


def test_contract_results_of_two_ways_do_not_mix(tmp_path, given):
    write_scan(tmp_path / "in/a.nii.gz")
    given(tmp_path / "in")
    with pytest.raises(run.FoveateError, match=r"tidy\.fill_holes: False -> True"):
        given(tmp_path / "in", **{"tidy.fill_holes": "true"})
    text = (tmp_path / "out/predict.json").read_text()
    assert str(tmp_path) not in text


def test_contract_a_picture_gets_a_picture(tmp_path, given):
    (tmp_path / "in").mkdir()
    rows = np.random.default_rng(0).integers(20, 70, (20, 31)).astype(np.uint8)
    rows[4:9, 10:25] += 150
    Image.fromarray(rows).save(tmp_path / "in/p.png")
    _, out = given(tmp_path / "in", model=ideal(2), probabilities="true")
    assert np.array_equal(np.asarray(Image.open(out / "p.png")) == 7, rows >= 170)
    shares = np.load(out / "p_probabilities.npz")
    assert shares["probabilities"].shape == (31, 20, 2)


def test_contract_two_images_with_one_mask_are_refused(tmp_path, given):
    write_scan(tmp_path / "in/a.nii.gz")
    write_scan(tmp_path / "in/a.nii")
    with pytest.raises(run.FoveateError, match="would both be answered"):
        given(tmp_path / "in")


def test_contract_volumes_for_a_picture_network_fail_one_by_one(tmp_path, given, capsys):
    write_scan(tmp_path / "in/a.nii.gz")
    finished, _ = given(tmp_path / "in", model=ideal(2))
    assert not finished
    assert "2D" in capsys.readouterr().err


def whole_image(answers):
    task = pretended(
        ImageTask,
        activation="softmax",
        class_names=("dark", "light"),
        patch=(8, 8, 8),
        predict=lambda _self, volume, _axes=(): torch.tensor(answers(volume)),
    )
    card = {"task": {"name": "classification"}, "intensity": {}, "dimension": 3}
    return models.Model(task=task, card=card, device=torch.device("cpu"))


def test_contract_classes_go_into_a_table_that_goes_on(tmp_path, given):
    for name in ("a", "b"):
        write_scan(tmp_path / f"in/{name}.nii.gz")
    (tmp_path / "in/bad.nii.gz").write_bytes(b"no scan")
    finished, out = given(tmp_path / "in", model=whole_image(lambda _: [0.25, 0.75]))
    assert not finished
    rows = list(csv.DictReader((out / "predictions.csv").open()))
    expected = {"image": "a.nii.gz", "dark": "0.25", "light": "0.75", "predicted": "light", "warning": ""}
    assert rows[0] == expected | {"entropy": "0.8113", "look_first": "1"}
    assert len(rows) == 2
    write_scan(tmp_path / "in/bad.nii.gz")
    given(tmp_path / "in", model=whole_image(lambda _: [1.0, 0.0]))
    again = {row["image"]: row["predicted"] for row in csv.DictReader((out / "predictions.csv").open())}
    assert again == {"a.nii.gz": "light", "b.nii.gz": "light", "bad.nii.gz": "dark"}


def test_contract_frames_are_averaged_and_the_best_of_each_sweep_is_listed(tmp_path, given):
    shares = {"a1": 0.125, "a2": 0.25, "a10": 0.75, "b1": 0.5}
    for name in shares:
        write_scan(tmp_path / f"in/{name}.nii.gz")
    coming = iter(shares[name] for name in sorted(shares))
    model = whole_image(lambda _: [1 - (share := next(coming)), share])
    type(model.task).sought = ("light",)
    finished, out = given(tmp_path / "in", model=model, smooth_frames=3)
    assert finished
    rows = {row["image"][:-7]: row for row in csv.DictReader((out / "smoothed.csv").open())}
    found = {name: float(row["light"]) for name, row in rows.items()}
    assert found == {"a1": 0.1875, "a2": 0.375, "a10": 0.5, "b1": 0.5}
    assert rows["a2"]["predicted"] == "dark"
    best = list(csv.DictReader((out / "best_frames.csv").open()))
    assert [row["best_image"] for row in best] == ["a10.nii.gz", "b1.nii.gz"]
    assert [row["frames"] for row in best] == ["3", "1"]


def test_where_nothing_is_asked_of_sweeps_the_table_is_not_read_again(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "read_table", lambda path: {}[path])
    task = whole_image(lambda _: [0.5, 0.5]).task
    assert sweeps.write_sweeps(tmp_path / "predictions.csv", task, 1) == ""
    with pytest.raises(KeyError):
        sweeps.write_sweeps(tmp_path / "predictions.csv", task, 3)


def test_contract_no_name_of_a_file_loses_the_table_or_is_a_formula_in_it(tmp_path, given):
    names = [b"\xff.nii.gz", b"=cmd.nii.gz", b"@a.nii.gz", b"a\nb.nii.gz"]
    write_scan(tmp_path / "in/a.nii.gz")
    for name in names:
        (tmp_path / "in" / os.fsdecode(name)).write_bytes((tmp_path / "in/a.nii.gz").read_bytes())
    answers = iter(range(9))
    model = whole_image(lambda _: [next(answers) / 8, 0.5])
    finished, out = given(tmp_path / "in", model=model)
    assert finished
    table = (out / "predictions.csv").read_bytes()
    found = [row["image"] for row in csv.DictReader(table.decode("utf-8").splitlines(keepends=True))]
    assert found == ["'=cmd.nii.gz", "'@a.nii.gz", "\\udcff.nii.gz", "a\nb.nii.gz", "a.nii.gz"]
    assert stat.S_IMODE((out / "predictions.csv").stat().st_mode) == 0o600  # it holds names
    assert given(tmp_path / "in", model=model)[0]
    assert (out / "predictions.csv").read_bytes() == table  # none is done again under another name


def test_contract_the_verb_says_what_is_missing_and_what_is_wrong(capsys, tmp_path):
    assert main(["predict", "--run", "r", "--data", "d"]) == 2
    assert "--out is missing" in capsys.readouterr().err
    assert main(["predict", "--windw.overlap", "0.5"]) == 2
    assert "window.overlap" in capsys.readouterr().err
    assert main(["predict", "--help"]) == 0
    assert "--mirror none|x|y|z" in capsys.readouterr().out


@pytest.mark.parametrize("dense", [True, False])
def test_contract_another_image_of_the_same_name_is_another_image(tmp_path, given, dense):
    model = ideal()
    if not dense:
        task = pretended(
            ImageTask,
            activation="none",
            class_names=("size",),
            patch=(8, 8, 8),
            predict=lambda _self, v, _axes=(): torch.ones(1) * v.shape[0],
        )
        card = model.card | {"task": {"name": "classification"}}
        model = models.Model(task=task, card=card, device=torch.device("cpu"))
    for number, shape in enumerate([(17, 21, 12), (20, 18, 14), (17, 21, 12)]):
        scan = tmp_path / f"day{number % 2}/scan.nii.gz"
        if not scan.exists():
            write_scan(scan, orientation="RAS", shape=shape)
            os.utime(scan, (1e9 + number, 1e9 + number))  # exported long before any prediction
        finished, out = given(scan.parent, model=model)
        assert finished
        if dense:
            assert nib.load(out / "scan.nii.gz").shape == shape
        else:
            (row,) = csv.DictReader((out / "predictions.csv").open())
            assert float(row["size"]) == shape[0]
    result = next(out.glob("scan.nii.gz" if dense else "predictions.csv"))
    before = result.read_bytes(), (out / "done.txt").read_text()
    given(tmp_path / "day0", model=model)
    assert (result.read_bytes(), (out / "done.txt").read_text()) == before


@pytest.mark.parametrize(("data", "out"), [("in", "in"), ("in/a.nii.gz", "in"), ("in", "."), ("in", "in/b")])
def test_contract_no_result_replaces_an_image(tmp_path, given, data, out):
    for name in ("a", "b/a"):
        write_scan(tmp_path / f"in/{name}.nii.gz")
    before = {p: p.read_bytes() for p in (tmp_path / "in").rglob("*.gz")}
    with pytest.raises(run.FoveateError, match=r"a.nii.gz lies in it, and a result could replace an image"):
        given(tmp_path / data, out=out)
    assert {p: p.read_bytes() for p in (tmp_path / "in").rglob("*") if p.is_file()} == before


def test_contract_killed_while_a_result_is_replaced_the_earlier_image_has_none(tmp_path, given, monkeypatch):
    for number, shape in enumerate([(17, 21, 12), (20, 18, 14)]):
        write_scan(tmp_path / f"day{number}/scan.nii.gz", orientation="RAS", shape=shape)
    _, out = given(tmp_path / "day0")
    with monkeypatch.context() as patch:
        patch.setattr(run.Journal, "add", killed_at_a_result(run.Journal.add))
        with pytest.raises(KeyboardInterrupt):
            given(tmp_path / "day1")
    assert nib.load(out / "scan.nii.gz").shape == (20, 18, 14)
    given(tmp_path / "day0")
    assert nib.load(out / "scan.nii.gz").shape == (17, 21, 12)


def killed_at_a_result(add):
    def note(journal, line):
        if line[1] != NO_RESULT:
            raise KeyboardInterrupt
        add(journal, line)

    return note

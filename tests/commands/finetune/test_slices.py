"""Fine-tuning in 2D on volumes, and what follows: masks and scores are those of volumes."""

from __future__ import annotations

import csv
import json

import nibabel as nib
import numpy as np
import pytest

import foveate
from foveate.commands.evaluate.config import SPEC as EVALUATE
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.config import SPEC as FINETUNE
from foveate.commands.predict.config import SPEC as PREDICT
from foveate.commands.predict.run import predict
from foveate.core.types import FoveateError
from foveate.nets.weights.store import read
from foveate.runtime.finetuned import open_model
from foveate.scoring.metrics import mask_metrics
from foveate.testing.cohorts import blobs
from foveate.testing.runs import task_keys, tiny_keys

SHAPE = (40, 36, 5)
AFFINE = np.array([[0, 2, 0, 7], [-2, 0, 0, 3], [0, 0, 8, -5], [0, 0, 0, 1]])  # axes swapped, one mirrored


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two volumes of each of five patients, their bright parts as labels."""
    root = tmp_path_factory.mktemp("patients")
    rows = ["image,label,patient"]
    for kind in ("images", "labels"):
        (root / kind).mkdir()
    for i in range(10):
        image = np.stack([blobs(SHAPE[:2], 7 * i + j) for j in range(SHAPE[2])], -1)
        name = f"p{i // 2}_{i % 2}.nii.gz"
        nib.save(nib.Nifti1Image(image.astype(np.int16), AFFINE), root / "images" / name)
        truth = (image > 400).astype(np.uint8)
        nib.save(nib.Nifti1Image(truth, AFFINE), root / "labels" / name)
        rows.append(f"images/{name},labels/{name},p{i // 2}")
    (root / "patients.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


def keys(data, out, **more):
    given = task_keys("segmentation", 2, data / "patients.csv", out, "")
    given["task"]["crops"] = {"grid": [32, 32], "source_sizes": [[32, 32]]}
    given["task"]["classes"] = ["bright=1"]
    return given | more


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A fine-tuning from weights of slices with neighbours; the dimension is that of the card."""
    home = tmp_path_factory.mktemp("runs")
    pre = tiny_keys(2, data / "images", home / "pre", {"name": "context_restoration"}, steps=1)
    pre |= {"slices": {"neighbours": 1}, "encoder": {"width": 4, "in_channels": 3}}
    assert foveate.pretrain(**pre)
    given = keys(data, home / "fine", init=str(home / "pre"), steps=12, on_seen="mark")
    given = {k: v for k, v in given.items() if k not in ("dimension", "encoder")}
    given["split"] = {"val_share": 0.2, "test_share": 0.2, "train_patients": 2}
    given["optim"] = {"lr": 0.01}
    assert foveate.finetune(**given)
    return home / "fine"


def test_the_log_and_the_card_say_how_volumes_were_seen(run):
    log = " ".join((run / "train.log").read_text().split())
    assert "4 train, 2 val, 2 test; labels counted in patients: 2, who have 4 cases" in log
    assert "training images seen as 20 slices (4 across z), each with 1 neighbours on either side" in log
    assert "slices" not in json.loads((run / "transfer.encoder.json").read_text()).get("notes", [])
    card = read(run)[1]
    assert (card["dimension"], card["in_channels"]) == (2, 3)
    assert card["slices"] == {"axis": "auto", "neighbours": 1}
    assert sorted(card["spacing_mm"]) == [2.0, 2.0]


def test_masks_are_volumes_in_the_geometry_of_their_images(data, run, tmp_path):
    out = tmp_path / "masks"
    given = {"run": str(run), "data": str(data / "images"), "out": str(out), "accelerator": "cpu"}
    assert predict(PREDICT.from_keys({**given, "probabilities": True}))
    for image in sorted((data / "images").iterdir()):
        source, mask = nib.load(image), nib.load(out / image.name)
        assert mask.shape == source.shape
        np.testing.assert_allclose(mask.affine, source.affine)
        shares = nib.load(out / image.name.replace(".nii.gz", "_probabilities.nii.gz"))
        likeliest = np.asarray(shares.dataobj).argmax(-1)
        assert (likeliest == np.asarray(mask.dataobj)).mean() > 0.99
    assert len(list(out.glob("*.nii.gz"))) == 20


def test_scores_are_those_of_volumes(data, run, tmp_path):
    report = tmp_path / "report"
    given = {"run": str(run), "data": str(data / "patients.csv"), "out": str(report), "accelerator": "cpu"}
    assert evaluate(EVALUATE.from_keys({**given, "part": "all", "draws": 20, "nsd_tolerance_mm": 2.0}))
    rows = list(csv.DictReader((report / "cases.csv").open(encoding="utf-8")))
    assert len(rows) == 10  # a volume each
    out = tmp_path / "masks"
    assert predict(PREDICT.from_keys({**given, "data": str(data / "images"), "out": str(out)}))
    mine = []
    for truth in sorted((data / "labels").iterdir()):
        first, second = (np.asarray(nib.load(p).dataobj) == 1 for p in (out / truth.name, truth))
        mine.append(mask_metrics({"bright": first}, {"bright": second}, (2.0, 2.0, 8.0), 2.0))
    for metric in ("dice", "nsd", "hd95"):
        found = sorted(float(row[f"{metric}/bright"]) for row in rows)
        assert found == pytest.approx(sorted(row[f"{metric}/bright"] for row in mine), rel=1e-4)
    assert max(row["dice/bright"] for row in mine) > 0


def test_a_network_of_slices_takes_slices_alone(data, run):
    model = open_model(str(run), "cpu")
    assert model.slices is not None
    assert model.slices.neighbours == 1
    given = task_keys("classification", 2, data / "values.csv", run.parent / "none", "grade")
    rows = [f"images/p{i // 2}_{i % 2}.nii.gz,p{i // 2},{i % 2}" for i in range(10)]
    (data / "values.csv").write_text("image,patient,grade\n" + "\n".join(rows) + "\n")
    with pytest.raises(FoveateError, match="the images are volumes, and a value of a whole volume"):
        foveate.finetune(**given)


def test_a_dimension_is_only_overruled_for_slices(data, tmp_path):
    flat = FINETUNE.from_keys(keys(data, tmp_path / "run"))
    assert flat.dimension == 2
    solid = {k: v for k, v in keys(data, tmp_path / "run").items() if k not in ("dimension", "task")}
    assert FINETUNE.from_keys({**solid, "task": "segmentation"}).dimension == 3

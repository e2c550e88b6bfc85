"""The wrong image for a fine-tuned run: refused, doubted or taken, and what is written of it."""

import csv
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from tests.commands.finetune.test_finetune import PATCH, WEIGHTS, write_pair
from tests.conftest import SHAPES, blobs

from foveate.cli import main
from foveate.commands.finetune import config as finetune_settings, run as training
from foveate.nets.weights import store as weights


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of segmentation and one of classification on volumes whose values are never negative."""
    root = tmp_path_factory.mktemp("runs")
    for i in range(6):
        write_pair(root / "data", 3, i)
    rows = "".join(f"c{i}.nii.gz,{'ab'[i % 2]}\n" for i in range(6))
    (root / "data/labels.csv").write_text(f"image,kind\n{rows}")
    flags = {
        "data": str(root / "data"),
        "init": "none",
        "size": "small",
        "steps": "2",
        "batch_size": "2",
        "num_workers": "0",
        "encoder.width": "4",
        "split.val_share": "0.34",
        "task.crops.grid": PATCH[3],
    }
    of_masks = {"task.name": "segmentation", "task.crops.source_sizes": f"[{PATCH[3]}]"}
    of_values = {"task.name": "classification", "task.kind": "multiclass", "task.targets": "[kind]"}
    for name, more in (("masks", of_masks), ("values", of_values)):
        assert training.finetune(
            finetune_settings.SPEC.resolve({}, {**flags, **more, "out": str(root / name)})
        )
    return root


def write(path, *, scale=1.0, shift=0.0, spacing=(1.0, 1.0, 1.5), seed=9):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = blobs(SHAPES[3], seed) * scale + shift
    nib.save(nib.Nifti1Image(image.astype(np.int16), np.diag([*spacing, 1])), path)


def predicted(run, tmp_path, *more, out="out"):
    command = ["predict", "--run", str(run), "--data", str(tmp_path / "in"), "--out", str(tmp_path / out)]
    code = main([*command, *more])
    table = tmp_path / out / "predictions.csv"
    rows = list(csv.DictReader(table.open())) if table.exists() else []
    return code, {row["image"]: row["warning"] for row in rows}


@pytest.mark.parametrize("kind", ["masks", "values"])
def test_a_ct_through_an_mr_model_is_refused_and_the_others_go_on(runs, tmp_path, capsys, kind):
    write(tmp_path / "in/a_scan.nii.gz", scale=1.5, shift=-1000)
    write(tmp_path / "in/b_scan.nii.gz", scale=10.0)
    code, table = predicted(runs / kind, tmp_path)
    said = capsys.readouterr().err
    assert code == 1
    assert table == {"b_scan.nii.gz": ""}
    assert "failed: a_scan.nii.gz: intensity is" in said
    assert "trained on values that are hardly ever below zero" in said
    assert not (tmp_path / "out/a_scan.nii.gz").exists()
    assert "warning: b_scan" not in said


@pytest.mark.parametrize("kind", ["masks", "values"])
def test_force_predicts_it_and_the_table_says_so(runs, tmp_path, capsys, kind):
    write(tmp_path / "in/a_scan.nii.gz", scale=1.5, shift=-1000)
    assert predicted(runs / kind, tmp_path) == (1, {})
    code, table = predicted(runs / kind, tmp_path, "--force")  # the same folder goes on
    assert code == 0
    assert table["a_scan.nii.gz"].startswith("forced: intensity is -1000 to ")
    assert (tmp_path / "out/a_scan.nii.gz").exists() == (kind == "masks")
    assert "warning: a_scan.nii.gz: forced" in capsys.readouterr().err
    assert predicted(runs / kind, tmp_path) == (0, table)  # what is done stays, with its word


def test_a_doubtful_image_has_a_result_with_a_warning(runs, tmp_path, capsys):
    write(tmp_path / "in/a_scan.nii.gz", spacing=(3.0, 3.0, 4.5))
    write(tmp_path / "in/b_scan.nii.gz", spacing=(8.0, 1.0, 1.5))
    code, table = predicted(runs / "masks", tmp_path)
    said = capsys.readouterr().err
    assert code == 1
    assert table == {"a_scan.nii.gz": "spacing is 3 mm along x; trained on 1 mm"}
    assert "warning: a_scan.nii.gz: spacing is 3 mm along x" in said
    assert "failed: b_scan.nii.gz: spacing is 8 mm along x; trained on 1 mm" in said
    assert (tmp_path / "out/a_scan.nii.gz").exists()


def test_a_card_of_before_still_works_and_what_is_not_compared_is_said_once(runs, tmp_path, capsys):
    tensors, card = weights.read(runs / "masks")
    del card["input"]
    old = tmp_path / "old" / WEIGHTS
    old.parent.mkdir(parents=True)
    weights.write(tensors, card, old)
    for name in ("a", "b"):
        write(tmp_path / f"in/{name}_scan.nii.gz", shift=-1000)
    code, table = predicted(old, tmp_path)
    assert code == 0
    assert table == {"a_scan.nii.gz": "", "b_scan.nii.gz": ""}
    assert capsys.readouterr().err.count("does not say what its training images were like") == 1


def test_results_of_before_the_comparison_are_marked_as_such(runs, tmp_path):
    write(tmp_path / "in/a_scan.nii.gz")
    predicted(runs / "masks", tmp_path)
    (tmp_path / "out/predictions.csv").unlink()
    _, table = predicted(runs / "masks", tmp_path)
    assert "done by an earlier version" in table["a_scan.nii.gz"]


def test_the_card_of_both_verbs_says_what_the_images_were_like_and_names_none(runs):
    said = json.loads((Path(runs) / "masks/exported/card.json").read_text())["input"]
    assert said["channels"] == 1
    assert said["spacing_mm"] == [[1.0] * 5, [1.0] * 5, [1.5] * 5]
    assert said["modalities"] == {"unknown": 1.0}
    assert said["below_zero"][-1] == 0

"""Evaluations of boxes: the classes and the tables of a run on data of others, and without a run."""

import json
import re
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
import torch

from foveate.commands.evaluate import run as verb
from foveate.commands.evaluate.boxed import truth_of
from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.listed import class_of
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.config import SPEC, run_config
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.data.cohort.wanted import Labelled
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.runtime import finetuned as models
from foveate.runtime.command import OWN_PATHS
from foveate.runtime.folder import write_keys
from foveate.scoring.inference import WindowConfig
from foveate.scoring.protocols.lesions import LesionConfig
from foveate.tasks.detection import Config, Detection


def test_the_table_of_boxes_is_in_no_shared_file_and_still_known_to_the_run(tmp_path):
    flags = {"dimension": "3", "task.name": "detection", "init": "none", "out": str(tmp_path / "run")}
    flags |= {"boxes.file": str(tmp_path / "table.csv"), "boxes.frame": "lps"}
    config = SPEC.resolve({}, flags)
    (tmp_path / "run").mkdir()
    write_keys(config, tmp_path / "run")
    assert str(tmp_path) not in (tmp_path / "run/run.yaml").read_text()
    assert run_config(config.out).boxes == config.boxes
    (tmp_path / "run" / OWN_PATHS).unlink()  # as it was passed on
    assert run_config(config.out).boxes == replace(config.boxes, file="")


def test_another_detector_is_scored_on_label_maps_whose_test_part_lacks_a_class(tmp_path):
    data, affine = tmp_path / "data", np.eye(4)
    for part, name, value in (("Tr", "a", 2), ("Ts", "b", 1)):
        for kind in ("images", "labels"):
            (data / f"{kind}{part}").mkdir(parents=True)
        image = np.zeros((14, 12, 10), np.int16)
        image[2:5, 2:5, 2:5] = value
        nib.save(nib.Nifti1Image(image * 100, affine), data / f"images{part}" / f"{name}.nii.gz")
        nib.save(nib.Nifti1Image(image, affine), data / f"labels{part}" / f"{name}.nii.gz")
    (tmp_path / "theirs.csv").write_text(
        "image,x,y,z,diameter,score,unit,class\nb.nii.gz,3,3,3,3,0.7,voxel,class1\n"
        "b.nii.gz,9,9,7,3,0.9,voxel,class2\n"
    )
    config = EvaluateConfig(
        run="none",
        predictions=str(tmp_path / "theirs.csv"),
        data=str(data),
        out=str(tmp_path / "out"),
        draws=9,
    )
    assert evaluate(config)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["part"], summary["cases"]) == ("test", 1)
    assert summary["class_names"] == ["class1", "class2"]
    assert summary["metrics"]["ap/class1"]["value"] == 1


def test_scans_of_a_source_without_a_finding_count_although_no_table_names_them(tmp_path):
    """LUNA16's annotations.csv names scans with a nodule alone; the challenge counts false alarms in all."""
    for subset, uid in ((0, "1.1"), (0, "1.2"), (3, "1.3")):
        image = sitk.GetImageFromArray(
            np.random.default_rng(subset).integers(-900, 90, (12, 12, 12), np.int16)
        )
        (tmp_path / f"luna/subset{subset}").mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image, str(tmp_path / f"luna/subset{subset}/{uid}.mhd"))
    findings = tmp_path / "luna/annotations.csv"
    findings.write_text("seriesuid,coordX,coordY,coordZ,diameter_mm\n1.1,4,5,6,4\n1.3,4,5,6,4\n")
    marks = ["1.1,4,5,6,0.7", "1.2,4,5,6,0.9", "1.3,9,9,9,0.8"]
    (tmp_path / "theirs.csv").write_text("\n".join(["seriesuid,coordX,coordY,coordZ,probability", *marks]))
    keys = {"run": "none", "data": str(tmp_path / "luna"), "out": str(tmp_path / "out"), "draws": 9}
    keys |= {"predictions": str(tmp_path / "theirs.csv"), "frame": "lps", "unit": "mm", "diameter": 4}
    config = EvaluateConfig(source=SOURCES["luna16"].Config(fold=0), with_images=False, **keys)
    assert evaluate(config)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert (summary["part"], summary["cases"], summary["settings"]["source"]["fold"]) == ("test", 2, 0)
    found = {key: each["value"] for key, each in summary["metrics"].items()}
    assert (found["n/findings"], found["sensitivity/0.125"], found["sensitivity/0.5"]) == (1, 0, 1)
    with pytest.raises(
        FoveateError, match="--source luna16: accepted with --run none; a run has a source of"
    ):
        evaluate(replace(config, run=str(tmp_path)))


@pytest.mark.parametrize("row", ["x,,,,,,voxel", "x,9,8,6,3,ignore,voxel"])
def test_another_detector_is_not_scored_on_labels_without_a_finding(run_of_two, row):
    """Without a run there is no training part, and no --split to change."""
    table = Path(run_of_two.data) / "boxes.csv"
    table.write_text(f"image,x,y,z,diameter,class,unit\n{row}\n")
    with pytest.raises(FoveateError, match=r"none of its labels holds a box that counts, .*accepted") as told:
        evaluate(replace(run_of_two, run="none"))
    assert not re.search("train|split", str(told.value).replace(run_of_two.data, ""))


@pytest.fixture
def run_of_two(tmp_path, monkeypatch):
    """A run from a table of its own with the classes a and b, and other images with findings of b alone."""
    (tmp_path / "own.csv").write_text("image,x,y,z,diameter,class,unit\nq,1,1,1,3,a,voxel\n")
    flags = {"dimension": "3", "task.name": "detection", "init": "none", "out": str(tmp_path / "run")}
    config = SPEC.resolve({}, {**flags, "boxes.file": str(tmp_path / "own.csv")})
    (tmp_path / "run").mkdir()
    write_keys(config, tmp_path / "run")
    learnt = replace(Config.preset(3, "small", "none"), classes=("a=1", "b=2"), instances=2)
    net = build_pyramid(UNetConfig(width=2, levels=3), DecoderConfig(skips=True), 3)
    card = {"task": {"name": "detection"}, "intensity": {}, "dimension": 3, "data_hash": ""}
    model = models.Model(task=Detection(net, learnt), card=card, device=torch.device("cpu"))
    monkeypatch.setattr(verb, "open_model", lambda *_: model)
    data = tmp_path / "other"
    data.mkdir()
    image = np.random.default_rng(0).integers(0, 100, (14, 12, 10)).astype(np.int16)
    nib.save(nib.Nifti1Image(image, np.eye(4)), data / "x.nii.gz")
    (data / "boxes.csv").write_text(
        "image,x,y,z,diameter,class,unit\nx,4,5,3,3,b,voxel\nx,9,8,6,3,ignore,voxel\n"
    )
    (tmp_path / "found.csv").write_text(
        "image,x,y,z,diameter,class,score,unit\nx,4,5,3,3,b,0.7,voxel\nx,9,8,6,3,b,0.9,voxel\n"
    )
    out, table = str(tmp_path / "out"), str(tmp_path / "found.csv")
    return EvaluateConfig(
        run=config.out, data=str(data), out=out, part="all", predictions=table, draws=9, with_images=False
    )


def test_classes_of_another_table_are_those_of_the_run_by_name(run_of_two, tmp_path):
    """Its b is 1 there and 2 in the run; its table is read, not that of the run."""
    assert evaluate(run_of_two)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["class_names"] == ["a", "b"]
    assert summary["metrics"]["ap/b"]["value"] == summary["metrics"]["map"]["value"] == 1
    assert summary["metrics"]["n/findings"]["value"] == 1
    assert "task" not in summary["settings"]
    assert summary["note"].startswith("these are scores of boxes of a table, not of those")
    assert "boxes of a table" in (tmp_path / "out" / "report.html").read_text()
    assert "weights_data_hash" not in summary
    assert not {"precision", "mirror", "window"} & set(summary["settings"])
    table = tmp_path / "other" / "boxes.csv"
    table.write_text(table.read_text().replace(",b,", ",c,"))
    with pytest.raises(FoveateError, match=r"table with the classes c=1, .*run were .*a=1, b=2; accepted"):
        evaluate(run_of_two)


def test_what_is_said_of_scores_is_true_of_whose_boxes_they_are(run_of_two):
    """Folds and validation images chose the weights of a run, not the boxes of somebody else's table."""
    of_folds = Cohort(volumes=[], patients=[], calibration=[], owners=[0, 1], part="out of fold")
    of_val = Cohort(volumes=[], patients=[], calibration=[], part="val")
    table, own = (replace(run_of_two, part="auto", predictions=given) for given in ("t.csv", ""))
    for cohort, said in ((of_folds, verb.OUT_OF_FOLD), (of_val, verb.NO_TEST)):
        assert verb.note_on(own, cohort) == said
        assert verb.note_on(table, cohort) == verb.OF_TABLE
    assert not verb.note_on(replace(own, part="val"), of_val)


def test_labels_that_do_not_name_the_classes_of_a_run_are_refused():
    task = replace(Config.preset(3, "small", "none"), classes=("a=1", "b=2"), instances=2)
    asked = Config.preset(3, "small", "none")
    with pytest.raises(FoveateError, match=r"label maps with the classes \(none named\), .*of a table"):
        truth_of(task, asked, Labelled(records=(), layout=""))
    named = truth_of(task, asked, Labelled(records=(), layout="", classes=("b=7", "c=9"), ignore=(5,)))
    assert (named.classes, named.ignore, named.instances) == (("a=0", "b=7"), (5,), 0)
    told = replace(asked, classes=("b=3",))
    assert truth_of(told, told, Labelled(records=(), layout="", classes=("b=7",))) == told


def test_keys_of_an_evaluation_that_would_do_nothing_are_refused(run_of_two):
    with pytest.raises(FoveateError, match="--task localization: accepted with --run none"):
        evaluate(replace(run_of_two, task="localization"))
    with pytest.raises(FoveateError, match="--frame, --unit, --diameter: accepted with --pred"):
        evaluate(replace(run_of_two, predictions="", frame="lps"))
    for run in (run_of_two, replace(run_of_two, run="none")):
        with pytest.raises(FoveateError, match=r"--smooth_frames 3: .* accepted for runs that answer whole"):
            evaluate(replace(run, smooth_frames=3))
        with pytest.raises(
            FoveateError, match=r"--window\.skip_background true: the answers are boxes of a table"
        ):
            evaluate(replace(run, window=WindowConfig(skip_background=True)))
        with pytest.raises(FoveateError, match=r"--lesions\.match iou: the answers are boxes of a table"):
            evaluate(replace(run, lesions=LesionConfig(match="iou")))


def test_a_class_has_another_name_only_where_either_side_has_one_class():
    for name, own in (("nodule", "finding"), ("finding", "nodule")):
        assert class_of(name, [own], "theirs.csv", alone=True) == 0
        with pytest.raises(FoveateError, match=rf"theirs\.csv: class '{name}'; accepted: {own}"):
            class_of(name, [own], "theirs.csv", alone=False)
    with pytest.raises(FoveateError, match="class 'liver'; accepted: spleen"):
        class_of("liver", ["spleen"], "theirs.csv", alone=True)

"""Evaluations of boxes: the classes and the tables of a run on data of others, and without a run."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.config import SPEC, run_config
from foveate.runtime.command import OWN_PATHS
from foveate.runtime.folder import write_keys


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

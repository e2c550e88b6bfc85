"""Everything that the command line does, from Python, by the same functions."""

import inspect
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

import foveate
from foveate.cli import BY_NAME
from foveate.core.types import FoveateError
from foveate.testing.cohorts import blobs, write_labelled, write_volume
from foveate.testing.runs import task_keys, tiny_keys
from tests.nets.weights.untrained import write_run

PAGE = Path(__file__).parents[1] / "docs" / "python.md"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(rng.integers(0, 255, (48, 40), np.uint8)).save(folder / f"{i}.png")
    return folder


def test_every_function_is_documented_and_typed():
    for name in set(foveate.__all__) - {"__version__"}:
        function = getattr(foveate, name)
        signature = inspect.signature(function)
        assert signature.return_annotation is not inspect.Signature.empty
        for parameter in signature.parameters.values():
            assert parameter.annotation is not inspect.Parameter.empty
            assert parameter.name == "source" or parameter.name in (function.__doc__ or ""), (name, parameter)
    missing = set(BY_NAME) - set(foveate.__all__)
    assert missing == {
        "demo",
        "methods",
        "plan",
        "report",
        "watch",
        "doctor",
    }


def test_a_folder_is_scanned_split_prepared_and_embedded(pictures, tmp_path):
    assert "4" in foveate.scan(pictures, out=tmp_path / "inventory", num_workers=0)
    assert "test" in foveate.split(pictures, out=tmp_path / "lists", val_share=0.25, test_share=0.25)
    assert (tmp_path / "lists" / "unlabelled.txt").exists() or (tmp_path / "lists" / "train.txt").exists()
    assert foveate.prepare(data=pictures, out=tmp_path / "cache", dimension=2) == 4
    run = write_run(tmp_path / "run", 2, "resnet10", width=4)
    found = foveate.embed(run=run, data=tmp_path / "cache", out=tmp_path / "features", grid=[64, 32])
    assert found.features.shape == (4, sum(foveate.load_encoder(run).channels))


def test_weights_leave_and_are_converted(tmp_path):
    run = write_run(tmp_path / "run", 2, "resnet10", width=4)
    lines = foveate.export(run, format="huggingface", out=tmp_path / "hub", licence="MIT")
    assert "load_encoder" in lines[-1]
    report = foveate.convert(
        tmp_path / "hub" / "model.safetensors", out=tmp_path / "new.safetensors", in_channels=3
    )
    assert report.share == 1
    assert foveate.load_encoder(tmp_path / "new.safetensors").in_channels == 3
    with pytest.raises(FoveateError, match="did you mean licence"):
        foveate.export(run, format="huggingface", out=tmp_path / "other", license="MIT")


def test_a_comparison_is_read_from_a_mapping_or_a_file_and_gives_its_table(pictures, tmp_path, monkeypatch):
    from foveate.commands.compare import run

    seen = []

    def compare(config):
        seen.append(config)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "table.csv").write_text("arm,score\nscratch,0.5\n")

    monkeypatch.setattr(run, "compare", compare)
    for part in ("train", "val", "test"):
        (tmp_path / f"{part}.txt").write_text("0.png\n")
    task = {
        "data": str(pictures),
        "split": str(tmp_path),
        "labels": [1],
        "choice_labels": 1,
        "long_steps": 3,
        "finetune": {"task": "segmentation", "steps": 2},
    }
    content = {"arms": {"mine": "byol"}, "tasks": {"lungs": task}}
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(content))
    for given in (content, tmp_path / "grid.yaml"):
        assert foveate.compare(given, out=tmp_path / "out") == [{"arm": "scratch", "score": "0.5"}]
    assert seen[0] == seen[1]
    assert seen[0].arms["mine"].method == "byol"


def quick(function, keys, **given):
    """The call of the page, in seconds."""
    return function(**{**given, **keys})


@pytest.mark.slow
def test_the_first_example_of_the_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_labelled(tmp_path / "labelled", 3)
    (tmp_path / "scans").mkdir()
    for i in range(4):
        write_volume(tmp_path / "scans" / f"{i}.nii.gz", blobs((24, 26, 20), 50 + i))
    (tmp_path / "new").symlink_to(tmp_path / "scans")
    (tmp_path / "scan.nii.gz").symlink_to(tmp_path / "scans" / "0.nii.gz")
    for name, keys in (
        ("pretrain", tiny_keys(3, Path("scans"), Path("run"), steps=2, preview_every=0, health_every=0)),
        ("finetune", {**task_keys("segmentation", 3, Path("labelled"), Path("tuned"), ""), "init": "run"}),
    ):
        monkeypatch.setattr(foveate, name, partial(quick, getattr(foveate, name), keys))
    (code,) = re.findall(
        r"^```python\n(.*?)^```$",
        PAGE.read_text(encoding="utf-8").partition("Your own network")[0],
        re.MULTILINE | re.DOTALL,
    )
    known = {
        "array": np.random.default_rng(0).normal(size=(20, 24, 16)),
        "images": torch.rand(1, 1, 16, 16, 16),
    }
    exec(compile(code, str(PAGE), "exec"), known)
    assert known["labels"].shape == (20, 24, 16)
    assert known["outputs"].shape[2:] == (16, 16, 16)
    assert len(list((tmp_path / "masks").glob("*.nii.gz"))) == 4
    assert "dice" in str(known["scores"])
    assert known["found"].features.shape == (4, sum(known["encoder"].channels))

"""What every task keeps, in 2D and 3D: finite, reached by gradients, loaded back, predicted, scored."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import FinetuneConfig
from foveate.commands.finetune.images import load_images
from foveate.commands.finetune.run import finetune
from foveate.commands.finetune.semi import source_of
from foveate.commands.predict.config import PredictConfig
from foveate.commands.predict.run import predict
from foveate.core.boxes.tasks import BoxConfig, BoxTask
from foveate.core.tasks import DenseConfig, DenseTask, ImageConfig, ImageTask, Task
from foveate.core.types import Dimension, Progress
from foveate.data.boxes.tables import BoxesConfig, read_boxes
from foveate.nets.weights import store as weights
from foveate.runtime.finetuned import load_task
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from

pytestmark = pytest.mark.parametrize("dimension", [2, 3])
TinyTask = Callable[[str, Dimension], FinetuneConfig]


def test_losses_gradients_and_shapes(
    tiny_task: TinyTask, dimension: Dimension, foveate_task: str, tmp_path: Path
) -> None:
    """Losses are finite scalars, every exported weight is reached, outputs are as the task says."""
    images = load_images(tiny_task(foveate_task, dimension), tmp_path / "cache")
    task = build_task(images.config)
    source = source_of(images.config, images.train, images.unlabelled)
    batch = next(batches_from(images.config, source, task, build_fabric(images.config), 0))
    before = {name: views.clone() for name, views in batch["crops"].items()}
    losses = task(batch, Progress(0, 2, 0))
    assert losses
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    assert all(torch.equal(views, batch["crops"][name]) for name, views in before.items())
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    exported = {f"{part}.{n}": p for part, net in task.exported().items() for n, p in net.named_parameters()}
    assert "encoder" in task.exported()
    assert [name for name, p in exported.items() if p.grad is None or not torch.isfinite(p.grad).all()] == []
    staged = {id(p) for stage in task.stages() for p in stage}
    assert staged == {id(p) for p in task.parameters()} == {id(p) for p in exported.values()}
    outputs = task.eval().outputs(torch.rand(2, 1, *task.patch))
    assert len(outputs) == 2
    assert torch.isfinite(outputs).all()
    if not isinstance(task, BoxTask):  # whose outputs say where boxes are as well, each task in its own way
        assert outputs.shape[1] == len(task.class_names)
        assert outputs.shape[2:] == (task.patch if isinstance(task, DenseTask) else ())


def test_it_is_trained_loaded_predicted_and_scored(
    tiny_task: TinyTask, dimension: Dimension, foveate_task: str, tmp_path: Path
) -> None:
    """From labels to a table of answers and of scores, through the commands."""
    config = tiny_task(foveate_task, dimension)
    assert finetune(config)
    loaded, card = load_task(config.out)
    tensors, _ = weights.read(config.out)
    assert list(loaded.class_names) == card["class_names"]
    assert set(tensors) == {
        f"{part}.{n}" for part, net in loaded.exported().items() for n in net.state_dict()
    }
    images = Path(config.data) / "images"
    answers = str(tmp_path / "answers")
    assert predict(PredictConfig(run=config.out, data=str(images), boxes=config.boxes, out=answers))
    rows = list(csv.DictReader((tmp_path / "answers" / "predictions.csv").open(encoding="utf-8")))
    assert len(rows) == len(list(images.iterdir()))
    if isinstance(loaded, BoxTask):
        boxes = read_boxes(tmp_path / "answers" / "boxes.csv", BoxesConfig())
        listed = read_boxes(tmp_path / "answers" / "boxes.json", BoxesConfig())
        assert len(boxes) == len(listed) == len(rows)
        assert [len(each.boxes) for each in boxes] == [len(each.boxes) for each in listed]
    if isinstance(loaded, ImageTask):
        assert set(loaded.row([0.0] * len(loaded.class_names))) < set(rows[0])
    scores = EvaluateConfig(run=config.out, data=config.data, out=str(tmp_path / "scores"), draws=20)
    assert evaluate(scores)
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text(encoding="utf-8"))
    assert summary["class_names"] == card["class_names"]
    assert [name for name, metric in summary["metrics"].items() if metric["value"] is not None]
    check_directions(loaded, summary, tmp_path / "scores")


def check_directions(task: Task, summary: Mapping[str, Any], folder: Path) -> None:
    """What a task names of its metrics is there: the chosen one, and those of which less is better."""
    if isinstance(task, BoxTask):
        assert task.config.chosen_by in summary["metrics"], "chosen_by is no metric of scorer"
    kind = next(each for each in (DenseConfig, ImageConfig, BoxConfig) if isinstance(task.config, each))
    columns = next(csv.reader((folder / "cases.csv").open(encoding="utf-8")))
    known = {name for full in (*summary["metrics"], *columns) for name in (full, full.partition("/")[0])}
    own = set(task.config.falling()) - set(kind.falling())
    assert not own - known, f"less_is_better names {sorted(own - known)}: no metric and no column of a case"
    assert set(task.config.falling()) == set(summary["less_is_better"])

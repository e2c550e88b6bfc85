"""A task comes back from its card as it was exported."""

import pytest
import torch
from tests.commands.finetune.test_finetune import keys, labelled, pretrained, started  # noqa: F401 - fixtures

from foveate.core.types import FoveateError
from foveate.runtime.finetuned import load_task


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("task", ["segmentation", "classification"])
def test_the_exported_task_answers_as_the_best_checkpoint(keys, tmp_path, dimension, task):  # noqa: F811
    targets = {"task.targets": "[kind]"} if task == "classification" else {}
    assert started(keys(dimension, task=task, **targets))
    loaded, card = load_task(tmp_path / "run")
    assert not loaded.training
    assert list(loaded.class_names) == card["class_names"]
    state = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["model"]
    of = "average." if task == "segmentation" else ""  # the average is what was judged
    assert all(torch.equal(value, state[f"{of}{name}"]) for name, value in loaded.state_dict().items())
    answers = loaded.outputs(torch.rand(1, 1, *loaded.patch))
    assert answers.shape[1] == len(card["class_names"])


def test_pretrained_weights_are_no_task(pretrained):  # noqa: F811
    with pytest.raises(FoveateError, match="holds pre-trained weights and no task"):
        load_task(pretrained(2))

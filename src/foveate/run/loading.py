"""A fine-tuned task from its weights and their card: what predict and evaluate start from."""

from __future__ import annotations

from pathlib import Path

from foveate.core import config as parsing
from foveate.core.contracts import Task
from foveate.core.types import FoveateError
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights import store as weights
from foveate.run.finetune_settings import TASKS, from_card


def load_task(source: str | Path) -> tuple[Task, weights.Card]:
    """The task of a run folder or a weights file, in evaluation mode, and its card.

    Raises:
        FoveateError: when the weights are those of a pre-training run, or do not fill the task.
    """
    tensors, card = weights.read(source)
    if "task" not in card:
        raise FoveateError(
            f"{source} holds pre-trained weights and no task; accepted: the run folder of `foveate finetune`."
        )
    module = TASKS[card["task"]["name"]]
    preset = module.Config.preset(card["dimension"], "small", card["normalisation"])
    encoder = from_card(ENCODERS[card["encoder"]["name"]].config, card["encoder"])
    net = build_pyramid(encoder, DecoderConfig(**card["decoder"]), card["dimension"])
    task: Task = module.build(net, parsing.parse(preset, card["task"], {}))
    weights.transfer(task.exported(), tensors, min_share=1.0)
    return task.eval(), card

"""What a fine-tuning does where nothing is said: encoder, rates, averages, how the input is normalised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from foveate.core.dims import TaskDefaults, defaults as table
from foveate.core.networks import EncoderConfig
from foveate.core.types import Dimension, Normalisation, Size
from foveate.data.cohort.wanted import Want
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights import store as weights
from foveate.runtime.config import encoder_entry, from_card
from foveate.runtime.registries import TASKS
from foveate.train.optim import OptimConfig
from foveate.train.semi.settings import SemiConfig

OF_WHOLE_IMAGES: dict[int, Normalisation] = {2: "imagenet", 3: "zscore"}
USUAL_AVERAGE = 0.99  # of itself that the average of the weights keeps at a step


def usual_optim(row: TaskDefaults, want: Want) -> OptimConfig:
    """How weights move where nothing is said: what was chosen on label maps is for label maps."""
    usual = OptimConfig(name="adamw", weight_decay=1e-2, clip_norm=5.0)
    if want == "maps":
        return replace(usual, lr=row.map_learning_rate, schedule="polynomial", warmup_steps=50)
    return replace(usual, lr=row.learning_rate, warmup_steps=20)


def usual_average(given: Mapping[str, Any], want: Want) -> float:
    """The average's share of itself; with unlabelled images the teacher is the average."""
    return USUAL_AVERAGE if want == "maps" and not given.get("unlabelled") else 0.0


def usual_semi(given: Mapping[str, Any], usual: int, want: Want) -> SemiConfig:
    """How unlabelled images take part: labels alone for a third of the steps; whole images are not pasted."""
    if not given.get("unlabelled"):
        return SemiConfig()
    steps = str(given.get("steps", usual))
    config = SemiConfig(supervised_steps=int(steps) // 3 if steps.isdecimal() else 0)
    return config if want == "maps" else replace(config, mixing="none", weighting="confidence")


def scratch_normalisation(given: Mapping[str, Any], dimension: Dimension) -> Normalisation:
    """A z-score, or what Hounsfield units mean; of pictures for a value, the constants of their weights."""
    if given.get("prepare.profile") == "ct":
        return "none"  # a window in a lung holds little else
    in_windows = TASKS[str(given["task.name"])].Config.want != "values"
    return "zscore" if in_windows else OF_WHOLE_IMAGES[dimension]


def default_encoder(
    given: Mapping[str, Any], card: weights.Card, dimension: Dimension, size: Size
) -> EncoderConfig:
    """The card's encoder, or the one of the size."""
    if card:
        return from_card(ENCODERS[card["encoder"]["name"]].config, card["encoder"])
    row = table(dimension, size)
    name = str(given.get("encoder.name", row.encoder))
    entry = encoder_entry(name, dimension)
    known = {each.name for each in fields(entry.config)} & {"norm"}
    norm: dict[str, Any] = {key: str(given[f"encoder.{key}"]) for key in known if f"encoder.{key}" in given}
    return entry.config(name=name, width=entry.widths.get(size, row.width), **norm)

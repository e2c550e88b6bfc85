"""The configuration of a plan: that of the pre-training run it is about."""

from __future__ import annotations

from dataclasses import replace

from foveate.commands.pretrain.config import SPEC as PRETRAIN, PretrainConfig, default_config
from foveate.runtime.command import Given


def defaults(given: Given) -> PretrainConfig:
    """Those of a pre-training run; a plan writes nothing, so its `out` is only a name."""
    return replace(default_config(given), out="RUN")


SPEC = replace(
    PRETRAIN,
    name="plan",
    defaults=defaults,
    required={"data": "FOLDER"},
    examples=(
        "foveate plan --data SCANS --size small",
        "foveate plan --data SCANS --method pgl --steps 20000 --devices 2",
    ),
)

"""The configuration of the demo."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """One demo.

    Attributes:
        out: Folder for the virtual brains and the runs; the same command again goes on.
        steps: Of the pre-training.
        finetune_steps: Of each fine-tuning.
        seed: Of every random draw.
    """

    out: str = "demo"
    steps: int = 300
    finetune_steps: int = 120
    seed: int = 0


SPEC = Spec(name="demo", defaults=lambda _given: DemoConfig(), required={})

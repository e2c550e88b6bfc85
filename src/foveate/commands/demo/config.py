"""The configuration of the demo."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """One demo.

    Attributes:
        out: Folder for the virtual brains and the runs; running the same command again continues.
        steps: Pre-training steps.
        finetune_steps: Steps of each fine-tuning.
        seed: Seed of every random draw.
    """

    out: str = "demo"
    steps: int = 300
    finetune_steps: int = 120
    seed: int = 0


SPEC = Spec(name="demo", defaults=lambda _given: DemoConfig(), required={})

"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveate.evaluate.inference import WindowConfig
from foveate.evaluate.segment import TidyConfig
from foveate.runtime.command import Spec
from foveate.runtime.memory import found_accelerator


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation.

    Attributes:
        run: Folder of a fine-tuning run.
        data: Labelled images: those of the run, or others with the same labels.
        out: Folder for the results.
        part: Which of the run's images; "auto" takes the test part, or where the run's split has none, the
            validation part, and says so; "all" for every labelled image of a data set the run never saw.
        nsd_tolerance_mm: How far apart two surfaces may lie and still count as the same.
        worst: How many of the worst cases are drawn.
        draws: Of the bootstrap over patients.
        seed: Of the bootstrap.
        window: How volumes are covered.
        tidy: What is done to masks.
        accelerator: Where to compute.
    """

    run: str = ""
    data: str = ""
    out: str = ""
    part: Literal["auto", "test", "val", "train", "all"] = "auto"
    nsd_tolerance_mm: float = 1.0
    worst: int = 4
    draws: int = 2000
    seed: int = 0
    window: WindowConfig = field(default_factory=WindowConfig)
    tidy: TidyConfig = field(default_factory=TidyConfig)
    accelerator: Literal["cpu", "cuda"] = "cpu"


SPEC = Spec(
    name="evaluate",
    defaults=lambda _given: EvaluateConfig(accelerator=found_accelerator()),
    required={"run": "RUN2", "data": "LABELLED", "out": "FOLDER"},
)

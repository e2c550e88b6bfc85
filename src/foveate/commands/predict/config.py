"""The configuration of a prediction."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveate.data.boxes.tables import BoxesConfig
from foveate.runtime.command import Spec
from foveate.runtime.memory import found_accelerator
from foveate.runtime.precision import Answering
from foveate.scoring.inference import WindowConfig
from foveate.scoring.members.mirrors import Mirror
from foveate.scoring.segment import TidyConfig


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """One prediction.

    Attributes:
        run: Folder of a fine-tuning run, its weights file, or the folder of a cross-validation. Several
            runs, each with its own --run, and all folds predict together: the mean of their
            probabilities.
        data: Folder of images, or one file.
        boxes: Where the places are from that a run of --task candidates scores.
        out: Folder for the results; running the same command again continues.
        force: Also predict images that differ so much from those of training that the prediction means
            nothing; the table marks them.
        format: How masks are written: "nifti" (pictures as PNG), or for volumes in DICOM as objects that
            refer to them: "dicom-seg" voxels, "rtstruct" contours.
        probabilities: Write the probabilities of every class beside the mask.
        uncertainty_map: Write the uncertainty of every voxel beside the mask: the entropy of the
            probabilities, from 0 (certain) to 1. The table has the mean of each image in any case.
        mirror: Axes of the image (x, y, z, several, or all) over which it is mirrored as well: the mean of
            probabilities, at 2, 4 or 8 times the work. In a volume x is left to right of the body: leave
            it out where left and right are different classes, such as left and right kidney.
        smooth_frames: Frames of a sweep over which answers for whole images are averaged, an odd number: each
            frame with its neighbours in time, fewer at the ends; 1: none. Frames of one sweep are images
            whose names differ in their last number alone. Written beside the table, which stays as it is.
        window: How volumes are covered.
        tidy: What is done to masks.
        accelerator: Where to compute.
        gpu: Index of the GPU, such as 1, among those that are visible.
        precision: Floating-point precision of the network: "auto" is that of the training on a GPU, so that
            the numbers are those that chose the weights, and float32 on a CPU.
    """

    run: tuple[str, ...] | str = ()
    data: str = ""
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    out: str = ""
    force: bool = False
    format: Literal["nifti", "dicom-seg", "rtstruct"] = "nifti"
    probabilities: bool = False
    uncertainty_map: bool = False
    mirror: Mirror = "none"
    smooth_frames: int = 1
    window: WindowConfig = field(default_factory=WindowConfig)
    tidy: TidyConfig = field(default_factory=TidyConfig)
    accelerator: Literal["cpu", "cuda"] = "cpu"
    gpu: int = 0
    precision: Answering = "auto"

    @property
    def runs(self) -> tuple[str, ...]:
        """All of them."""
        return (self.run,) if isinstance(self.run, str) else self.run


SPEC = Spec(
    name="predict",
    defaults=lambda _given: PredictConfig(accelerator=found_accelerator()),
    required={"run": "RUN2", "data": "FILES", "out": "FOLDER"},
    often=(
        "run",
        "data",
        "out",
        "format",
        "mirror",
        "uncertainty_map",
        "probabilities",
        "force",
        "window.overlap",
        "accelerator",
    ),
    examples=(
        "foveate predict --run RUN2 --data SCANS --out MASKS",
        "foveate predict --run RUN2 --data SCANS --out MASKS --mirror y --uncertainty_map",
        "foveate predict --run FIRST --run SECOND --data DICOM --out STRUCTURES --format rtstruct",
    ),
)

"""The configuration of an evaluation."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveate.core.plugins import SourceConfig
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.catalogue import SOURCES
from foveate.runtime.command import Alternatives, Given, Spec
from foveate.runtime.memory import found_accelerator
from foveate.runtime.precision import Answering
from foveate.scoring.inference import WindowConfig
from foveate.scoring.members.mirrors import Mirror
from foveate.scoring.protocols.lesions import LesionConfig
from foveate.scoring.segment import TidyConfig


def folder_of_files() -> SourceConfig:
    """Images and their labels as they lie in a folder."""
    return SOURCES["folder"].Config()


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """One evaluation.

    Attributes:
        run: Folder of a fine-tuning run; none: only the boxes of `predictions` are scored.
        data: Labelled images: those of the run, or others with the same labels.
        out: Folder for the results.
        part: Which part of the run's split: "auto" is the test part, or with a message the validation part
            where there is none; "all" is every labelled image, for a data set that the run never saw.
        predictions: Boxes that another detector has found, as CSV or JSON with a score each: scored in place
            of those of the run, on the same images. Empty: those of the run.
        boxes: Where the boxes of the labels are from. Of the images of a run, what is not said is as in the
            run; with `part` all nothing is taken from it.
        source: Without a run: the layout of `data`, whose images all count, those without a finding included,
            such as luna16 with `source.fold`. A run has its own.
        task: Without a run: the task whose metrics are given.
        frame: Which way millimetres of `predictions` grow, ras or lps; "stated": the table says it.
        unit: Whether its numbers are mm or voxels; "stated": the table says it.
        diameter: Diameter of its places where it lists them without any size, as submissions to LUNA16 do;
            0: such a table is refused. FROC and CPM do not depend on it.
        nsd_tolerance_mm: Tolerance of the surface Dice: surfaces that are closer count as the same.
        by: Columns of a table beside the images, such as "site,sex": every metric is given for each of their
            values as well, with intervals over its own patients. Empty: none.
        worst: Number of worst cases to draw, and to show slice by slice on the page.
        with_images: Write pictures of cases, and show them on the page.
        draws: Resamples of the bootstrap over patients.
        seed: Seed of the bootstrap.
        calibration: Also score how well the probabilities of masks are calibrated (ece_fg); for
            predictions of whole images this is always done.
        lesions: Whether masks are scored lesion by lesion as well.
        mirror: Axes of the image (x, y, z, several, or all) over which it is mirrored as well: the mean of
            probabilities, at 2, 4 or 8 times the work. In a volume x is left to right of the body: leave
            it out where left and right are different classes, such as left and right kidney.
        smooth_frames: Frames of a sweep over which answers for whole images are averaged before they are
            scored, an odd number: each frame with its neighbours in time, fewer at the ends; 1: none. Frames
            of one sweep are images of one patient whose names differ in their last number alone.
        window: The sliding window over a volume.
        tidy: Post-processing of the predicted masks.
        accelerator: Type of device to predict on.
        gpu: Index of the GPU, such as 1, among those that are visible.
        precision: Floating-point precision of the network: "auto" is that of the training on a GPU, so that
            the numbers are those that chose the weights, and float32 on a CPU.
    """

    run: str = ""
    data: str = ""
    out: str = ""
    part: Literal["auto", "test", "val", "train", "all"] = "auto"
    predictions: str = ""
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    source: SourceConfig = field(default_factory=folder_of_files)
    task: str = "detection"
    frame: Literal["stated", "ras", "lps"] = "stated"
    unit: Literal["stated", "mm", "voxel"] = "stated"
    diameter: float = 0.0
    nsd_tolerance_mm: float = 1.0
    by: str = ""
    worst: int = 4
    with_images: bool = True
    draws: int = 2000
    seed: int = 0
    calibration: bool = False
    lesions: LesionConfig = field(default_factory=LesionConfig)
    mirror: Mirror = "none"
    smooth_frames: int = 1
    window: WindowConfig = field(default_factory=WindowConfig)
    tidy: TidyConfig = field(default_factory=TidyConfig)
    accelerator: Literal["cpu", "cuda"] = "cpu"
    gpu: int = 0
    precision: Answering = "auto"


def defaults(given: Given) -> EvaluateConfig:
    """What is not given."""
    source = SOURCES[str(given.get("source.name", "folder"))].Config()
    return EvaluateConfig(accelerator=found_accelerator(), source=source)


def alternatives(config: EvaluateConfig) -> Alternatives:
    """Configs of the sources that were not chosen."""
    return {"source": {name: each.Config for name, each in SOURCES.others(config.source.name).items()}}


SPEC = Spec(
    name="evaluate",
    defaults=defaults,
    required={"run": "RUN2", "data": "LABELLED", "out": "FOLDER"},
    alternatives=alternatives,
    often=(
        "run",
        "data",
        "out",
        "part",
        "by",
        "calibration",
        "mirror",
        "worst",
        "with_images",
        "accelerator",
    ),
    examples=(
        "foveate evaluate --run RUN2 --data LABELLED --out REPORT",
        "foveate evaluate --run RUN2 --data OTHER --part all --by site,sex --out REPORT-OF-OTHER",
        "foveate evaluate --run none --predictions BOXES.csv --data LUNA16 --source luna16 --out REPORT",
    ),
)

"""The configuration of a drawn split."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.core import key_help
from foveate.core.plugins import SourceConfig
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.runtime.command import Alternatives, Given, Spec


@dataclass(frozen=True, kw_only=True)
class SplitRun:
    """One split.

    Attributes:
        data: The data set: a folder, or the file that lists it.
        out: Folder for the lists.
        source: The layout of the data set.
        seed: Seed of the draw; the same seed gives the same lists on every machine.
        val_share: Share of the images for validation, unless the data set has its own split.
        test_share: Share of the images for the test, unless the data set has its own split.
        fractions: Shares of the labelled training images; each set contains the smaller ones.
        stratify: Names of the labels whose proportions are kept; empty: all with at most 20 different values.
        group: Name of a value or column, such as site: images that have it in common stay in one part.
        pairs: How an image and its label map in one folder are named, such as
            "{case}_image.nii.gz={case}_label.nii.gz"; empty: found by common stems.
        structures: Label maps from DICOM RTSTRUCT and SEG, as `finetune` takes them, such as "tumour=GTV*";
            series without any of them count as unlabelled.
        patient_pattern: Regular expression that finds the patient in a path below `data`: one group, such as
            "(P[0-9]+)_", or a group named patient. Empty: patients come from tables, lists, DICOM headers
            and names.
        use_given_split: Keep the data set's own validation and test images.
        compare_voxels: Decode every image, to keep images with equal voxels in one part.
        num_workers: Worker processes that decode; 0: the main process.
    """

    data: str
    out: str
    source: SourceConfig
    seed: int = 0
    val_share: float = 0.1
    test_share: float = 0.2
    fractions: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5)
    stratify: tuple[str, ...] = ()
    group: str = ""
    pairs: str = ""
    structures: str = ""
    patient_pattern: str = ""
    use_given_split: bool = True
    compare_voxels: bool = True
    num_workers: int = 0

    def __post_init__(self) -> None:
        shares = (self.val_share, self.test_share)
        if min(shares) < 0 or sum(shares) >= 1:
            raise FoveateError(
                f"--val_share {self.val_share:g} and --test_share {self.test_share:g}: accepted are shares "
                "from 0 whose sum is below 1."
            )
        for fraction in self.fractions:
            if not 0 < fraction < 1:
                raise FoveateError(f"--fractions {fraction:g}: accepted are shares above 0 and below 1.")


def defaults(given: Given) -> SplitRun:
    """What is not given."""
    return SplitRun(data="", out="", source=SOURCES[str(given.get("source.name", "folder"))].Config())


def alternatives(config: SplitRun) -> Alternatives:
    """Configs of the sources that were not chosen."""
    return {"source": {name: each.Config for name, each in SOURCES.others(config.source.name).items()}}


SPEC = Spec(
    name="split",
    defaults=defaults,
    required={"data": "DATA", "out": "DIR"},
    alternatives=alternatives,
    note=lambda _config: key_help.help_list("sources", SOURCES),
    often=(
        "data",
        "out",
        "val_share",
        "test_share",
        "fractions",
        "stratify",
        "group",
        "patient_pattern",
        "structures",
        "seed",
    ),
    examples=(
        "foveate split LABELLED --out LISTS",
        "foveate split LABELLED --out LISTS --stratify disease --group site",
    ),
)

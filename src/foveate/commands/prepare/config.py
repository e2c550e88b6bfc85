"""The configuration of a preparation."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.core.plugins import SourceConfig
from foveate.core.types import Dimension
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.catalogue import SOURCES
from foveate.data.named_sets import refuse_sets
from foveate.runtime.command import Alternatives, Given, Spec
from foveate.runtime.config import found_dimension


@dataclass(frozen=True, kw_only=True)
class PrepareRun:
    """One preparation, complete.

    Attributes:
        data: Folder of images, or one file, in the layout that `source` names.
        out: Folder of the cache; running the same command again continues.
        dimension: 2 or 3; detected from the files by default.
        split: Folder written by `foveate split`: only its train.txt and unlabelled.txt are prepared. Empty:
            all images except the data set's own validation and test images.
        verify: Check every file of the cache `out` against its checksum, after `data` is prepared, or alone
            where no `data` is given.
        num_workers: Worker processes that decode; 0: the main process. The result does not depend on it.
        source: Layout of the data set.
        prepare: How images are prepared for the cache.
    """

    data: str = ""
    out: str = ""
    dimension: Dimension
    split: str = ""
    verify: bool = False
    num_workers: int = 0
    source: SourceConfig
    prepare: PrepareConfig


def defaults(given: Given) -> PrepareRun:
    """What is not given."""
    if str(given.get("verify")).lower() == "true" and not given.get("data"):  # nothing is decoded
        given = {"dimension": 3, **given}
    source = SOURCES[str(given.get("source.name", "folder"))].Config()
    refuse_sets(str(given.get("data", "")), "prepare")
    return PrepareRun(dimension=found_dimension(given), source=source, prepare=PrepareConfig())


def alternatives(config: PrepareRun) -> Alternatives:
    """Configs of the sources that were not chosen."""
    return {"source": {name: each.Config for name, each in SOURCES.others(config.source.name).items()}}


SPEC = Spec(
    name="prepare",
    defaults=defaults,
    required={"data": "FOLDER", "out": "CACHE"},
    spares={"verify": "data"},
    alternatives=alternatives,
    shown=lambda given: {"dimension": 3, **given},
    note=lambda _config: "`foveate pretrain --data CACHE` then reads windows of the result.",
    found=("dimension",),
    often=(
        "data",
        "out",
        "dimension",
        "prepare.profile",
        "prepare.spacing_mm",
        "prepare.fourth_axis",
        "prepare.colour",
        "split",
        "verify",
        "num_workers",
    ),
    examples=(
        "foveate prepare --data SCANS --out CACHE",
        "foveate prepare --data SCANS --out CACHE --prepare.profile ct --prepare.spacing_mm '[1, 1, 1]'",
        "foveate prepare --out CACHE --verify                              # checks every file of it",
    ),
)

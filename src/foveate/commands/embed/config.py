"""The configuration of an embedding."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from foveate.data.cache.planes import SlicesConfig
from foveate.runtime.command import Spec
from foveate.runtime.memory import found_accelerator


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """One embedding.

    Attributes:
        run: Folder of a run, or its weights file.
        data: Folder of images, one image, or a cache that `foveate prepare` wrote.
        out: Folder for the features; the same command again goes on where it was.
        query: An image, whose nearest neighbours among those of `data` are named.
        suggest: So many images to label first, of different patients, far from each other; 0: none.
        pictures: So many images are shown in the map of the features; 0: no map.
        neighbours: Nearest neighbours of every row, of other images and patients.
        outliers: So many images that are least like their neighbours are named.
        grid: Grid that every whole image is sampled on; empty: that of the largest views of the run.
        patient_pattern: What of an image's path names its patient, as in `pretrain`.
        slices: How volumes are cut for a 2D encoder; the default is the run's own way.
        batch_size: Images, or slices of one, that are computed at once.
        accelerator: Where to compute.
    """

    run: str = ""
    data: str = ""
    out: str = ""
    query: str = ""
    suggest: int = 0
    pictures: int = 60
    neighbours: int = 5
    outliers: int = 12
    grid: tuple[int, ...] = ()
    patient_pattern: str = ""
    slices: SlicesConfig = field(default_factory=SlicesConfig)
    batch_size: int = 16
    accelerator: Literal["cpu", "cuda"] = "cpu"


SPEC = Spec(
    name="embed",
    defaults=lambda _given: EmbedConfig(accelerator=found_accelerator()),
    required={"run": "RUN", "data": "FOLDER", "out": "DIR"},
)

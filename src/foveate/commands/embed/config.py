"""The configuration of an embedding."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Literal

from foveate.core.types import FoveateError
from foveate.data.cache.planes import SlicesConfig
from foveate.runtime.command import Given, Spec
from foveate.runtime.precision import Accelerator, accelerator_of, devices_of
from foveate.runtime.resources.cpus import usual_workers


@dataclass(frozen=True, kw_only=True)
class EmbedConfig:
    """One embedding.

    Attributes:
        run: Folder of a run, or its weights file.
        data: Folder of images, one image, or a cache that `foveate prepare` wrote.
        out: Folder for the features; running the same command again continues.
        labels: Write a row for every region of every image: the voxels of one value of its label map,
            which is found as in `finetune`. Images without a label map have no row.
        pairs: How an image and its label map are named, as in `finetune`; for `labels`.
        grid_mm: Write a row for every place of every image: boxes with sides of this many mm, side by
            side; 0: none. A pixel of a picture without a pixel size counts as 1 mm.
        tiles: Look at images in tiles of `grid` voxels of their own instead of sampling each as a whole: a
            row for every tile, or finer features of regions and places.
        query: Image whose nearest neighbours in `data` are named.
        suggest: How many images to suggest for labelling first, of different patients, far from each
            other; 0: none.
        pictures: Number of images at most that are shown in the map of the features, where they have
            room; 0: no map.
        projection: How the map is made: "auto" is UMAP where umap-learn is installed, else "pca", the two
            axes of largest variance.
        neighbours: Nearest neighbours of every row, of other images and patients.
        outliers: How many images to name that are least like their neighbours.
        split: Folder that `foveate split` wrote, or a JSON of names by part: near-duplicates in different
            parts are listed as leaks. Empty: the parts that the data set itself says.
        grid: Grid that every whole image is sampled on, or the size of tiles; empty: that of the largest
            views of the run.
        patient_pattern: What of an image's path names its patient, as in `pretrain`.
        slices: How volumes are cut for a 2D encoder; the default is the run's own way.
        batch_size: Images, slices or tiles that are computed at once.
        num_workers: Worker processes that read and sample images, for each process.
        devices: Processes that share the images, with a device each; GPUs can be given by index: 0,2.
        gpus: Indices of the GPUs; empty: the first `devices`. `--devices 0,2` sets both.
        accelerator: Where to compute.
    """

    run: str = ""
    data: str = ""
    out: str = ""
    labels: bool = False
    pairs: str = ""
    grid_mm: float = 0.0
    tiles: bool = False
    query: str = ""
    suggest: int = 0
    pictures: int = 60
    projection: Literal["auto", "umap", "pca"] = "auto"
    neighbours: int = 5
    outliers: int = 12
    split: str = ""
    grid: tuple[int, ...] = ()
    patient_pattern: str = ""
    slices: SlicesConfig = field(default_factory=SlicesConfig)
    batch_size: int = 16
    num_workers: int = 1
    devices: int = 1
    gpus: tuple[int, ...] = ()
    accelerator: Accelerator = "cpu"

    @property
    def num_nodes(self) -> int:
        """Machines: all processes are on this one."""
        return 1


def defaults(given: Given) -> EmbedConfig:
    """Where to compute, and how many processes read images for it."""
    accelerator = accelerator_of(given)
    return EmbedConfig(accelerator=accelerator, num_workers=usual_workers(accelerator, devices_of(given)))


def check(config: EmbedConfig, _defaults: EmbedConfig) -> None:
    """Refuse what contradicts itself."""
    for key, number in (
        ("batch_size", config.batch_size),
        ("devices", config.devices),
        ("neighbours", config.neighbours),
    ):
        if number < 1:
            raise FoveateError(f"--{key} {number}: accepted are whole numbers from 1.")
    if config.num_workers < 0:
        raise FoveateError(f"--num_workers {config.num_workers}: accepted are whole numbers from 0.")
    if not 0 <= config.grid_mm < float("inf"):
        raise FoveateError(f"--grid_mm {config.grid_mm}: accepted are lengths in mm, and 0 for none.")
    if config.labels and config.grid_mm:
        raise FoveateError("--labels true with --grid_mm: accepted is one of them, a run for each.")
    if config.labels and config.query:
        raise FoveateError("--query with --labels true: an image alone has no label map; accepted: without.")
    if config.projection == "umap" and find_spec("umap") is None:
        raise FoveateError(
            "--projection umap needs `pip install 'foveate[embed]'`; accepted without it: pca."
        )
    if config.pairs and not config.labels:
        raise FoveateError(f"--pairs {config.pairs}: accepted with --labels true.")


SPEC = Spec(
    name="embed",
    defaults=defaults,
    required={"run": "RUN", "data": "FOLDER", "out": "DIR"},
    check=check,
    often=(
        "run",
        "data",
        "out",
        "query",
        "suggest",
        "neighbours",
        "outliers",
        "labels",
        "grid_mm",
        "accelerator",
    ),
    examples=(
        "foveate embed --run RUN --data SCANS --out FEATURES --suggest 20",
        "foveate embed --run RUN --data SCANS --out FEATURES --query SCANS/case.nii.gz",
    ),
)

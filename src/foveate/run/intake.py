"""From a folder to a cache that fits a method's views; what is said about it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress as Bar

from foveate.core.types import CropSpec, Dimension, FoveateError, Record
from foveate.data.cache import Cache
from foveate.data.formats import dimension_of
from foveate.data.loader import records_of
from foveate.data.prepare import cache_folder, prepare
from foveate.run.selection import images_for_pretraining
from foveate.run.settings import PretrainConfig, RunConfig
from foveate.train.logging import CONSOLE, say
from foveate.views.boxes import check_fits, padded_axes

SAMPLE_IMAGES = 8


def open_cache(config: PretrainConfig, data: Path) -> Cache:
    """Prepare what is not prepared yet, beside the run, with a progress bar."""
    images = images_for_pretraining(config.source, data, config.split)
    folder = cache_folder(Path(config.out).parent, data, config.prepare)
    return decode(images, folder, config)


def sample_cache(config: PretrainConfig, data: Path, scratch: Path) -> tuple[int, Cache]:
    """How many images there are, and a cache of a few, evenly chosen, in a scratch folder."""
    images = images_for_pretraining(config.source, data, config.split)
    return len(images), decode(sampled(images), scratch, config)


def sampled(images: list[Record]) -> list[Record]:
    """A few images, evenly chosen."""
    return images[:: -(-len(images) // SAMPLE_IMAGES)]


def of_dimension(images: list[Record], dimension: Dimension) -> list[Record]:
    """The images of the run's dimension; those of the other are left out with a word."""
    fitting = [record for record in images if dimension_of(record) == dimension]
    if not fitting:
        raise FoveateError(f"--dimension {dimension}: none of the {len(images)} images is {dimension}D.")
    if len(fitting) < len(images):
        say(f"--dimension {dimension}: {len(images) - len(fitting)} images of the other kind are left out")
    return fitting


def decode(images: list[Record], folder: Path, config: RunConfig) -> Cache:
    """Images into a cache; every reject is named in the terminal."""
    images = of_dimension(images, config.dimension)
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task("preparing the cache", total=len(images))
        cache = prepare(images, folder, config.prepare, lambda done, _total: bar.update(task, completed=done))
    for reject in cache.rejects:
        say(f"left out: {reject.relative}: {reject.reason}")
    return cache


def check_volumes(cache: Cache, crops: Mapping[str, CropSpec]) -> None:
    """Refuse a volume that is under half a view, by its file name."""
    for volume in cache:
        try:
            check_fits(volume.shape, crops)
        except FoveateError as error:
            raise FoveateError(f"{volume.relative}: {error}") from None


def summary(cache: Cache, crops: Mapping[str, CropSpec]) -> str:
    """Counts only: no name reaches a log."""
    small = sum(any(padded_axes(volume.shape, spec) for spec in crops.values()) for volume in cache)
    padded = f"; {small} smaller than a view on some axis: the view is padded there" if small else ""
    return f"data: {len(cache)} images, {len(cache.rejects)} left out{padded}"


def name_volumes(cache: Cache, seed: int, indices: list[int]) -> str:
    """File names of the volumes behind sample indices, for an error in the terminal."""
    return ", ".join(sorted({volume.relative for volume in records_of(cache, seed=seed, indices=indices)}))

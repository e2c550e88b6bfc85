"""From a folder to a cache that fits a method's views; what is said about it on the way."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress as Bar

from foveate.core.contracts import DerivedSpec
from foveate.core.types import CropSpec, Dataclass, Dimension, FoveateError, Record
from foveate.data.cache import Cache, open_prepared
from foveate.data.derived import with_derived
from foveate.data.formats import dimension_of
from foveate.data.index import PROFILE, is_prepared
from foveate.data.loader import records_of, volume_of
from foveate.data.prepare import cache_folder, prepare
from foveate.data.profiles import PrepareConfig, from_json
from foveate.run.selection import images_for_pretraining
from foveate.run.settings import PretrainConfig
from foveate.train.logging import CONSOLE, say
from foveate.views.boxes import TISSUE_ATTEMPTS, check_fits, padded_axes
from foveate.views.pipeline import missed_tissue

SAMPLE_IMAGES = 8
TISSUE_SAMPLES = 32


def images_of(config: PretrainConfig, data: Path) -> list[Record]:
    """The images to train on, of the run's dimension."""
    return of_dimension(images_for_pretraining(config.source, data, config.split), config.dimension)


def open_cache(config: PretrainConfig, data: Path) -> Cache:
    """Prepare what is not prepared yet, beside the run, with a progress bar; a cache is taken as it is."""
    if is_prepared(data):
        return open_given_cache(config, data)
    images = images_of(config, data)
    folder = cache_folder(Path(config.out).parent, data, config.prepare)
    return decode(images, folder, config.prepare)


def open_given_cache(config: PretrainConfig, data: Path) -> Cache:
    """The cache that `--data` names; options of its preparation that differ are refused."""
    if config.prepare != from_json((data / PROFILE).read_text(), data):
        raise FoveateError(
            f"--data {data} is prepared already, and --prepare.* asks for something else; leave these keys "
            "out, or run `foveate prepare` with them into another folder."
        )
    if config.split:
        raise FoveateError(
            f"--data {data} is prepared already and names no file: --split {config.split} cannot choose "
            "from it; run `foveate prepare --split` instead, and leave the key out here."
        )
    say("a prepared cache names no patients: what a later test shares with it is found by its voxels alone")
    return open_prepared(data)


def sample_cache(config: PretrainConfig, data: Path, scratch: Path) -> tuple[int, Cache]:
    """How many images there are, and a cache of a few, evenly chosen, in a scratch folder."""
    if is_prepared(data):
        cache = open_given_cache(config, data)
        return len(cache), cache
    images = images_of(config, data)
    return len(images), decode(sampled(images), scratch, config.prepare)


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


def decode(images: list[Record], folder: Path, config: PrepareConfig, num_workers: int = 0) -> Cache:
    """Images into a cache; every reject is named in the terminal."""
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task("preparing the cache", total=len(images))

        def advance(done: int, _total: int) -> None:
            bar.update(task, completed=done)

        cache = prepare(images, folder, config, advance, num_workers)
    for reject in cache.rejects:
        say(f"left out: {reject.relative}: {reject.reason}")
    return cache


def derived(cache: Cache, specs: Mapping[str, DerivedSpec[Dataclass]]) -> Cache:
    """The cache with the maps that a method asks for; at once where the volumes have them."""
    if all(name in volume.map_names for name in specs for volume in cache):
        return cache
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task(f"computing {', '.join(specs)}", total=len(cache))
        return with_derived(cache, specs, lambda done, _total: bar.update(task, completed=done))


def check_volumes(cache: Cache, crops: Mapping[str, CropSpec]) -> None:
    """Refuse a volume that is under half a view, by its file name."""
    refused: list[tuple[str, str]] = []
    for volume in cache:
        try:
            check_fits(volume.shape, crops)
        except FoveateError as error:
            refused.append((volume.relative or f"image {volume.entry.id} of the cache", str(error)))
    if refused:
        name, why = refused[0]
        others = f" So it is with {len(refused) - 1} others." if len(refused) > 1 else ""
        raise FoveateError(f"{name}: {why}{others}")


def summary(cache: Cache, crops: Mapping[str, CropSpec]) -> str:
    """Counts only: no name reaches a log."""
    small = sum(any(padded_axes(volume.shape, spec) for spec in crops.values()) for volume in cache)
    padded = f"; {small} smaller than a view on some axis: the view is padded there" if small else ""
    return f"data: {len(cache)} images, {len(cache.rejects)} left out{padded}"


def tissue_note(cache: Cache, crops: Mapping[str, CropSpec], seed: int) -> str:
    """How often tissue rules cannot be kept, counted on the run's first samples; "" without a rule."""
    if all(spec.tissue.accepts_all for spec in crops.values()):
        return ""
    firsts = [(cache[volume_of(seed, i, len(cache))], i) for i in range(TISSUE_SAMPLES)]
    counts = [missed_tissue(volume, i, specs=crops, seed=seed) for volume, i in firsts]
    missed, views = (sum(column) for column in zip(*counts, strict=True))
    return f"tissue rule: {missed} of the first {views} views miss it after {TISSUE_ATTEMPTS} draws"


def name_volumes(cache: Cache, seed: int, indices: list[int]) -> str:
    """File names of the volumes behind sample indices, for an error in the terminal."""
    return ", ".join(sorted({volume.relative for volume in records_of(cache, seed=seed, indices=indices)}))

"""From records to a cache that fits a method's views, and the messages about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from foveate.core import config as parsing
from foveate.core.contracts import DerivedSpec
from foveate.core.dims import LAYERS
from foveate.core.types import CropSpec, Dataclass, Dimension, FoveateError, Record
from foveate.data.cache.derived import with_derived
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.cohort.patients import UNKNOWN
from foveate.data.decoding.decoder import decode_flat
from foveate.data.loader import Mixture, records_of, volume_at
from foveate.data.readers.channels import missing_reason
from foveate.data.readers.suffixes import PICTURES, SUFFIXES, dimension_of, suffix_of
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.roles.grouped import grouped
from foveate.data.salts import move_out
from foveate.data.time_points import by_time_point
from foveate.train.logging import say
from foveate.train.progress import progress
from foveate.views.boxes import TISSUE_ATTEMPTS, check_fits, padded_axes
from foveate.views.pipeline import missed_tissue

SAMPLE_IMAGES = 8
TISSUE_SAMPLES = 32


def say_of_salt(folder: Path) -> None:
    """Move the salt out of a cache that an earlier version made, with a message."""
    if note := move_out(folder):
        say(note)


def sampled(images: list[Record]) -> list[Record]:
    """A few images, evenly chosen."""
    return images[:: -(-len(images) // SAMPLE_IMAGES)]


def of_dimension(images: list[Record], dimension: Dimension) -> list[Record]:
    """The images of the run's dimension; those of the other are excluded, with a message.

    Volumes alone are images of a 2D run, too: `seen_in` cuts them into slices.
    """
    fitting = [record for record in images if dimension_of(record) == dimension]
    if images and not fitting and LAYERS[dimension].planes == ():
        return images
    if not fitting:
        raise FoveateError(f"--dimension {dimension}: none of the {len(images)} images is {dimension}D.")
    if len(fitting) < len(images):
        say(f"--dimension {dimension}: {len(images) - len(fitting)} images of another dimension are excluded")
        if LAYERS[dimension].planes == ():
            say("slices of volumes (--slices.axis) are used where --data holds volumes only")
    return fitting


def expanded(images: list[Record], config: PrepareConfig) -> list[Record]:
    """With `fourth_axis: images`, one image for each volume of a 4D file, and a message."""
    if config.fourth_axis != "images":
        return images
    found, note = by_time_point(images)
    if note:
        say(note)
    return found


def say_of_colour(images: list[Record], config: PrepareConfig) -> None:
    """Whether colour is kept or turned to grey, if a few of the images have any."""
    pictures = [record for record in images if suffix_of(record.path) in PICTURES]
    if config.colour == "grey":
        how = "it is turned to grey; --channels.colour keep keeps red, green and blue"
    else:
        how = "it is kept: red, green and blue are three channels"
    dicom = [r for r in images if suffix_of(r.path) not in SUFFIXES and dimension_of(r) == 2]
    grey = "it is turned to grey; kept is the colour of PNG, JPEG and TIFF alone"
    for found, what, done in ((pictures, "pictures", how), (dicom, "DICOM pictures", grey)):
        looked = sampled(found) if found else []
        if count := sum(_in_colour(record) for record in looked):
            say(f"colour in {count} of {len(looked)} {what} that were looked at: {done}")


def _in_colour(record: Record) -> bool:
    try:
        return decode_flat(record).colour
    except UnreadableImageError:  # said when it is prepared
        return False


def refuse_missing(images: list[Record], config: PrepareConfig) -> None:
    """Refuse images that lack the file of a channel, if the configuration does not say what to put there."""
    lacking = [record for record in images if record.absent]
    if lacking and config.missing_channels == "error":
        others = f" {len(lacking) - 1} other images have the same problem." if len(lacking) > 1 else ""
        raise FoveateError(
            f"{lacking[0].relative}: {missing_reason(lacking[0])}, or move the image away.{others}"
        )


def seen_in(cache: Cache, dimension: Dimension, slices: SlicesConfig) -> Cache:
    """The images as a network of that dimension sees them: volumes slice by slice where it is 2.

    Raises:
        FoveateError: when slices are described for a 3D run.
    """
    cut = dimension < len(cache[0].shape)
    if slices != SlicesConfig() and not cut:
        if LAYERS[dimension].planes:
            raise FoveateError(
                f"--slices.axis {slices.axis} --slices.neighbours {slices.neighbours}: accepted with "
                f"--dimension 2 only; this run is {dimension}D."
            )
        say("--slices.* has no effect: the images are 2D")
    return cache.sliced(slices) if cut else cache


def slices_note(cache: Cache) -> str:
    """How volumes are cut, for the log; "" where they are not."""
    cuts = [volume.cut for volume in cache if volume.cut]
    if not cuts:
        return ""
    counts = Counter("xyz"[cut.axis] for cut in cuts)
    volumes = ", ".join(f"{count} across {axis}" for axis, count in sorted(counts.items()))
    beside = f", each with {cuts[0].neighbours} neighbours on either side" * bool(cuts[0].neighbours)
    total = sum(len(volume.planes) for volume in cache if volume.planes is not None)
    return f"seen as {total:,} slices ({volumes}){beside}"


def decode(images: list[Record], folder: Path, config: PrepareConfig, num_workers: int = 0) -> Cache:
    """Images into a cache; every reject is named in the terminal."""
    say_of_salt(folder)
    refuse_missing(images, config)
    say_of_colour(images, config)
    with progress("preparing the cache", len(images)) as show:
        cache = prepare(images, folder, config, show, num_workers)
    for note in cache.notes:
        say(note)
    for line in grouped((reject.relative, reject.reason) for reject in cache.rejects):
        say(f"excluded: {line}")
    return cache


def derived(cache: Cache, specs: Mapping[str, DerivedSpec[Dataclass]]) -> Cache:
    """The cache with the maps that a method asks for, such as super-pixels, computed if missing."""
    if all(name in volume.map_names for name in specs for volume in cache):
        return cache
    with progress(f"computing {', '.join(specs)}", len(cache)) as show:
        return with_derived(cache, specs, show)


def check_volumes(
    cache: Cache, crops: Mapping[str, CropSpec], config: Dataclass | None = None, stride: int = 1
) -> None:
    """Refuse volumes that are smaller than half a view; the message names the file and views that fit all.

    Args:
        cache: The images.
        crops: The views.
        config: Of the run, whose keys set the grids of the views.
        stride: Of the encoder.
    """
    refused: list[tuple[str, str]] = []
    for volume in cache:
        try:
            check_fits(volume.view_shape, crops)
        except FoveateError as error:
            refused.append((named(volume), str(error)))
    if refused:
        name, why = refused[0]
        others = f" {len(refused) - 1} other images have the same problem." if len(refused) > 1 else ""
        offer = fitting_views(cache, crops, config, stride) if config else ""
        raise FoveateError(f"{name}: {why}{others}{offer}")


def fitting_views(cache: Cache, crops: Mapping[str, CropSpec], config: Dataclass, stride: int) -> str:
    """Keys with the largest grids that fit every image without padding; "" where the stride allows none."""
    least = [min(sizes) for sizes in zip(*(volume.view_shape for volume in cache), strict=True)]
    grids = {
        spec.grid: [min(size, n // stride * stride) for size, n in zip(spec.grid, least, strict=True)]
        for spec in crops.values()
        if any(padded_axes(volume.view_shape, spec) for volume in cache)
    }
    keys = {
        key.removesuffix(".name"): value
        for key, value in parsing.flatten(parsing.to_mapping(config))
        if key.endswith("grid") and tuple(value) in grids
    }
    if not keys or any(0 in grid for grid in grids.values()):
        return f" No multiple of {stride}, the encoder's stride, fits all images."
    offered = " ".join(f"--{key} {grids[tuple(value)]}".replace(", ", ",") for key, value in keys.items())
    return f" What fits all {len(cache)} images: {offered}"


def summary(cache: Cache, crops: Mapping[str, CropSpec]) -> str:
    """Counts only: no name reaches a log."""
    small = sum(any(padded_axes(volume.view_shape, spec) for spec in crops.values()) for volume in cache)
    seen = f"; {note}" if (note := slices_note(cache)) else ""
    padded = f"; {small} smaller than a view on some axis: the view is padded there" if small else ""
    names = [volume.patient for volume in cache if volume.patient]
    patients = f"{len(set(names))} patients of {len(names)} images are known" if names else UNKNOWN
    return f"data: {len(cache)} images, {len(cache.rejects)} excluded{seen}{padded}; {patients}"


def tissue_note(cache: Cache, crops: Mapping[str, CropSpec], seed: int) -> str:
    """How often tissue rules cannot be kept, counted on the run's first samples; "" without a rule."""
    if all(spec.tissue.accepts_all for spec in crops.values()):
        return ""
    firsts = [(volume_at(cache, seed, i), i) for i in range(TISSUE_SAMPLES)]
    counts = [missed_tissue(volume, i, specs=crops, seed=seed) for volume, i in firsts]
    missed, views = (sum(column) for column in zip(*counts, strict=True))
    return f"tissue rule: {missed} of the first {views} views miss it after {TISSUE_ATTEMPTS} draws"


def name_volumes(cache: Cache | Mixture, seed: int, indices: list[int]) -> str:
    """File names of the volumes behind sample indices, for an error in the terminal."""
    return ", ".join(sorted({named(volume) for volume in records_of(cache, seed=seed, indices=indices)}))


def named(volume: CachedVolume) -> str:
    """Its file where the data is a folder; a shared cache knows its images by their salted hashes alone."""
    return volume.relative or f"image {volume.entry.id} of the cache"

"""The images of a pre-training run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import partial
from pathlib import Path

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.types import FoveateError, Record
from foveate.data.cache.complete import complete_entries, refuse_incomplete
from foveate.data.cache.index import PROFILE, is_prepared
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import from_json
from foveate.data.cache.volumes import Cache, CachedVolume, open_prepared
from foveate.data.composed import Joined
from foveate.data.named_sets import named_sets, said_of, shares_of
from foveate.data.order import Mix, Weighted
from foveate.runtime.images import decode, expanded, of_dimension, sampled, say_of_salt, seen_in
from foveate.runtime.selection import images_for_pretraining
from foveate.train.logging import say


def images_of(config: PretrainConfig, data: Path) -> list[Record]:
    """The images to train on, of the run's dimension."""
    found = images_for_pretraining(config.source, data, config.split, config.patient_pattern)
    return expanded(of_dimension(found, config.dimension), config.prepare)


def sets_of(config: PretrainConfig) -> list[tuple[str, Path]]:
    """Names and paths of the data sets; one without a name where `data` names no several ones."""
    return [(each.name, each.path) for each in named_sets(config.data)] or [("", Path(config.data))]


def together(config: PretrainConfig, open_one: Callable[[Path], Cache]) -> Cache:
    """The caches of all data sets as one, drawn from by weight."""
    caches = {}
    for name, data in sets_of(config):
        if name:
            say(f"data set {name}: {data}")
        with said_of(name):
            caches[name] = open_one(data)
    shares = shares_of(config.data)
    return joined(caches, shares) if shares else caches[""]


def joined(caches: Mapping[str, Cache], shares: Mapping[str, Fraction]) -> Cache:
    """The caches of several data sets as one, which is drawn from by their shares.

    Raises:
        FoveateError: when their images differ in channels or axes.
    """
    first = next(iter(caches))
    for name, cache in caches.items():
        kinds = [_kind(cache[0]) for cache in (caches[first], cache)]
        if kinds[0] != kinds[1]:
            raise FoveateError(
                f"data sets {first} and {name} cannot be mixed: {kinds[0]}, {kinds[1]}; accepted: sets whose "
                "images have the same number of channels and axes."
            )
    sets = [Weighted(name=n, share=shares[n], images=len(cache)) for n, cache in caches.items()]
    return Cache(
        Joined([cache.volumes for cache in caches.values()]),
        [reject for cache in caches.values() for reject in cache.rejects],
        [note for cache in caches.values() for note in cache.notes],
        Mix(tuple(sets)),
    )


def _kind(volume: CachedVolume) -> str:
    """What all images of a run have in common, in words."""
    what = "slices of volumes" if volume.cut else f"{len(volume.shape)}D images"
    return f"{what} with {volume.channels} channel{'s' * (volume.channels > 1)}"


def open_cache(config: PretrainConfig) -> Cache:
    """The images of a run; a data set that is no prepared cache is decoded, with a progress bar."""
    return together(config, partial(open_one, config))


def open_one(config: PretrainConfig, data: Path) -> Cache:
    """The cache of a data set beside the run, completed; a prepared cache is used as it is."""
    if is_prepared(data):
        return open_given_cache(config, data)
    images = images_of(config, data)
    folder = cache_folder(Path(config.out).parent, data, config.prepare)
    return seen_in(decode(images, folder, config.prepare), config.dimension, config.slices)


def open_given_cache(config: PretrainConfig, data: Path) -> Cache:
    """The cache that `--data` names; options of its preparation that differ are refused."""
    if config.prepare != from_json((data / PROFILE).read_text(), data):
        raise FoveateError(
            f"--data {data} is a prepared cache that was made with other values of --prepare.*; omit these "
            "keys, or run `foveate prepare` with them into another folder."
        )
    if config.split:
        raise FoveateError(
            f"--data {data} is a prepared cache, which holds no file names: --split {config.split} cannot "
            "choose from it; run `foveate prepare --split` instead, and omit the key here."
        )
    say("a prepared cache does not name patients: overlap with a later test is found by voxels only")
    say_of_salt(data)
    cache = open_prepared(data)
    refuse_incomplete(data, complete_entries(data))
    for note in cache.notes:
        say(note)
    return seen_in(cache, config.dimension, config.slices)


def sample_cache(config: PretrainConfig, scratch: Path) -> tuple[list[int], Cache]:
    """How many images each data set has, and a cache of a few of each, evenly chosen, in a scratch folder."""
    found: list[int] = []

    def some(data: Path) -> Cache:
        if is_prepared(data):
            cache = open_given_cache(config, data)
            found.append(len(cache))
            return cache
        images = images_of(config, data)
        found.append(len(images))
        cache = decode(sampled(images), scratch / str(len(found)), config.prepare)
        return seen_in(cache, config.dimension, config.slices)

    cache = together(config, some)
    return found, cache

"""The images of a pre-training run."""

from __future__ import annotations

from pathlib import Path

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.types import FoveateError, Record
from foveate.data.cache.complete import complete_entries, refuse_incomplete
from foveate.data.cache.index import PROFILE, is_prepared
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import from_json
from foveate.data.cache.volumes import Cache, open_prepared
from foveate.runtime.images import decode, of_dimension, sampled, say_of_salt, seen_in
from foveate.runtime.selection import images_for_pretraining
from foveate.train.logging import say


def images_of(config: PretrainConfig, data: Path) -> list[Record]:
    """The images to train on, of the run's dimension."""
    return of_dimension(
        images_for_pretraining(config.source, data, config.split, config.patient_pattern), config.dimension
    )


def open_cache(config: PretrainConfig, data: Path) -> Cache:
    """The cache beside the run, completed with a progress bar; a prepared cache is used as it is."""
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


def sample_cache(config: PretrainConfig, data: Path, scratch: Path) -> tuple[int, Cache]:
    """How many images there are, and a cache of a few, evenly chosen, in a scratch folder."""
    if is_prepared(data):
        cache = open_given_cache(config, data)
        return len(cache), cache
    images = images_of(config, data)
    cache = decode(sampled(images), scratch, config.prepare)
    return len(images), seen_in(cache, config.dimension, config.slices)

"""A cache whose samples are places of its volumes, each kind of them with its share of the samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from foveate.core.boxes.tasks import BoxConfig
from foveate.core.types import Array
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.data.composed import Places
from foveate.data.order import Mix, Weighted

FINEST = 1000  # denominator of a share


def around_places(cache: Cache, config: BoxConfig) -> Cache:
    """The places of all volumes, one kind after the other; the cache itself where the task has none.

    Kinds are mixed as data sets are (`data.order`): in every block of samples each has its share, and all
    places of a kind are seen once before one is seen again. So of the many places without a finding others
    are drawn each time that those with one have been seen.
    """
    if not config.kinds:
        return cache
    volumes = list(cache)
    rows = np.concatenate([rows_of(number, volume, config) for number, volume in enumerate(volumes)])
    rows = rows[np.argsort(rows[:, 1], kind="stable")]
    shares = [Fraction(kind.share).limit_denominator(FINEST) for kind in config.kinds]
    sets = [
        Weighted(name=kind.name, share=share / sum(shares), images=int((rows[:, 1] == k).sum()))
        for k, (kind, share) in enumerate(zip(config.kinds, shares, strict=True))
    ]
    places = Places(volumes, rows, [kind.labels for kind in config.kinds])
    return Cache(places, cache.rejects, cache.notes, Mix(tuple(sets)))


def rows_of(number: int, volume: CachedVolume, config: BoxConfig) -> Array:
    """The places of a volume as `Places` has them."""
    found = config.places(volume)
    voxels = np.rint(found.centre).astype(np.int64).clip(0, np.array(volume.shape) - 1)
    return np.column_stack([np.full(len(found), number), found.label, voxels])

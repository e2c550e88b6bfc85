"""The intensity window of a data set: what its labelled voxels have, as nnU-Net takes it for CT."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from foveate.core.labels import LABELS
from foveate.core.types import FoveateError
from foveate.data.cache.encoding import Histogram
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume

ENDS = (0.5, 99.5)  # percentiles


def decoded_as(prepare: PrepareConfig) -> PrepareConfig:
    """How images are decoded before the window of their data set is known."""
    return replace(prepare, window="profile") if prepare.window == "dataset" else prepare


def labelled_histogram(volumes: Sequence[CachedVolume], ignore: Collection[int]) -> Histogram:
    """How often each source value occurs in voxels of a class, over volumes of one channel."""
    found = []
    for volume in volumes:
        zero = [0] * len(volume.shape)
        labels = volume.read_map(LABELS, zero, volume.shape)
        marked = (labels > 0) & ~np.isin(labels, list(ignore))
        codes, counts = np.unique(volume.codes(zero, volume.shape).array[0][marked], return_counts=True)
        if len(codes):
            values = codes * volume.entry.scale + volume.entry.offset
            found.append(Histogram(counts=counts, values=values.astype(np.float64)))
    if not found:
        raise FoveateError(
            "prepare.window dataset: no voxel of a class is in the training labels; accepted: at least two "
            "values, or `range` with prepare.intensity_range."
        )
    values, place = np.unique(np.concatenate([each.values for each in found]), return_inverse=True)
    counts = np.zeros(len(values), np.int64)
    np.add.at(counts, place, np.concatenate([each.counts for each in found]))
    return Histogram(counts=counts, values=values)


def window_of(volumes: Sequence[CachedVolume], ignore: Collection[int]) -> tuple[float, float]:
    """The source values that read as 0 and 1."""
    if volumes[0].entry.shape[0] > 1:
        raise FoveateError(
            "prepare.window dataset: accepted for images of one channel; say `foreground` for several."
        )
    counts = labelled_histogram(volumes, ignore)
    low, high = (counts.percentile(percent) for percent in ENDS)
    if not low < high:
        raise FoveateError(f"prepare.window dataset: nearly all labelled voxels have the value {low:g}.")
    return low, high


def seen_through(volume: CachedVolume, window: tuple[float, float]) -> CachedVolume:
    """The same volume with another intensity window."""
    return volume.replaced(entry=replace(volume.entry, low=window[0], high=window[1]))

"""Super-pixels of an image: a map of regions that look alike, found once and without labels.

Pictures are cut by Felzenszwalb's graph, volumes by SLIC, or plane by plane by the former.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from foveate.core.types import Array, Dimension


@dataclass(frozen=True, kw_only=True)
class SuperpixelConfig:
    """How regions are found, on values in [0, 1].

    Attributes:
        kind: Felzenszwalb's graph, in every plane across the last axis of a volume on its own, or SLIC.
        scale: Felzenszwalb: larger ones give larger regions.
        sigma: Gaussian blur before either, in voxels: without it regions fray in noise.
        segments: SLIC: about how many regions the foreground is cut into.
        compactness: SLIC: how much nearness counts against likeness.
        foreground: Values above it are foreground; a region most of whose voxels are not is dropped.
        smallest: Smallest region as a share of the foreground (of its plane), merged or dropped below.
    """

    kind: Literal["felzenszwalb", "slic"]
    scale: float = 10.0
    sigma: float = 0.8
    segments: int = 100
    compactness: float = 0.2
    foreground: float = 0.1
    smallest: float = 0.004

    @classmethod
    def preset(cls, dimension: Dimension) -> SuperpixelConfig:
        """The kind of a dimension."""
        return cls(kind=KINDS[dimension])


KINDS: dict[int, Literal["felzenszwalb", "slic"]] = {2: "felzenszwalb", 3: "slic"}


def superpixels(values: Array, spacing_mm: Sequence[float], config: SuperpixelConfig) -> Array:
    """Regions of an image (C, *S) with values in [0, 1]: int32 (*S), 1 to R, and 0 where there is none."""
    grey = values.mean(0, dtype=np.float64)
    if not (grey > config.foreground).any():
        return np.zeros(grey.shape, np.int32)
    if config.kind == "slic":
        return kept_regions(grow_clusters(grey, spacing_mm, config), grey, config)
    planes = grey.reshape(*grey.shape[:2], -1)
    regions = np.zeros(planes.shape, np.int32)
    for i in range(planes.shape[2]):
        found = kept_regions(cut_graph(planes[..., i], config), planes[..., i], config)
        regions[..., i] = np.where(found > 0, found + regions.max(), 0)
    return regions.reshape(grey.shape)


def smallest_size(grey: Array, config: SuperpixelConfig) -> int:
    """The fewest voxels of a region."""
    return max(1, round(config.smallest * int(np.count_nonzero(grey > config.foreground))))


def cut_graph(plane: Array, config: SuperpixelConfig) -> Array:
    """Felzenszwalb's regions of a plane, from 1 on."""
    from skimage.segmentation import felzenszwalb

    # By keyword all: the second position is the scale, and the last axis would be taken for channels.
    cut: Array = felzenszwalb(
        plane,
        scale=config.scale,
        sigma=config.sigma,
        min_size=smallest_size(plane, config),
        channel_axis=None,
    )
    return cut + 1


def grow_clusters(grey: Array, spacing_mm: Sequence[float], config: SuperpixelConfig) -> Array:
    """SLIC's regions, from 1 on; as many as make the wanted number in the foreground."""
    from skimage.segmentation import slic

    share = np.count_nonzero(grey > config.foreground) / grey.size
    wanted = max(2, round(config.segments / share))
    clusters: Array = slic(
        grey,
        n_segments=wanted,
        compactness=config.compactness,
        sigma=config.sigma,
        spacing=tuple(spacing_mm),
        channel_axis=None,
        start_label=1,
    )
    return clusters


def kept_regions(regions: Array, grey: Array, config: SuperpixelConfig) -> Array:
    """Without air and without regions that are too small, numbered anew: int32, 0 where dropped."""
    flat = regions.reshape(-1)
    sizes = np.bincount(flat)
    tissue = np.bincount(flat, weights=(grey.reshape(-1) > config.foreground), minlength=len(sizes))
    kept = (sizes >= smallest_size(grey, config)) & (2 * tissue > sizes)
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    return numbers[regions]

"""What is known of the values of one image, and where the image lies: facts that views and methods use."""

from __future__ import annotations

from dataclasses import dataclass

PERCENTS = (0.5, 1.0, 5.0, 50.0, 95.0, 99.0, 99.5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of the values of one region of one channel, in the image's own units.

    Attributes:
        voxels: How many there are.
        mean: Their mean.
        std: Their standard deviation, of the voxels themselves (divided by their number).
        percentiles: Values at `PERCENTS`: the lower neighbour, never between two.
    """

    voxels: int
    mean: float
    std: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """Of one channel.

    Attributes:
        whole: All voxels.
        foreground: The voxels above `threshold`; all of them where every value is the same.
        threshold: Otsu's, of the channel's own histogram: between which two classes the variance is largest.
    """

    whole: Statistics
    foreground: Statistics
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The image that views are taken from: what turns a voxel into a share of the image."""

    extent: tuple[int, ...]  # voxels along each axis
    spacing_mm: tuple[float, ...]

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Length of every axis.

        >>> Place(extent=(100, 50), spacing_mm=(0.5, 2.0)).extent_mm
        (50.0, 100.0)
        """
        return tuple(size * step for size, step in zip(self.extent, self.spacing_mm, strict=True))

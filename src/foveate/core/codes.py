"""Voxels as they are stored, and what they read as.

Numbers of 8 or 16 bits are compared and added up faster than the values they stand for; who needs few of the
values, or sums of them, starts from here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveate.core.types import Array

FINE = 2**14  # an end of a window may be rounded to a code where that moves it by 1 / FINE of it or less
ROUNDING = 1e-6  # codes by which a scale and an offset in floating point may miss a whole one


@dataclass(frozen=True, slots=True)
class Codes:
    """A window of an image: `zero` reads as 0 and `one` as 1, what lies beyond is clipped."""

    array: Array  # (C, *S)
    zero: float
    one: float
    inside: bool = False  # the window: nothing is left to clip

    def part(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The window [low, high), where it lies."""
        return replace(self, array=self.array[(slice(None), *map(slice, low, high))])

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, *S)."""
        return self.array.shape

    @property
    def are_values(self) -> bool:
        """Whether the numbers read as they are."""
        return self.inside and self.array.dtype.kind == "f" and (self.zero, self.one) == (0, 1)

    def values(self) -> Array:
        """What they read as, float32.

        >>> Codes(np.array([[-5, 0, 5, 10]], np.int16), 0.0, 10.0).values().tolist()
        [[0.0, 0.0, 0.5, 1.0]]
        """
        if self.are_values:
            return self.array
        values = self._near().astype(np.float32)
        values -= np.float32(self.zero)  # codes are exact in float32, so subtract first
        values *= np.float32(1 / (self.one - self.zero))
        return np.clip(values, 0.0, 1.0, out=values)

    def _near(self) -> Array:
        """The numbers close together, in the order in which they are stored.

        Copied as they are first: NumPy converts what lies apart in short pieces, in up to twice the time.
        """
        return self.array if self.array.flags.c_contiguous else np.array(self.array, order="K")

    def share_above(self, threshold: float) -> float:
        """The share of them that reads as more than a threshold, 0 <= threshold < 1."""
        limit: float = self.zero + threshold * (self.one - self.zero)
        if self.array.dtype.kind != "f":  # whole numbers are compared as such
            whole = round(limit)
            limit = whole if abs(limit - whole) < ROUNDING else math.floor(limit)
        return np.count_nonzero(self.array > limit) / self.array.size  # faster than the mean of booleans

    def addable(self) -> Codes:
        """The same in numbers whose sums read as sums: whole ones inside the window, from 0 on, or values."""
        if self.inside:
            return self
        low, high = round(self.zero), round(self.one)
        rounded = max(abs(low - self.zero), abs(high - self.one))
        if self.array.dtype.kind == "f" or rounded * FINE > self.one - self.zero:
            return Codes(self.values(), 0.0, 1.0, inside=True)
        least, most = int(np.iinfo(self.array.dtype).min), int(np.iinfo(self.array.dtype).max)
        if low > most or high < least:  # all read as one end
            return Codes(self.values(), 0.0, 1.0, inside=True)
        if low <= least and most <= high and least == 0:
            return replace(self, inside=True)
        low, high = max(low, least), min(high, most)
        held = np.clip(self._near(), low, high)
        held -= held.dtype.type(low)  # what exceeds the type comes out right without a sign
        return Codes(held.view(f"u{held.itemsize}"), self.zero - low, self.one - low, inside=True)

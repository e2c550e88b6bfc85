"""Masks made tidy: the largest component of a class, its holes filled. Both are options, off by default."""

from __future__ import annotations

import numpy as np

from foveate.core.types import Array

PIECE = 1 << 22  # voxels counted at once: np.bincount makes 64-bit copies


def largest_component(mask: Array) -> Array:
    """Only the largest face-connected component; of equal ones the first. An empty mask stays empty."""
    from scipy import ndimage

    kept = np.zeros_like(mask)
    box = bounding_box(mask)
    if box is None:
        return kept
    numbers, count = ndimage.label(mask[box])
    sizes = component_sizes(numbers, count)
    sizes[0] = 0
    kept[box] = numbers == sizes.argmax()
    return kept


def fill_holes(mask: Array) -> Array:
    """Background that no face-connected path joins to the border becomes part of the mask."""
    from scipy import ndimage

    filled = mask.copy()
    box = bounding_box(mask)
    if box is None:
        return filled
    numbers, count = ndimage.label(~mask[box])
    closed = np.ones(count + 1, dtype=bool)
    for axis in range(numbers.ndim):
        for end in (0, -1):
            closed[np.unique(np.take(numbers, end, axis=axis))] = False
    closed[0] = True  # the mask itself
    filled[box] = closed[numbers]
    return filled


def tidy_labels(labels: Array, classes: int, *, largest: bool, holes: bool) -> Array:
    """Both steps for the classes 1 to `classes` of a label map, in place; holes only take background."""
    for value in range(1, classes + 1):
        mask = labels == value
        if not (largest or holes) or not mask.any():
            continue
        tidy = largest_component(mask) if largest else mask
        labels[mask & ~tidy] = 0
        if holes:
            labels[fill_holes(tidy) & (labels == 0)] = value
    return labels


def tidy_mask(mask: Array, *, largest: bool, holes: bool) -> Array:
    """Both steps for one mask, for classes that may overlap."""
    tidy = largest_component(mask) if largest else mask
    return fill_holes(tidy) if holes else tidy


def bounding_box(mask: Array) -> tuple[slice, ...] | None:
    """The smallest box around a mask; None where it is empty."""
    box = []
    for axis in range(mask.ndim):
        others = tuple(i for i in range(mask.ndim) if i != axis)
        there = np.flatnonzero(mask.any(axis=others))
        if not there.size:
            return None
        box.append(slice(int(there[0]), int(there[-1]) + 1))
    return tuple(box)


def component_sizes(numbers: Array, count: int) -> Array:
    """Voxels of every component number from 0 to `count`."""
    flat, sizes = numbers.reshape(-1), np.zeros(count + 1, dtype=np.int64)
    for start in range(0, flat.size, PIECE):
        sizes += np.bincount(flat[start : start + PIECE], minlength=count + 1)
    return sizes

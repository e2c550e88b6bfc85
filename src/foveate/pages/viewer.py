"""Volumes inside a page, looked at slice by slice."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from foveate.core.types import Array, Json
from foveate.pages.elements import Html, el
from foveate.pages.page import Page
from foveate.pages.pictures import SECRET

MOST_VOXELS = 2**21  # of a volume: 128 along every axis


@dataclass(frozen=True, kw_only=True)
class Layer:
    """Regions over an image.

    Attributes:
        name: What they are.
        regions: (*S), 0 for none, else the number of a class.
        outlined: Whether their outline is drawn, or all of them.
    """

    name: str
    regions: Array
    outlined: bool = False


@dataclass(frozen=True, kw_only=True)
class Box:
    """A box in an image, turned as it may be.

    Attributes:
        name: Boxes of one name are drawn alike.
        corners: (2 ** n, n) in voxels; bit a of a corner's number: at which end of the box's axis a.
    """

    name: str
    corners: Array


@dataclass(frozen=True, kw_only=True)
class Scene:
    """An image with what lies over it.

    Attributes:
        name: For the list of images.
        image: (*S) in RAS+ order, 8 bits.
        spacing_mm: Size of a voxel.
        layers: Regions, drawn in this order.
        boxes: Boxes.
        classes: Names of the numbers from 1 on.
        note: What else there is to say.
        body: Whether the axes are those of a body, whose directions have letters.
    """

    name: str
    image: Array
    spacing_mm: Sequence[float]
    layers: Sequence[Layer] = ()
    boxes: Sequence[Box] = ()
    classes: Sequence[str] = ()
    note: str = ""
    body: bool = True


def viewer(page: Page, scenes: Sequence[Scene]) -> Html:
    """Images to scroll through; those that there is no room for are left out, and that is said."""
    if not scenes:
        return Html("")
    if not page.images:
        return el("p", SECRET, class_="note")
    shown: list[Json] = []
    for scene in scenes:
        found = packed(scene)
        size = sum(len(str(found[key])) for key in ("image", "layers"))
        if page.afford(size):
            shown.append(found)
    left_out = len(scenes) - len(shown)
    note = f"{left_out} of {len(scenes)} images are left out: there is no room for them." if left_out else ""
    drawn = page.widget("viewer", {"scenes": shown}) if shown else ""
    return Html(drawn + (el("p", note, class_="note") if note else ""))


def packed(scene: Scene) -> dict[str, Json]:
    """A scene as the script reads it."""
    scene = coarser(scene)
    return {
        "name": scene.name,
        "note": scene.note,
        "shape": list(scene.image.shape),
        "spacing": list(map(float, scene.spacing_mm)),
        "image": squeezed(scene.image),
        "classes": list(scene.classes),
        "body": scene.body,
        "layers": [
            {"name": each.name, "outlined": each.outlined, "data": squeezed(each.regions)}
            for each in scene.layers
        ],
        "boxes": [{"name": each.name, "corners": np.round(each.corners, 2).tolist()} for each in scene.boxes],
    }


def coarser(scene: Scene) -> Scene:
    """The same with fewer voxels, where there are more than `MOST_VOXELS`, and a note that says so."""
    step = coarseness(scene.image.shape)
    if step == 1:
        return scene
    return replace(
        scene,
        image=block_means(scene.image, step),
        spacing_mm=[each * step for each in scene.spacing_mm],
        layers=[replace(each, regions=nearest(each.regions, step)) for each in scene.layers],
        boxes=[replace(each, corners=(each.corners + 0.5) / step - 0.5) for each in scene.boxes],
        note=f"{scene.note} Shown coarser than it is, by {step} along every axis.".strip(),
    )


def coarseness(shape: Sequence[int]) -> int:
    """By how much a volume is made coarser along every axis to keep to `MOST_VOXELS`."""
    step = 1
    while math.prod(-(-n // step) for n in shape) > MOST_VOXELS:
        step += 1
    return step


def block_means(image: Array, step: int) -> Array:
    """The mean of every block of voxels; one that sticks out counts what there is."""
    mean: Array = image.astype(np.float32)
    for axis in range(image.ndim):
        starts = np.arange(0, mean.shape[axis], step)
        counts = np.diff(np.append(starts, mean.shape[axis]))
        counts = counts.reshape([-1 if a == axis else 1 for a in range(mean.ndim)])
        mean = np.add.reduceat(mean, starts, axis=axis) / counts
    return np.rint(mean).astype(np.uint8)


def nearest(regions: Array, step: int) -> Array:
    """The middle voxel of every block."""
    places = [np.minimum(np.arange(0, n, step) + step // 2, n - 1) for n in regions.shape]
    return regions[np.ix_(*places)]


def squeezed(array: Array) -> str:
    """Bytes, the last axis fastest, compressed as the browser's DecompressionStream reads them."""
    return base64.b64encode(zlib.compress(array.astype(np.uint8).tobytes(), 6)).decode()


def grey_levels(values: Array) -> Array:
    """Values in [0, 1] as 8 bits."""
    levels: Array = np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)
    return levels


def numbered(masks: Mapping[str, Array]) -> Array:
    """Masks as numbers from 1 on; where they overlap, the smaller one is seen."""
    order = sorted(enumerate(masks.values(), 1), key=lambda each: -int(each[1].sum()))
    regions = np.zeros(next(iter(masks.values())).shape, np.uint8)
    for number, mask in order:
        regions[mask.astype(bool)] = number
    return regions

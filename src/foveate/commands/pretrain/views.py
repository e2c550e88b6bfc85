"""Where the views of some samples lie in their images, and what the method marks in them, for the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from torch import Tensor

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.contracts import Method, VolumeReader
from foveate.core.types import Array, Batch
from foveate.data.cache.volumes import Cache
from foveate.data.loader import batches, records_of
from foveate.pages.scenes import as_bytes, corners_of, write_scenes
from foveate.pages.viewer import Box, Layer, Scene, block_means, coarseness, grey_levels
from foveate.runtime.report.runs import VIEWS
from foveate.views.pipeline import make_views

SAMPLES = 2
SLAB = 16  # blocks of planes that are read at once


def note_views(method: Method, config: PretrainConfig, cache: Cache, out: Path) -> None:
    """Write the first samples of the run as they are drawn, unless pictures are off or it was done before."""
    if not config.preview_every or (out / VIEWS).exists():
        return
    count = min(SAMPLES, config.batch_size)
    drawn = partial(make_views, specs=method.crops, seed=config.seed)
    batch = next(batches(cache, drawn, seed=config.seed, first_step=0, steps=1, batch_size=count))
    volumes = records_of(cache, seed=config.seed, indices=batch["index"])
    marks = method.marks(batch, config.seed)
    scenes: list[Scene] = []
    for i, volume in enumerate(volumes):
        seen: VolumeReader = volume
        if "slice" in batch and volume.planes is not None:
            seen = volume.planes[int(batch["slice"][i, 1])]
        scenes += [source_of(seen, method, batch, i), *views_of(seen, batch, i, marks)]
    write_scenes(out / VIEWS, scenes)


def source_of(volume: VolumeReader, method: Method, batch: Batch, i: int) -> Scene:
    """The image of a sample with the boxes of its views; of the global ones each has its own name."""
    image, step = overview(volume)
    boxes = []
    for name, affines in batch["affines"].items():
        corners = (corners_of(affines[i].double().numpy(), method.crops[name].grid) + 0.5) / step - 0.5
        for number, each in enumerate(corners, 1):
            boxes.append(
                Box(name=f"{name} view {number}" if name == "global" else f"{name} views", corners=each)
            )
    return Scene(
        name=f"sample {i + 1}: its image",
        image=image,
        spacing_mm=[each * step for each in volume.spacing_mm],
        boxes=boxes,
        note=f"Shown coarser than it is, by {step} along every axis." if step > 1 else "",
    )


def overview(volume: VolumeReader) -> tuple[Array, int]:
    """An image in 8 bits with so few voxels that a page has room for it, and by how much it is coarser."""
    step, shape = coarseness(volume.shape), volume.shape
    slabs = []
    for start in range(0, shape[0], SLAB * step):
        low = [start, *[0] * (len(shape) - 1)]
        high = [min(start + SLAB * step, shape[0]), *shape[1:]]
        slabs.append(block_means(grey_levels(volume.read(low, high)[0]), step))
    return np.concatenate(slabs), step


def views_of(volume: VolumeReader, batch: Batch, i: int, marks: Mapping[str, Tensor]) -> Iterator[Scene]:
    """The global views of a sample with what is marked in them."""
    for number, (view, affine) in enumerate(
        zip(batch["crops"]["global"][i], batch["affines"]["global"][i], strict=True)
    ):
        yield Scene(
            name=f"sample {i + 1}: global view {number + 1}",
            image=grey_levels(view[0].numpy()),
            spacing_mm=spacing_in(affine, volume.spacing_mm),
            layers=[
                Layer(name=title, regions=as_bytes(marked[i, number].numpy()))
                for title, marked in marks.items()
                if number < marked.shape[1]
            ],
            classes=[title for title, marked in marks.items() if int(marked.max()) == 1],
            body=False,
        )


def spacing_in(affine: Tensor, spacing_mm: Sequence[float]) -> list[float]:
    """Millimetres between neighbours of a view along each of its axes."""
    columns = affine[:, :-1].T.tolist()
    return [math.hypot(*(a * mm for a, mm in zip(column, spacing_mm, strict=True))) for column in columns]

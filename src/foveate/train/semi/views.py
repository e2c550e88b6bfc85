"""Windows of labelled and of unlabelled images in one batch: of the latter every label is unknown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch

from foveate.core.contracts import CropViews, Trainable, VolumeReader
from foveate.core.labels import LABELS
from foveate.core.types import CropSpec
from foveate.views.pipeline import make_views

MakeViews = Callable[..., dict[str, CropViews]]
UNKNOWN = -1  # no label file holds it, and losses ignore it


def views_for(model: Trainable) -> MakeViews:
    """Who makes the views of a sample: unlabelled images get maps only beside those of labelled ones."""
    return views_of_either if model.takes_unknown_maps else make_views


def views_of_either(
    volume: VolumeReader, index: int, *, specs: Mapping[str, CropSpec], seed: int
) -> dict[str, CropViews]:
    """The views of a sample; without a label map none is centred on a class, and every voxel is unknown."""
    if LABELS in volume.map_names:
        return make_views(volume, index, specs=specs, seed=seed)
    anywhere = {name: replace(spec, around="", around_probability=0.0) for name, spec in specs.items()}
    views = make_views(volume, index, specs=anywhere, seed=seed)
    return {name: each._replace(maps={LABELS: unknown_like(each)}) for name, each in views.items()}


def unknown_like(views: CropViews) -> torch.Tensor:
    """A map (V, *S) in which nothing is known."""
    shape = (len(views.images), *views.images.shape[2:])
    return torch.full(shape, UNKNOWN, dtype=torch.int64)

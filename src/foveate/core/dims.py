"""The only table of what differs between 2D and 3D; nothing else asks for the dimension."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

from foveate.core.types import CropSpec, Dimension, Size


@dataclass(frozen=True, slots=True, kw_only=True)
class Layers:
    """The torch layers of one dimension."""

    conv: type[nn.Conv2d | nn.Conv3d]
    conv_transpose: type[nn.ConvTranspose2d | nn.ConvTranspose3d]
    batch_norm: type[nn.BatchNorm2d | nn.BatchNorm3d]
    instance_norm: type[nn.InstanceNorm2d | nn.InstanceNorm3d]
    max_pool: type[nn.MaxPool2d | nn.MaxPool3d]
    avg_pool: type[nn.AvgPool2d | nn.AvgPool3d]
    linear_interpolation: str
    channels_last: torch.memory_format  # channels beside each other: convolutions are faster so
    axis_order: str  # of arrays, for the card
    upwards: bool  # whether the last axis of a picture grows upwards: RAS+ volumes do, pictures do not
    planes: tuple[int, ...]  # axes to cut through for a look at it; empty: it is flat already


LAYERS: dict[int, Layers] = {
    2: Layers(
        conv=nn.Conv2d,
        conv_transpose=nn.ConvTranspose2d,
        batch_norm=nn.BatchNorm2d,
        instance_norm=nn.InstanceNorm2d,
        max_pool=nn.MaxPool2d,
        avg_pool=nn.AvgPool2d,
        linear_interpolation="bilinear",
        channels_last=torch.channels_last,
        axis_order="(x to the right, y downwards)",
        upwards=False,
        planes=(),
    ),
    3: Layers(
        conv=nn.Conv3d,
        conv_transpose=nn.ConvTranspose3d,
        batch_norm=nn.BatchNorm3d,
        instance_norm=nn.InstanceNorm3d,
        max_pool=nn.MaxPool3d,
        avg_pool=nn.AvgPool3d,
        linear_interpolation="trilinear",
        channels_last=torch.channels_last_3d,
        axis_order="RAS+, (x, y, z)",
        upwards=True,
        planes=(2, 1),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Defaults:
    """Defaults of a pre-training run for one dimension and size."""

    global_crops: CropSpec
    local_crops: CropSpec
    encoder: str
    width: int
    batch_size: int
    steps: int
    optimizer: str
    learning_rate: float
    warmup_steps: int
    gflop_per_sample: float  # of one PCRLv2 training step, counted on the published network


# 2D: multi-crop, views are shares of the whole image. 3D: sub-crops of fixed sizes in voxels.
GLOBAL_2D = CropSpec(count=2, grid=(224, 224), volume_share=(0.3, 1.0), flip_axes=(0,), rotation_degrees=10.0)
LOCAL_2D = CropSpec(count=6, grid=(96, 96), volume_share=(0.05, 0.3), flip_axes=(0,), rotation_degrees=10.0)
GLOBAL_3D = CropSpec(
    count=2,
    grid=(64, 64, 32),
    source_sizes=((96, 96, 64), (96, 96, 96), (112, 112, 64), (64, 64, 32)),
    min_iou=0.3,
    flip_axes=(0,),
    rotation_degrees=10.0,
    zoom=0.1,
)
LOCAL_3D = CropSpec(
    count=6,
    grid=(16, 16, 16),
    source_sizes=((32, 32, 16), (16, 16, 16), (32, 32, 32), (8, 8, 8)),
    inside="global",
    flip_axes=(0,),
    rotation_degrees=10.0,
    zoom=0.1,
)

DEFAULTS: dict[tuple[int, str], Defaults] = {
    (2, "paper"): Defaults(
        global_crops=GLOBAL_2D,
        local_crops=LOCAL_2D,
        encoder="resnet18",
        width=64,
        batch_size=64,
        steps=294_000,  # 240 epochs of 78,468 radiographs
        optimizer="sgd",
        learning_rate=1e-2,
        warmup_steps=0,
        gflop_per_sample=68.0,
    ),
    (2, "small"): Defaults(  # a ResNet needs multiples of 32: 64, not the 48 that is half of 96
        global_crops=replace(GLOBAL_2D, grid=(96, 96)),
        local_crops=replace(LOCAL_2D, grid=(64, 64)),
        encoder="resnet18",
        width=8,
        batch_size=4,
        steps=300,
        optimizer="adamw",
        learning_rate=3e-3,
        warmup_steps=20,
        gflop_per_sample=0.3,
    ),
    (3, "paper"): Defaults(
        global_crops=GLOBAL_3D,
        local_crops=LOCAL_3D,
        encoder="unet3d",
        width=32,
        batch_size=32,
        steps=75_000,  # 240 epochs of 9,968 crop pairs
        optimizer="sgd",
        learning_rate=1e-3,
        warmup_steps=0,
        gflop_per_sample=1271.0,
    ),
    (3, "small"): Defaults(
        global_crops=replace(
            GLOBAL_3D,
            grid=(32, 32, 32),
            source_sizes=((48, 48, 32), (48, 48, 48), (40, 40, 40), (32, 32, 32)),
        ),
        local_crops=replace(LOCAL_3D, source_sizes=((24, 24, 16), (16, 16, 16), (24, 24, 24), (12, 12, 12))),
        encoder="unet3d",
        width=8,
        batch_size=4,
        steps=300,
        optimizer="adamw",
        learning_rate=3e-3,
        warmup_steps=20,
        gflop_per_sample=25.0,
    ),
}


def defaults(dimension: Dimension, size: Size) -> Defaults:
    """The row of the table for a dimension and a size."""
    return DEFAULTS[(dimension, size)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDefaults:
    """Defaults of a fine-tuning run for one dimension and size."""

    patch: tuple[int, ...]  # of a segmentation, in voxels
    grid: tuple[int, ...]  # of a classification
    batch_size: int
    steps: int
    learning_rate: float  # where a value of the whole image is learned
    map_learning_rate: float  # where label maps are


TASK_DEFAULTS: dict[tuple[int, str], TaskDefaults] = {
    (2, "paper"): TaskDefaults(
        patch=(512, 512),
        grid=(224, 224),
        batch_size=16,
        steps=20_000,
        learning_rate=3e-4,
        map_learning_rate=3e-4,
    ),
    (2, "small"): TaskDefaults(
        patch=(256, 256),
        grid=(128, 128),
        batch_size=4,
        steps=400,
        learning_rate=2e-3,
        map_learning_rate=1e-3,
    ),
    (3, "paper"): TaskDefaults(
        patch=(96, 96, 96),
        grid=(96, 96, 96),
        batch_size=2,
        steps=50_000,
        learning_rate=3e-4,
        map_learning_rate=3e-4,
    ),
    (3, "small"): TaskDefaults(
        patch=(40, 40, 40),
        grid=(48, 48, 48),
        batch_size=2,
        steps=400,
        learning_rate=3e-3,
        map_learning_rate=3e-3,
    ),
}


# Chosen on validation patients: docs/tasks/segmentation.md says what each was worth.
SEGMENTED_2D = CropSpec(
    count=1, grid=(), rotation_degrees=23.0, zoom=0.22, zoom_axes="together", shift=0.075, around="labels"
)
SEGMENTED_3D = CropSpec(count=1, grid=(), rotation_degrees=15.0, zoom=0.15, shift=0.075, around="labels")


def segmentation_crops(dimension: Dimension, size: Size) -> CropSpec:
    """Windows of a segmentation, boxes of voxels at the image's own resolution."""
    patch = TASK_DEFAULTS[dimension, size].patch
    spec = SEGMENTED_2D if dimension == 2 else SEGMENTED_3D
    return replace(spec, grid=patch, source_sizes=(patch,), around_probability=0.5)


def classification_crops(dimension: Dimension, size: Size) -> CropSpec:
    """Windows of a classification, the whole image but for its rim."""
    grid = TASK_DEFAULTS[dimension, size].grid
    return CropSpec(count=1, grid=grid, volume_share=(0.7, 1.0), flip_axes=(0,), rotation_degrees=10.0)


DETECTED: dict[int, float] = {2: 0.3, 3: 0.1}  # volumes of boxes overlap less than areas by the same error


def detection_crops(dimension: Dimension, size: Size) -> CropSpec:
    """Windows of a detection: as those of a segmentation, but with a finding anywhere in them.

    One that is drawn around a finding is moved so far that where it lies says nothing.
    """
    return replace(segmentation_crops(dimension, size), flip_axes=(0,), shift=0.4)


def detection_iou(dimension: Dimension) -> float:
    """Intersection over union from which on a box counts as right."""
    return DETECTED[dimension]


CUBES: dict[tuple[int, str], tuple[int, ...]] = {
    (2, "paper"): (96, 96),
    (2, "small"): (64, 64),
    (3, "paper"): (48, 48, 48),
    (3, "small"): (32, 32, 32),
}


def candidate_crops(dimension: Dimension, size: Size) -> CropSpec:
    """Windows around candidates, at the image's own resolution, with a finding or without one."""
    grid = CUBES[dimension, size]
    spec = SEGMENTED_2D if dimension == 2 else SEGMENTED_3D
    return replace(spec, grid=grid, source_sizes=(grid,), flip_axes=(0,), shift=0.1, around="")


def localization_crops(dimension: Dimension, size: Size) -> CropSpec:
    """Windows of a localisation, the whole image: moved, turned, zoomed in and out, never mirrored."""
    grid = TASK_DEFAULTS[dimension, size].grid
    return CropSpec(count=1, grid=grid, rotation_degrees=10.0, zoom=0.15, zoom_axes="together", shift=0.075)

"""The encoders by name: one line adds one of ours, an entry point one of anybody's."""

from __future__ import annotations

from foveate.core.plugins import EncoderEntry
from foveate.core.registry import Registry

OURS = "foveate.nets.encoders"
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")

ENCODERS: Registry[EncoderEntry] = Registry(
    "encoder",
    "foveate.encoders",
    {
        "unet2d": f"{OURS}.unet:UNET_2D",
        "unet3d": f"{OURS}.unet:UNET_3D",
        **dict.fromkeys(RESNETS, f"{OURS}.resnet:RESNET"),
        "resenc": f"{OURS}.resenc:RESENC",
        "swin": f"{OURS}.swin:SWIN",
    },
)

"""The encoders by name: one line adds one of ours, an entry point one of anybody's."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.core.registry import Registry

if TYPE_CHECKING:  # a list of names does without torch
    from foveate.core.networks import AnyEncoder

OURS = "foveate.nets.encoders"
MODULE = "module"  # a torch module that Python gives: known while it does (`encoders.given`)
RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")

ENCODERS: Registry[AnyEncoder] = Registry(
    "encoder",
    "foveate.encoders",
    {
        "unet2d": f"{OURS}.unet:UNET_2D",
        "unet3d": f"{OURS}.unet:UNET_3D",
        **dict.fromkeys(RESNETS, f"{OURS}.resnet:RESNET"),
        "resenc": f"{OURS}.resenc:RESENC",
        "swin": f"{OURS}.swin:SWIN",
        "sononet": f"{OURS}.sononet:SONONET",
    },
    needs=("config", "build", "dimensions", "upsample"),
)

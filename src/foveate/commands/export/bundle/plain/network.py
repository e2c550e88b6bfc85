"""The network of this bundle: an encoder, a decoder with or without skips, and one convolution."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .encoders import CONV, ENCODERS, conv_block, norm_of

TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
FEWEST = 8  # channels of a decoder's map
LEAST_DEVIATION = 1e-4
MEAN, DEVIATION = 0.449, 0.226  # of grey ImageNet


class DecoderBlock(nn.Module):
    """Doubles the resolution."""

    def __init__(self, inputs: int, outputs: int, skip: int, dimension: int, said: Mapping[str, Any]) -> None:
        super().__init__()
        transposed, norm = said["upsample"] == "transpose", said["norm"]
        if said["light"]:
            self.up: nn.Module = TRANSPOSED[dimension](inputs, outputs, 2, stride=2)
            self.convs = nn.Sequential(norm_of(norm, outputs, dimension), nn.ReLU())
            return
        self.up = (
            TRANSPOSED[dimension](inputs, inputs, 2, stride=2)
            if transposed
            else nn.Upsample(scale_factor=2, mode="nearest")
        )
        self.convs = nn.Sequential(
            conv_block(inputs + skip, outputs, dimension, norm, transposed),
            conv_block(outputs, outputs, dimension, norm, transposed),
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """The next finer map."""
        x = self.up(x)
        found: Tensor = self.convs(x if skip is None else torch.cat((x, skip), dim=1))
        return found


class Decoder(nn.Module):
    """Blocks up to the resolution of the image, each with half the channels of the one before."""

    def __init__(
        self, channels: Sequence[int], strides: Sequence[int], dimension: int, said: Mapping[str, Any]
    ) -> None:
        super().__init__()
        scales = strides[-1].bit_length() - 1
        own = [max(channels[-1] >> (i + 1), FEWEST) for i in range(scales)]
        at = dict(zip(strides, channels, strict=True)) if said["skips"] else {}
        wanted = [strides[-1] >> (i + 1) for i in range(scales)]
        self.outputs = own[-1]
        self.levels = [strides.index(s) if s in at else None for s in wanted]
        self.blocks = nn.ModuleList(
            DecoderBlock(inputs, outputs, at.get(stride, 0), dimension, said)
            for inputs, outputs, stride in zip((channels[-1], *own[:-1]), own, wanted, strict=True)
        )

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """The finest map."""
        x = maps[-1]
        for block, level in zip(self.blocks, self.levels, strict=True):
            x = block(x, None if level is None else maps[level])
        return x


class Network(nn.Module):
    """Images with values in [0, 1] to a number for every class and voxel, before softmax or sigmoid.

    Args:
        dimension: 2 or 3.
        encoder: Its name and its arguments.
        decoder: Its arguments.
        classes: Outputs of every voxel.
        normalisation: Of the images: "zscore", "imagenet", "dataset" or "none".
    """

    def __init__(
        self,
        dimension: int,
        encoder: Mapping[str, Any],
        decoder: Mapping[str, Any],
        classes: int,
        normalisation: str,
    ) -> None:
        super().__init__()
        self.normalisation, self.in_channels = normalisation, encoder["in_channels"]
        self.encoder = ENCODERS[encoder["name"]](dimension, encoder)
        self.decoder = Decoder(self.encoder.channels, self.encoder.strides, dimension, decoder)
        self.head = CONV[dimension](self.decoder.outputs, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """(B, C, *S) to (B, K, *S); sizes are multiples of the coarsest stride."""
        if images.shape[1] == 1 != self.in_channels:
            images = images.expand(-1, self.in_channels, *images.shape[2:])
        found: Tensor = self.head(self.decoder(self.encoder(self.normalised(images))))
        return found

    def normalised(self, images: Tensor) -> Tensor:
        """Of every image or window by itself."""
        if self.normalisation == "imagenet":
            return torch.add(images.new_full((), -MEAN / DEVIATION), images, alpha=1 / DEVIATION)
        if self.normalisation == "dataset":
            return (images - 0.5) / 0.2
        if self.normalisation == "zscore":
            over = tuple(range(1, images.ndim))
            centred = images - images.mean(over, keepdim=True)
            deviation = centred.square().mean(over, keepdim=True).sqrt()
            return centred / deviation.clamp_min(LEAST_DEVIATION)
        return images

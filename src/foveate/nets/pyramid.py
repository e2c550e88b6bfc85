"""The pyramid: an encoder and a decoder that yields one feature map per scale, coarse to fine."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeVar, final

import torch
from torch import Tensor, nn

from foveate.core.dims import LAYERS
from foveate.core.networks import Encoder, EncoderConfig, Network
from foveate.core.types import Dimension, FoveateError, Norm, Upsample
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.layers import ConvBlock, laid_out, norm_layer

Each = TypeVar("Each")


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """The expanding half.

    Attributes:
        skips: Concatenate the encoder's map of the same stride. PCRLv2 pre-trains without.
        upsample: "transpose" convolutions (PCRLv2 in 3D) or "nearest" copies (PCRLv2 in 2D).
        light: One transposed convolution per scale and nothing else, without skips: where only the encoder
            is wanted afterwards, as Context Restoration has it for classification.
        norm: Normalisation of every block.
    """

    skips: bool = False
    light: bool = False
    upsample: Upsample = "transpose"
    norm: Norm = "batch"


FEWEST = 8  # channels: a narrow network must still be able to say something at full resolution


class DecoderBlock(nn.Module):
    """Doubles the resolution."""

    def __init__(
        self, inputs: int, outputs: int, skip: int, config: DecoderConfig, dimension: Dimension
    ) -> None:
        super().__init__()
        if config.light:
            self.up: nn.Module = LAYERS[dimension].conv_transpose(inputs, outputs, 2, stride=2)
            norm = norm_layer(config.norm, outputs, dimension)
            self.convs = nn.Sequential(norm, nn.ReLU(inplace=True))
            return
        transpose = config.upsample == "transpose"
        self.up = (
            LAYERS[dimension].conv_transpose(inputs, inputs, 2, stride=2)
            if transpose
            else nn.Upsample(scale_factor=2, mode="nearest")
        )
        self.convs = nn.Sequential(
            ConvBlock(inputs + skip, outputs, dimension, config.norm, bias=transpose),
            ConvBlock(outputs, outputs, dimension, config.norm, bias=transpose),
        )

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        """(B, C, *S) to (B, C', *2S)."""
        x = self.up(x)
        x = x if skip is None else torch.cat((x, skip), dim=1)
        convolved: Tensor = self.convs(x)
        return convolved


class Decoder(nn.Module):
    """Blocks from the bottleneck up to stride 1, each with half the channels of the one before."""

    def __init__(
        self,
        encoder_channels: tuple[int, ...],
        encoder_strides: tuple[int, ...],
        config: DecoderConfig,
        dimension: Dimension,
    ) -> None:
        super().__init__()
        if config.light and config.skips:
            raise FoveateError("--decoder.light true has no skips; accepted with --decoder.skips false.")
        self.norm, self.light = config.norm, config.light
        deepest, coarsest = encoder_channels[-1], encoder_strides[-1]
        scales = coarsest.bit_length() - 1
        self.strides = tuple(coarsest >> (i + 1) for i in range(scales))
        self.channels = tuple(max(deepest >> (i + 1), FEWEST) for i in range(scales))
        self.below = (deepest, *self.channels[:-1])
        at_stride = dict(zip(encoder_strides, encoder_channels, strict=True)) if config.skips else {}
        self.skip_level = [encoder_strides.index(s) if s in at_stride else None for s in self.strides]
        self.blocks = nn.ModuleList(
            DecoderBlock(inputs, outputs, at_stride.get(stride, 0), config, dimension)
            for inputs, outputs, stride in zip(self.below, self.channels, self.strides, strict=True)
        )

    @property
    def own_channels(self) -> dict[str, int]:
        """The weights that the encoder's map reaches or could reach, with the channels that are not its."""
        names = [f"blocks.{i}.convs.0.conv.weight" for i in range(len(self.blocks))]
        return dict(zip(names, self.below, strict=True))

    def forward(self, encoded: list[Tensor], scales: int) -> list[Tensor]:
        """The first `scales` maps, coarse to fine: a block that nobody asked for is not computed."""
        x, maps = encoded[-1], []
        for block, level in zip(self.blocks[:scales], self.skip_level, strict=False):
            x = block(x, None if level is None else encoded[level])
            maps.append(x)
        return maps

    if TYPE_CHECKING:  # that of nn.Module takes and gives anything

        def __call__(self, encoded: list[Tensor], scales: int) -> list[Tensor]:
            """As `forward`."""


@final
class Pyramid(Network):
    """Encoder and decoder together, as every method sees them."""

    decoder: Decoder

    def __init__(self, encoder: Encoder, decoder: Decoder, dimension: Dimension) -> None:
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.dimension, self.in_channels = dimension, encoder.in_channels
        self.channels, self.strides, self.norm = decoder.channels, decoder.strides, decoder.norm
        self.encoder_channels = encoder.channels

    @property
    def stride(self) -> int:
        """The coarsest stride: every view must be a multiple of it on every axis."""
        return 2 * self.strides[0]

    @property
    def parts(self) -> dict[str, nn.Module]:
        """Encoder and decoder; a light decoder served its purpose and stays behind."""
        parts: dict[str, nn.Module] = {"encoder": self.encoder}
        return parts if self.decoder.light else parts | {"decoder": self.decoder}

    def chosen_scales(self, scales: tuple[int, ...] | Literal["all"]) -> list[int]:
        """Indices of the scales that a configuration names, coarse to fine."""
        every = list(range(len(self.channels)))
        chosen = every if scales == "all" else sorted(set(scales))
        if not chosen or not set(chosen) <= set(every):
            raise FoveateError(
                f'method.scales: {scales} does not fit this pyramid; accepted: some of {every} or "all".'
            )
        return chosen

    def chosen_levels(self, levels: tuple[int, ...]) -> list[int]:
        """Those of `numbered` maps that a configuration names, rising."""
        known = sorted(numbered(self.encoder_channels, self.channels))
        if not set(levels) <= set(known):
            raise FoveateError(
                f"method.levels: {levels} does not fit this network; accepted: some of {known}."
            )
        return sorted(set(levels))

    def keep_scales(self, count: int) -> None:
        """Drop the decoder blocks after the first `count`: what no term reads needs no weights."""
        self.decoder.blocks, self.decoder.below = self.decoder.blocks[:count], self.decoder.below[:count]

    def sharing(self) -> Pyramid:
        """Another pyramid of the very same layers, whose scales may be dropped without touching this one."""
        decoder = copy.copy(self.decoder)
        decoder._modules = dict(self.decoder._modules)
        return Pyramid(self.encoder, decoder, self.dimension)

    def forward(self, x: Tensor, scales: int | None = None) -> list[Tensor]:
        """Decoder maps (B, C_s, *S / stride_s), coarse to fine; only the first `scales` where given."""
        return self.decoder(self.encoder(x), len(self.channels) if scales is None else scales)


def numbered(encoder: Sequence[Each], decoder: Sequence[Each]) -> dict[int, Each]:
    """What there is of every map: 0 the decoder's coarsest, 1 the next; -1 the encoder's coarsest.

    >>> numbered(["1/2", "1/4"], ["1/2 up", "1 up"])
    {-1: '1/4', -2: '1/2', 0: '1/2 up', 1: '1 up'}
    """
    return {-i: each for i, each in enumerate(reversed(encoder), 1)} | dict(enumerate(decoder))


def build_pyramid(config: EncoderConfig, decoder: DecoderConfig, dimension: Dimension) -> Pyramid:
    """The network that two configurations describe."""
    encoder = ENCODERS[config.name].build(config, dimension)
    half = Decoder(encoder.channels, encoder.strides, decoder, dimension)
    return laid_out(Pyramid(encoder, half, dimension), dimension)

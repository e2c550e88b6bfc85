"""What a registry holds of every kind of addition."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import nn

from foveate.core.types import Dimension, Size


@dataclass(frozen=True, kw_only=True)
class EncoderEntry:
    """How an encoder is configured and built, and the decoder that its family comes with.

    What is built has `channels`, `strides` and `in_channels`, and names the weight that reads the image in
    `input_weight`, so that a file with another number of channels can be adapted there.
    """

    config: type[Any]
    build: Callable[[Any, Dimension], nn.Module]
    dimensions: tuple[int, ...]
    upsample: Literal["nearest", "transpose"]
    widest: Callable[[Any], int] = lambda config: config.width  # squared, fewer than the weights of the whole
    widths: Mapping[Size, int] = field(default_factory=dict)  # where those of the dimension do not suit

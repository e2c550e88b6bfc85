"""The contracts of networks: what an encoder gives, how it is configured, and the pyramid over it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Generic, TypeVar, final

from torch import Tensor, nn

from foveate.core.types import Dimension, Norm, Size, Upsample


class Encoder(nn.Module, ABC):
    """Feature maps of an image, fine to coarse.

    Attributes:
        channels: Of every map.
        strides: Of every map, one number for all axes.
        in_channels: Channels of the image.
        input_weight: Name of the parameter whose axis 1 are the image's channels: a file with another number
            of channels is adapted there.
    """

    channels: tuple[int, ...]
    strides: tuple[int, ...]
    in_channels: int
    input_weight: str

    @abstractmethod
    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, *S / stride_i), fine to coarse."""

    if TYPE_CHECKING:  # that of nn.Module takes and gives anything

        def __call__(self, x: Tensor) -> list[Tensor]:
            """As `forward`."""


class Network(nn.Module, ABC):
    """An encoder and a decoder, as whoever trains a method sees them; `nets.pyramid` has the one there is.

    Attributes:
        encoder: The contracting half.
        decoder: The other half; (maps of the encoder, count) to `count` maps, coarse to fine.
        in_channels: Channels of the image.
        channels: Of every map of the decoder, coarse to fine.
    """

    encoder: Encoder
    decoder: nn.Module
    in_channels: int
    channels: tuple[int, ...]

    @property
    @abstractmethod
    def stride(self) -> int:
        """The coarsest stride: every view must be a multiple of it on every axis."""

    @property
    @abstractmethod
    def parts(self) -> dict[str, nn.Module]:
        """The parts that a weights file may hold, by the prefix of their names."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig(ABC):
    """What every encoder's Config has.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the first map.
    """

    name: str = ""
    in_channels: int = 1
    width: int = 32

    @property
    @abstractmethod
    def decoder_norm(self) -> Norm:
        """The normalisation of a decoder that is put beside it, where nothing else is said."""


def width_of(config: EncoderConfig) -> int:
    """The width that a configuration names."""
    return config.width


# Covariant, so that one registry holds the entries of all encoders: an entry's `build` only ever meets its
# own `config`.
C_co = TypeVar("C_co", bound=EncoderConfig, covariant=True)


@final
@dataclass(frozen=True, kw_only=True)
class EncoderEntry(Generic[C_co]):
    """How an encoder is configured and built, and the decoder that its family comes with.

    Attributes:
        config: Its Config.
        build: From a Config and a dimension to the encoder.
        dimensions: Where it exists.
        upsample: How the decoder of its family doubles the resolution.
        widest: Channels of its widest layer; their square is less than the number of all its weights.
        widths: At the sizes of a run, where those of the dimension do not suit.
    """

    config: type[C_co]
    build: Callable[[C_co, Dimension], Encoder]
    dimensions: tuple[int, ...]
    upsample: Upsample
    widest: Callable[[C_co], int] = width_of
    widths: Mapping[Size, int] = field(default_factory=dict)


AnyEncoder = EncoderEntry[EncoderConfig]

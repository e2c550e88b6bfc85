"""An encoder that was given as a torch module, from Python: any that turns images into feature maps."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Literal, final

import torch
from torch import Tensor, nn

from foveate.core.networks import Encoder, EncoderConfig, EncoderEntry
from foveate.core.types import Dimension, FoveateError, Norm
from foveate.nets.encoders.catalogue import ENCODERS, MODULE

HELD: ContextVar[nn.Module | None] = ContextVar("module", default=None)
PROBED = 64  # voxels along an axis of the image whose maps are looked at
MOST_STRIDE = 64


@final
@dataclass(frozen=True, kw_only=True)
class ModuleConfig(EncoderConfig):
    """A module that was given from Python; the weights alone are in a run, the network is the caller's.

    Attributes:
        name: Which encoder.
        in_channels: Channels of the image.
        width: Channels of the finest map.
        channels: Of every map, fine to coarse.
        strides: Of every map.
    """

    name: Literal["module"] = "module"
    in_channels: int = 1
    width: int = 1
    channels: tuple[int, ...] = (1,)
    strides: tuple[int, ...] = (1,)

    @property
    def decoder_norm(self) -> Norm:
        """That of most."""
        return "batch"


@final
class ModuleEncoder(Encoder):
    """A copy of the module that is held, with its weights."""

    def __init__(self, config: ModuleConfig, dimension: Dimension) -> None:
        super().__init__()
        held = HELD.get()
        if held is None:
            raise FoveateError(
                "The encoder is a torch module that was given from Python; accepted: "
                "foveate.load_encoder(RUN, module=MODULE) with the same network."
            )
        self.module = copy.deepcopy(held)
        self.channels, self.strides = config.channels, config.strides
        self.in_channels = config.in_channels
        self.input_weight = next(
            (
                f"module.{name}"
                for name, tensor in self.module.named_parameters()
                if tensor.ndim == dimension + 2 and tensor.shape[1] == config.in_channels
            ),
            "",
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """The module's maps, fine to coarse."""
        return maps_of(self.module(x))


def maps_of(found: object) -> list[Tensor]:
    """A module's answer as maps, fine to coarse: a map, a list or tuple of them, or a mapping to them.

    >>> [tuple(m.shape) for m in maps_of({"b": torch.zeros(1, 8, 2, 2), "a": torch.zeros(1, 4, 4, 4)})]
    [(1, 4, 4, 4), (1, 8, 2, 2)]
    """
    if isinstance(found, Mapping):
        found = list(found.values())
    several = found if isinstance(found, Sequence) else [found]
    maps = [each for each in several if isinstance(each, Tensor)]
    if not maps or len(maps) < len(several):
        raise FoveateError(
            f"encoder: the module gives {type(found).__name__}; accepted: a feature map (B, C, *S), or a "
            "list, tuple or mapping of them."
        )
    return sorted(maps, key=lambda each: -each[0, 0].numel())


@torch.no_grad()
def described(module: nn.Module, dimension: Dimension, in_channels: int) -> ModuleConfig:
    """Channels and strides of a module's maps, from one image of zeros.

    Raises:
        FoveateError: where they are no maps that a decoder can follow.
    """
    before, device = module.training, next((p.device for p in module.parameters()), torch.device("cpu"))
    shape = (1, in_channels, *[PROBED] * dimension)
    try:
        maps = maps_of(module.eval()(torch.zeros(shape, device=device)))
    except (RuntimeError, ValueError, TypeError, AssertionError) as error:
        raise FoveateError(
            f"encoder: the module does not take images {shape} ({' '.join(str(error).split())[:200]}); "
            "accepted: one that does. in_channels says how many channels the images have."
        ) from error
    finally:
        module.train(before)
    sizes = [tuple(each.shape[2:]) for each in maps]
    strides = [PROBED // max(1, size[0]) if size else 0 for size in sizes]
    wanted = [(PROBED // stride,) * dimension if stride else () for stride in strides]
    powers = all(stride & (stride - 1) == 0 and 0 < stride <= MOST_STRIDE for stride in strides)
    if sizes != wanted or not powers or len(set(strides)) < len(strides) or strides[-1] < 2:
        raise FoveateError(
            f"encoder: of an image of {shape[2:]} the module's maps have the sizes {sizes}; accepted: "
            "the image's size divided by different powers of 2, equal on all axes, one of them 2 or more."
        )
    channels = tuple(each.shape[1] for each in maps)
    return ModuleConfig(in_channels=in_channels, width=channels[0], channels=channels, strides=tuple(strides))


@contextmanager
def given(module: nn.Module) -> Iterator[None]:
    """Inside, the encoder "module" is this one."""
    token = HELD.set(module)
    ENCODERS.own[MODULE] = f"{__name__}:ENTRY"
    try:
        yield
    finally:
        HELD.reset(token)
        if HELD.get() is None:
            del ENCODERS.own[MODULE]


ENTRY = EncoderEntry(
    config=ModuleConfig,
    build=ModuleEncoder,
    dimensions=(2, 3),
    upsample="transpose",
    widest=lambda _config: 1,  # its layers are not known
)

"""The abstractions: what the loop trains, what it is made of, and where data come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self

from torch import Tensor, nn

from foveate.core.codes import Codes
from foveate.core.types import Activation, Array, Batch, CropSpec, Dimension, Normalisation, Progress, Record


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSpec:
    """An integer map that is computed once from every volume, kept beside it and seen with its views."""

    compute: Callable[[Array, Sequence[float], Any], Array]  # (values (C, *S) in [0, 1], spacing_mm, config)
    config: Any  # a dataclass: with the voxels all that the map depends on
    fewest: int = 0  # values other than 0 that every map must have
    advice: str = ""  # to whoever has a volume with fewer


class Trainable(nn.Module, ABC):
    """What the loop can train: a pre-training method or a downstream task."""

    @property
    def derived(self) -> Mapping[str, DerivedSpec]:
        """The maps that must be computed from every volume before the first sample; none for most."""
        return {}

    @property
    @abstractmethod
    def crops(self) -> Mapping[str, CropSpec]:
        """The windows that the loader must read for every sample."""

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named scalar losses, already weighted; the loop adds them."""

    def after_step(self, progress: Progress) -> None:
        """Move what follows the weights: EMA teachers, queues."""

    def weights_given(self) -> None:
        """Start what follows the weights anew: they were replaced from outside, before the first step."""


class Method(Trainable):
    """A pre-training method over `net`, the pyramid that it was given."""

    net: nn.Module

    @abstractmethod
    def exported(self) -> dict[str, nn.Module]:
        """The parts that transfer, by the prefix of their names in the weights file."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """The named step that the encoder's input went through, for the card."""

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """Pictures worth looking at, title -> (B, C, *S) in [0, 1]; nothing by default."""
        return {}


class Task(Trainable):
    """A downstream task over `net`, the pyramid that it was given."""

    net: nn.Module
    frozen: bool = False

    def freeze(self) -> None:
        """Leave the encoder as it is from now on, its statistics too."""
        self.frozen = True
        self.exported()["encoder"].requires_grad_(False)
        self.train()

    def train(self, mode: bool = True) -> Self:
        """As torch's, but that a frozen encoder stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.exported()["encoder"].eval()
        return self

    @abstractmethod
    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) in [0, 1] to what the activation is applied to.

        Normalises by itself. (B, K, *S) where the task answers per voxel, else (B, K).
        """

    @property
    @abstractmethod
    def patch(self) -> tuple[int, ...]:
        """The grid of the images that `outputs` was trained on."""

    @property
    @abstractmethod
    def activation(self) -> Activation:
        """What turns outputs into probabilities or values."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """The named step of `outputs`, for the card."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """A name for every one of the K outputs, background first where there is one."""

    @abstractmethod
    def exported(self) -> dict[str, nn.Module]:
        """All parts, by the prefix of their names in the weights file."""

    @abstractmethod
    def stages(self) -> list[list[nn.Parameter]]:
        """Parameters by their distance from the answer: new ones first, the encoder's stem last."""

    @abstractmethod
    def validate(self, cases: Sequence[LabelledReader]) -> dict[str, float]:
        """Metrics of whole images; the one named "score" is what training selects by, more being better."""

    def outlines(self, case: LabelledReader) -> dict[str, Tensor]:  # noqa: ARG002
        """Regions to draw over an image, title -> bool (K, *S); nothing by default."""
        return {}


class Encoder(Protocol):
    """Feature maps fine to coarse, with their channels and their strides (one number for all axes)."""

    channels: tuple[int, ...]
    strides: tuple[int, ...]

    def __call__(self, x: Tensor) -> list[Tensor]:
        """Maps (B, C_i, *S / stride_i), fine to coarse."""
        ...


class VolumeReader(Protocol):
    """One cached volume, read by windows."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""
        ...

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Size of a voxel along each axis, for rotations in physical space."""
        ...

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) as float32 (C, *window) with values in [0, 1]."""
        ...

    def codes(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The same window as it is stored."""
        ...

    @property
    def map_names(self) -> Collection[str]:
        """The integer maps that lie on the volume's grid."""
        ...

    def read_map(self, name: str, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) of a map, integers (*window)."""
        ...

    def places(self, name: str) -> Array:
        """Some voxels of every value but 0 of a map, rows (value, *voxel)."""
        ...


class LabelledReader(VolumeReader, Protocol):
    """A cached volume with the values of the whole image."""

    labels: dict[str, Any]


class CropViews(NamedTuple):
    """The views of one kind of one sample."""

    images: Tensor  # (V, C, *S) in [0, 1]
    affines: Tensor  # (V, n, n+1)
    maps: dict[str, Tensor]  # name -> (V, *S), int64


class ViewMaker(Protocol):
    """Draws the geometry of one sample and samples its views: injected into the loader by `run`."""

    def __call__(self, volume: VolumeReader, index: int) -> dict[str, CropViews]:
        """Crop name -> its views, for global sample `index`."""
        ...


class Source(Protocol):
    """One dataset layout."""

    def dimension(self, root: Path) -> Dimension:
        """2 or 3, found without reading a pixel; an error that says what was found otherwise."""
        ...

    def records(self, root: Path) -> Iterator[Record]:
        """Every file below `root` with its role, in an order that does not depend on the file system."""
        ...

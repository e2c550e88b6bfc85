"""The abstractions: what the loop trains, what it is made of, and where data come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar

from torch import Tensor, nn

from foveate.core.codes import Codes
from foveate.core.networks import Network
from foveate.core.types import (
    Array,
    Batch,
    CropSpec,
    Dataclass,
    Dimension,
    FoveateError,
    Normalisation,
    Progress,
    Record,
    Size,
)

Settings_co = TypeVar("Settings_co", bound=Dataclass, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class DerivedSpec(Generic[Settings_co]):
    """An integer map that is computed once from every volume, kept beside it and seen with its views."""

    compute: Callable[[Array, Sequence[float], Settings_co], Array]  # of values (C, *S) in [0, 1], spacing_mm
    config: Settings_co  # with the voxels all that the map depends on
    fewest: int = 0  # values other than 0 that every map must have
    advice: str = ""  # to whoever has a volume with fewer


class Draw(ABC):
    """Something random that a step needs, as a value: frozen, hashable, to be pickled.

    Those that a model names in `draws` are drawn by the loader's workers while the device computes; any other
    is drawn when the step asks for it (`views.drawn`). The numbers are the same.
    """

    @abstractmethod
    def draw(self, batch: Batch, seed: int) -> dict[str, Tensor]:
        """Named tensors on the CPU, from the samples' indices and what else of the batch they depend on.

        Floating ones are float64. What is large should be int32 or bool.
        """


class Trainable(nn.Module, ABC):
    """What the loop can train: a pre-training method or a downstream task."""

    takes_unknown_maps: ClassVar[bool] = False  # whether images without a label map get one of unknown voxels

    @property
    def derived(self) -> Mapping[str, DerivedSpec[Dataclass]]:
        """The maps that must be computed from every volume before the first sample; none for most."""
        return {}

    @property
    @abstractmethod
    def crops(self) -> Mapping[str, CropSpec]:
        """The windows that the loader must read for every sample."""

    @property
    def draws(self) -> Sequence[Draw]:
        """What the loader's workers are to draw for every batch; nothing by default."""
        return ()

    @abstractmethod
    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Named scalar losses, already weighted; the loop adds them.

        A term whose weight is 0 is left out: a run that does not ask for it computes and logs nothing of it.
        """

    def after_step(self, progress: Progress) -> None:
        """Move what follows the weights: EMA teachers, queues."""

    def weights_given(self) -> None:
        """Start what follows the weights anew: they were replaced from outside, before the first step."""


@dataclass(frozen=True, kw_only=True)
class MethodConfig(ABC):
    """What every method's Config has: a name, its views, and what is left of it afterwards.

    `views.settings.ViewsConfig` has the views of most methods; a Config that is built on it states its own
    fields only.

    Attributes:
        exports: The parts of the network that transfer.
        skips: Whether the decoder gets the encoder's maps, where nothing else is said.
        default_base: For a method that is put around another: the one it is put around unless said.
        name: Which method.
    """

    exports: ClassVar[tuple[str, ...]] = ("encoder",)
    skips: ClassVar[bool] = False
    default_base: ClassVar[str] = ""
    name: str = ""

    @classmethod
    @abstractmethod
    def preset(cls, dimension: Dimension, size: Size) -> Self:
        """The defaults of a dimension and a size."""

    @property
    @abstractmethod
    def crops(self) -> Mapping[str, CropSpec]:
        """The windows that the loader must read for every sample, by name."""

    @property
    @abstractmethod
    def normalisation(self) -> Normalisation:
        """The named step that the encoder's input goes through."""

    @property
    def draws(self) -> Sequence[Draw]:
        """What the loader's workers are to draw for the views; nothing by default."""
        return ()

    def views(self, batch: Batch, *, channels: int, seed: int) -> list[Tensor]:  # noqa: ARG002
        """Corrupted views that are worth a look, each (B, C, *S); none by default."""
        return []

    def settled(self, aligned: Callable[[], bool]) -> Self:  # noqa: ARG002
        """The Config with what the images say.

        `aligned` measures whether they show like things at like positions, in seconds: who needs it asks.
        """
        return self

    @property
    def wrapped(self) -> MethodConfig | None:
        """The Config of the method that this one is put around."""
        return None

    def around(self, base: MethodConfig) -> Self:
        """The same around a method."""
        raise FoveateError(f"--method.base {base.name}: --method {self.name} is put around no other method.")

    @property
    def wants_skips(self) -> bool:
        """Whether the decoder gets the encoder's maps: as the method that it is put around has it, if any."""
        return self.wrapped.wants_skips if self.wrapped else self.skips


@dataclass(frozen=True, kw_only=True)
class WrapperConfig(MethodConfig):
    """What the Config of a method has that is put around another; whoever composes the run adds that one.

    Attributes:
        base: The method that it is put around.
    """

    base: MethodConfig | None = None

    @property
    def wrapped(self) -> MethodConfig:
        """The base, which must have been added by now."""
        if self.base is None:
            raise FoveateError(f"--method.base is missing; --method {self.name} is put around another.")
        return self.base

    def around(self, base: MethodConfig) -> Self:
        """The same around a method."""
        return replace(self, base=base)

    def settled(self, aligned: Callable[[], bool]) -> Self:
        """With the base's."""
        return replace(self, base=self.wrapped.settled(aligned))


class Method(Trainable):
    """A pre-training method over `net`, the pyramid that it was given; a leaf narrows the types of both."""

    fewest: ClassVar[int] = 2  # samples of a batch; with fewer it was seen not to learn
    net: Network
    config: MethodConfig

    def __init__(self, net: Network, config: MethodConfig) -> None:
        super().__init__()
        self.net, self.config = net, config

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """The windows that the configuration describes."""
        return self.config.crops

    @property
    def normalisation(self) -> Normalisation:
        """The named step that the encoder's input went through, for the card."""
        return self.config.normalisation

    @property
    def draws(self) -> Sequence[Draw]:
        """Those of the configured views."""
        return self.config.draws

    def exported(self) -> dict[str, nn.Module]:
        """The parts that transfer, by the prefix of their names in the weights file."""
        return {name: part for name, part in self.net.parts.items() if name in self.config.exports}

    def embedders(self) -> dict[int, nn.Module]:
        """What turns pooled features into embeddings, by scale of the decoder; -1 is the bottleneck.

        By default the child called `projector`, on the bottleneck.
        """
        found = dict(self.named_children()).get("projector")
        return {} if found is None else {-1: found}

    def views(self, batch: Batch, seed: int) -> list[Tensor]:
        """The corrupted views that the configuration describes, each (B, C, *S)."""
        return self.config.views(batch, channels=self.net.in_channels, seed=seed)

    def preview(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Pictures worth looking at, title -> (B, C, *S) in [0, 1]; the views by default."""
        return {f"view {i}": view for i, view in enumerate(self.views(batch, progress.seed), 1)}

    def marks(self, batch: Batch, seed: int) -> Mapping[str, Tensor]:  # noqa: ARG002
        """What it looks at in the clean global views, title -> (B, V, *S) of whole numbers, 0 for nothing.

        By default its derived maps.
        """
        return {name: batch["regions"][f"{name}/global"] for name in self.derived}

    def measures(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:  # noqa: ARG002
        """What of a batch is worth logging beside the losses when health is measured, name -> scalar."""
        return {}


class Slices(Protocol):
    """The slices of a volume, each read as an image of two axes."""

    @property
    def axis(self) -> int:
        """The axis of the volume that they lie across."""

    def __len__(self) -> int:
        """Slices of the volume."""

    def __getitem__(self, position: int, /) -> VolumeReader:
        """The slice at a position along the axis, with its neighbours as channels."""


class Windowed(Protocol):
    """What windows are read from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Spatial shape, without channels."""

    def read(self, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) as float32 (C, *window) with values in [0, 1]."""


class VolumeReader(Windowed, Protocol):
    """One cached volume, read by windows."""

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Size of a voxel along each axis, for rotations in physical space."""

    def codes(self, low: Sequence[int], high: Sequence[int]) -> Codes:
        """The same window as it is stored."""

    @property
    def map_names(self) -> Collection[str]:
        """The integer maps that lie on the volume's grid."""

    def read_map(self, name: str, low: Sequence[int], high: Sequence[int]) -> Array:
        """The window [low, high) of a map, integers (*window)."""

    def places(self, name: str) -> Array:
        """Some voxels of every value but 0 of a map, rows (value, *voxel)."""

    @property
    def planes(self) -> Slices | None:
        """What a network sees of it one by one; None: it is seen as it is."""

    @property
    def focus(self) -> tuple[int, ...]:
        """The voxel around which every crop lies, also beyond the rim; (): they are drawn."""


class LabelledReader(VolumeReader, Protocol):
    """A cached volume with the values of the whole image."""

    @property
    def labels(self) -> Mapping[str, Any]:
        """Values of the whole image; to a task as its Config encodes them."""

    @property
    def affine(self) -> Array:
        """Voxel index to millimetres (RAS+), (4, 4)."""

    def listed_boxes(self, name: str) -> Array | None:
        """Boxes that a map is painted from, rows (value, *centre, *size) in mm; None: it is a label map."""

    def focused(self, voxel: Sequence[int]) -> VolumeReader:
        """The same, of which every crop shows the surroundings of this voxel, and no map is cut for it."""


class CropViews(NamedTuple):
    """The views of one kind of one sample."""

    images: Tensor  # (V, C, *S) in [0, 1]
    affines: Tensor  # (V, n, n+1)
    maps: dict[str, Tensor]  # name -> (V, *S), int64
    slice: tuple[int, int] | None = None  # of a volume: the axis that it lies across, and its place along it


class ViewMaker(Protocol):
    """Draws the geometry of one sample and samples its views: injected into the loader by `run`."""

    def __call__(self, volume: VolumeReader, index: int) -> dict[str, CropViews]:
        """Crop name -> its views, for global sample `index`."""


class Source(Protocol):
    """One dataset layout."""

    def dimension(self, root: Path) -> Dimension:
        """2 or 3, found without reading a pixel; an error that says what was found otherwise."""

    def records(self, root: Path) -> Iterator[Record]:
        """Every file below `root` with its role, in an order that does not depend on the file system."""

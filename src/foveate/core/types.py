"""Types shared by every layer; imports nothing from this package.

Shape legend used in trailing comments everywhere: B batch, V views, C channels, *S spatial axes in
RAS+ order (x, y) or (x, y, z), n their number.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import Field, dataclass, field
from enum import Enum
from pathlib import Path, PurePath
from typing import (
    TYPE_CHECKING,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    NotRequired,
    Protocol,
    TypeAlias,
    TypedDict,
)

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a process that decodes images does without torch
    from torch import Tensor

Array = NDArray[Any]
Json: TypeAlias = "bool | float | str | Mapping[str, Json] | Sequence[Json] | None"  # as a file holds it
Dimension = Literal[2, 3]
Orientation = tuple[tuple[int, int], ...]  # per axis of a source: its canonical axis, and -1 where mirrored
Size = Literal["small", "paper"]
Normalisation = Literal["none", "zscore", "imagenet", "image", "dataset"]
Activation = Literal["softmax", "sigmoid", "none"]
Norm = Literal["batch", "group", "instance"]
Upsample = Literal["nearest", "transpose"]
FourthAxis = Literal["error", "channels", "first", "mean", "images"]
Colour = Literal["grey", "keep"]
MissingChannels = Literal["error", "zero", "mean"]
Role = Literal["image", "label", "structure", "other"]

PERCENTS = (0.5, 1.0, 5.0, 50.0, 95.0, 99.0, 99.5)  # of `Statistics.percentiles`


class Dataclass(Protocol):
    """Any dataclass: what a configuration is made of."""

    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]


class FoveateError(Exception):
    """An error that the user can fix: the command line prints its one paragraph and exits with 2."""


class LinesError(FoveateError):
    """One whose message has lines below the paragraph, such as the tree that a folder should be."""


class LostPeerError(FoveateError):
    """Another process of the run ended first; its own words, not these, say why."""


class Ending(Enum):
    """How a command ended, with the exit code that says so; true where all of it is done."""

    FINISHED = 0
    INCOMPLETE = 1  # some files or runs failed, and the others are done
    STOPPED = 130  # by SIGINT or SIGTERM, a checkpoint saved
    REQUEUE = 75  # by SIGUSR1: as above, and the job is to be put into the queue again

    def __bool__(self) -> bool:
        return self is Ending.FINISHED


class Drawn(NamedTuple):
    """What was drawn on the host for one batch. A named tuple, because torch and Fabric rebuild it."""

    samples: Sequence[int]  # index of the batch that it is for
    seed: int
    numbers: Tensor  # int64: all 64-bit numbers; floating ones bit by bit, so that no precision rounds them
    places: Mapping[Hashable, Mapping[str, Sequence[Any]]]  # draw -> name -> (start, whether floating, shape)
    maps: Mapping[Hashable, Mapping[str, Tensor]]  # draw -> name -> what is not 64 bits wide


@dataclass(frozen=True, slots=True, kw_only=True)
class Statistics:
    """Of the values of one region of one channel, in the image's own units.

    Attributes:
        voxels: How many there are.
        mean: Their mean.
        std: Their standard deviation, of the voxels themselves (divided by their number).
        percentiles: Values at `PERCENTS`: the lower neighbour, never between two.
    """

    voxels: int
    mean: float
    std: float
    percentiles: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelStatistics:
    """Of one channel.

    Attributes:
        whole: All voxels.
        foreground: The voxels above `threshold`; all of them where every value is the same.
        threshold: Otsu's, of the channel's own histogram: between which two classes the variance is largest.
    """

    whole: Statistics
    foreground: Statistics
    threshold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The image that views are taken from: what turns a voxel into a share of the image."""

    extent: tuple[int, ...]  # voxels along each axis
    spacing_mm: tuple[float, ...]

    @property
    def extent_mm(self) -> tuple[float, ...]:
        """Length of every axis.

        >>> Place(extent=(100, 50), spacing_mm=(0.5, 2.0)).extent_mm
        (50.0, 100.0)
        """
        return tuple(size * step for size, step in zip(self.extent, self.spacing_mm, strict=True))


class Batch(TypedDict):
    """One mini-batch: a plain mapping of tensors, so that Fabric can move and cast it."""

    crops: dict[str, Tensor]  # name -> (B, V, C, *S): clean views with values in [0, 1]
    affines: dict[str, Tensor]  # name -> (B, V, n, n+1): view index -> source voxel index, float32
    regions: dict[str, Tensor]  # "map/crop" -> (B, V, *S): labels and derived inputs, int64
    labels: dict[str, Tensor]  # name -> (B,): values of whole images, NaN where missing
    extent: NotRequired[Tensor]  # (B, n): voxels of the source along each axis, int64
    spacing: NotRequired[Tensor]  # (B, n): millimetres of a voxel of the source, float32
    slice: NotRequired[Tensor]  # (B, 2): of a volume, the axis that it lies across and its place there, int64
    index: Sequence[int]  # (B,): global sample index, the key of every draw, which are made on the host
    weights: NotRequired[dict[str, Tensor]]  # "map/crop" -> (B, V, *S): how much its voxels count; absent: 1
    drawn: NotRequired[Drawn]  # what the loader's workers drew for the step (`views.drawn`)


class Progress(NamedTuple):
    """Where a run is: optimizer step `step` of `total`. A named tuple, because Fabric rebuilds arguments."""

    step: int
    total: int
    seed: int = 0

    @property
    def fraction(self) -> float:
        """Share of the run that is done, 0 at the first step."""
        return self.step / max(1, self.total)

    @property
    def half_cosine(self) -> float:
        """Falls from 1 at the start of the run to 0 at its end."""
        return 0.5 * (1 + math.cos(math.pi * self.fraction))


@dataclass(frozen=True, kw_only=True)  # without slots: jsonargparse reads a nested default through vars()
class Tissue:
    """What share of a view must be tissue; the defaults accept everything and cost nothing.

    Attributes:
        threshold: Values above it count as tissue, in units of the intensity window: 0 is its low end, 1
            its high end. -150 HU in a window from -1000 to 1000 HU is 0.425.
        at_least: Smallest share of such voxels in the view's own box, before it is rotated and zoomed.
        at_most: Largest share.
    """

    threshold: float = 0.5
    at_least: float = 0.0
    at_most: float = 1.0

    def __post_init__(self) -> None:
        if not (0 <= self.at_least <= self.at_most <= 1 and 0 <= self.threshold < 1):
            raise FoveateError(
                f"tissue is threshold {self.threshold}, at_least {self.at_least}, at_most {self.at_most}; "
                "accepted are 0 <= at_least <= at_most <= 1 and 0 <= threshold < 1."
            )

    @property
    def accepts_all(self) -> bool:
        """Whether no view can break the rule."""
        return self.at_least == 0 and self.at_most == 1

    def shortfall(self, share: float) -> float:
        """How far a share lies outside the accepted range, 0 inside."""
        return max(0.0, self.at_least - share, share - self.at_most)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropSpec:
    """Which part of an image a view shows and on what grid; every draw is made per view.

    Attributes:
        count: Views of this kind per sample.
        grid: The view's own shape.
        source_sizes: Boxes to choose from, in voxels; empty: a share of the image, `volume_share`.
        grid_scale: Range of a box's sides as multiples of the grid, drawn per axis; (0, 0): not used.
        volume_share: Smallest and largest share of the image that a view shows.
        aspect: Range of the proportions between axes where a share is drawn.
        min_iou: Least overlap of the later views of this kind with the first, 0 for any.
        inside: Name of the crops whose union box holds these; empty: the whole image.
        loose: Sub-crops only start inside that box and may stick out of it, as the published code has it.
        flip_axes: Axes that may be mirrored.
        flip_probability: Chance of each.
        rotation_degrees: Rotations about every axis are drawn from plus or minus this.
        zoom: Each axis is scaled by a factor drawn from [1 - zoom, 1 + zoom].
        zoom_axes: "each": a factor of its own for every axis; "together": the same for all, so that nothing
            is stretched.
        shift: Views are moved along every axis by a share of their box drawn from plus or minus this; what
            lies outside of the image is 0.
        tissue: Boxes are drawn anew, within limits, until their share of tissue is accepted; those that
            `around` moves are exempt.
        around: Name of an integer map; some boxes are centred on a voxel of it that is not 0.
        around_probability: Share of the boxes that are; the value is drawn first: small regions count.
    """

    count: int
    grid: tuple[int, ...]
    source_sizes: tuple[tuple[int, ...], ...] = ()
    grid_scale: tuple[float, float] = (0.0, 0.0)
    volume_share: tuple[float, float] = (1.0, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    min_iou: float = 0.0
    inside: str = ""
    loose: bool = False
    flip_axes: tuple[int, ...] = ()
    flip_probability: float = 0.5
    rotation_degrees: float = 0.0
    zoom: float = 0.0
    zoom_axes: Literal["each", "together"] = "each"
    shift: float = 0.0
    tissue: Tissue = Tissue()
    around: str = ""
    around_probability: float = 0.0


class Region(NamedTuple):
    """One structure of a file of structures, and the value that its voxels get in the label map."""

    value: int
    file: Path
    number: int  # of the ROI or segment in that file


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """How the content of files becomes the channels of an image; `data.cache.profiles` says what is meant."""

    fourth_axis: FourthAxis = "error"
    colour: Colour = "grey"
    missing_channels: MissingChannels = "error"
    point: int | None = None  # which volume of a 4D file, where `fourth_axis` is `images`


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One image as a source lists it, before anything is read."""

    path: Path  # the file, or the first of `files`
    relative: str  # path below the root: its salted hash is the only name that is ever stored
    files: tuple[Path, ...] = ()  # every file of a series, in order; empty: `path` alone
    channels: tuple[Path, ...] = ()  # one file per channel on one grid, in order; empty: one channel
    absent: tuple[int, ...] = ()  # numbers of the channels that have no file, among those that have
    role: Role = "image"
    evidence: str = ""  # why it has that role
    modality: str = ""  # DICOM's word (CT, MR, PT, CR, DX, US ...) where it is known
    dimension: Literal[0, 2, 3] = 0  # 0: what the suffix of `path` stands for
    point: int | None = None  # the volume of a file with a fourth axis; None: all of the file
    patient: str = ""  # as the source names the patient: salted before it is stored
    split: str = ""  # train, val or test where the source says so
    maps: Mapping[str, Path] = field(default_factory=dict)  # integer maps on the image's grid, e.g. "labels"
    labels: Mapping[str, Json] = field(default_factory=dict)  # values of the whole image; NaN: missing
    regions: tuple[Region, ...] = ()  # what the map is painted from, in this order, where its file is no map

    @property
    def root(self) -> Path | None:
        """The folder that was given as the data, from which the relative name counts; None: unknown."""
        parts = PurePath(self.relative).parts
        if not parts or ".." in parts or self.path.parts[-len(parts) :] != parts:
            return None
        return self.path.parents[len(parts) - 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelFacts:
    """What the labels of the training images say; a task completes its configuration with it."""

    values: tuple[int, ...] = ()  # that occur in the label maps of training, rising
    others: tuple[int, ...] = ()  # that occur in those of validation only
    classes: tuple[str, ...] = ()  # as the source declares them, "name=value+value"
    ignore: tuple[int, ...] = ()  # values of which the source says that they must not count
    columns: Mapping[str, tuple[Json, ...]] = field(default_factory=dict)  # of whole images, one per case
    instances: int = 0  # of maps painted from boxes of a table: its classes; values are instance numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A decoded image: channels first, then RAS+ axes; `affine` maps array index to millimetres."""

    array: Array  # (C, *S), the source's own values
    affine: NDArray[np.float64]  # (4, 4); identity scaled by the spacing for 2D pictures
    spacing_mm: tuple[float, ...]
    bits: int  # 8 when the source holds 8-bit values, else 16
    orientation: Orientation = ()  # how the file had its axes, for the way back; empty for pictures
    modality: str = ""  # DICOM's word, where the file says it
    colour: bool = False  # whether the file has colour, kept or not
    window: tuple[float, float] | None = None  # values that a radiograph's header shows as black and white


def reason_of(error: BaseException) -> str:
    """One line for people."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if isinstance(error, FoveateError) else f"{type(error).__name__}: {text[:300]}"


def printable(text: object, most: int = 200) -> str:
    r"""Text of a file or a name of one made safe for a terminal: control characters spelled out, cut if long.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    shown = spelled(str(text))
    return shown if len(shown) <= most else f"{shown[:most]}..."


def spelled(text: str, keep: str = "") -> str:
    r"""The same for a terminal, as long as it is, but for the characters to `keep`.

    >>> spelled("a\n\x1b[2J \udcff.png"), spelled("a\nb", keep="\n")
    ('a\\n\\x1b[2J \\udcff.png', 'a\nb')
    """
    return "".join(c if c.isprintable() or c in keep else c.encode("unicode_escape").decode() for c in text)

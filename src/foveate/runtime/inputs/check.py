"""Compares the facts of an image with those of the training images; reads no file.

The limits are those of docs/predict.md, which says what they were chosen by.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

SPACING_WARNING, SPACING_ERROR = 1.25, 5.0  # times outside the spacings of training
SIZE_WARNING = 3.0  # the same of an image's size in mm
SCALE_WARNING, SCALE_ERROR = 5.0, 20.0  # of the width of the values, where the window has fixed ends
FLAT = 2.0  # a voxel this much longer along one axis than along the others has slices across it
TILT_WARNING = 30.0  # degrees beyond the most tilted image of training
MIDDLE_WARNING = 0.25  # how far the median may lie outside, in units of the range of the values
SIGNED, UNSIGNED = 0.1, 0.03  # shares of the range of the values that lie below zero
AIR = -100.0  # an image in Hounsfield units has values below it: fat, lung or air
UNKNOWN = "unknown"
PLANES = {0: "sagittal", 1: "coronal", 2: "axial"}

Ends = tuple[float, float]  # smallest and largest over the images of training


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageFacts:
    """What is compared of one image; `low`, `middle` and `high` are percentiles 0.5, 50 and 99.5."""

    dimension: int
    channels: int
    spacing_mm: tuple[float, ...]
    size_mm: tuple[float, ...]
    tilt_degrees: float  # of the axes against those of the body
    low: float
    middle: float
    high: float
    modality: str = UNKNOWN  # ct, mr, pet, xray, us
    stated: bool = False  # by a header; else the file's name says it

    @property
    def width(self) -> float:
        """From the low percentile to the high one."""
        return self.high - self.low

    @property
    def below_zero(self) -> float:
        """Share of that range below zero."""
        return min(1.0, max(0.0, -self.low) / self.width) if self.width > 0 else 0.0

    @property
    def middle_place(self) -> float:
        """Where in that range the median lies, 0 to 1."""
        return (self.middle - self.low) / self.width if self.width > 0 else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedFacts:
    """What a card says of the images of training; None: it does not say."""

    dimension: int
    by_voxel: bool  # windows are cut by voxels: spacing counts; else views are shares of an image
    channels: int | None = None
    modalities: Mapping[str, float] | None = None  # shares of the images
    spacing_mm: tuple[Ends, ...] | None = None  # per axis
    size_mm: tuple[Ends, ...] | None = None
    tilt_degrees: Ends | None = None
    low: Ends | None = None
    width: Ends | None = None
    below_zero: Ends | None = None
    middle_place: Ends | None = None
    fixed_window: bool = False  # values are scaled by fixed ends, not by the image's own percentiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One difference: an error makes the answer meaningless, a warning doubtful."""

    severity: Literal["error", "warning"]
    field: str
    found: str
    accepted: str

    def __str__(self) -> str:
        return f"{self.field} is {self.found}; trained on {self.accepted}"


def compare(trained: TrainedFacts, image: ImageFacts) -> list[Finding]:
    """How an image differs from those of training, errors first."""
    if image.dimension != trained.dimension:
        return [finding(True, "dimension", f"{image.dimension}D", f"{trained.dimension}D")]
    parts = (channels, modality, sign, scale, middle, spacing, plane, tilt, size)
    found = [each for part in parts for each in part(trained, image)]
    return sorted(found, key=lambda each: each.severity != "error")


def finding(wrong: bool, field: str, found: str, accepted: str) -> Finding:
    """An error where it is `wrong`, else a warning."""
    return Finding(severity="error" if wrong else "warning", field=field, found=found, accepted=accepted)


def channels(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """One channel can be repeated, nothing else."""
    if trained.channels not in (None, image.channels):
        yield finding(image.channels != 1, "number of channels", str(image.channels), str(trained.channels))


def modality(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """A header's word against those of training, where all of these are known; a name is a weaker word."""
    known = trained.modalities or {UNKNOWN: 1.0}
    if UNKNOWN not in known and image.modality not in (UNKNOWN, *known):
        shares = [f"{name} ({share:.0%})" for name, share in sorted(known.items())]
        how = "" if image.stated else " by its name"
        yield finding(image.stated, "modality", f"{image.modality}{how}", ", ".join(shares))


def sign(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """Hounsfield units have values far below zero; MR, PET, ultrasound and radiographs have none."""
    if trained.below_zero is None or trained.low is None:
        return
    (least, most), field = trained.below_zero, "intensity"
    found = f"{image.low:g} to {image.high:g} (percentiles 0.5 and 99.5)"
    if image.below_zero >= SIGNED and most < SIGNED:
        like = ", as in Hounsfield units" * (image.low <= AIR)
        yield finding(image.low <= AIR, field, found + like, "values that are hardly ever below zero")
    if least >= SIGNED and image.below_zero < SIGNED:
        hounsfield = trained.low[1] <= AIR
        wrong = hounsfield and image.below_zero < UNSIGNED
        lows = f"values that begin at {trained.low[0]:g} to {trained.low[1]:g}"
        yield finding(wrong, field, found, lows + ", as in Hounsfield units" * hounsfield)


def scale(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """Other units, where the window does not follow the image: percentiles of the image take any."""
    if not trained.fixed_window or trained.width is None:
        return
    ratio = times_outside(image.width, trained.width)
    if ratio > SCALE_WARNING:
        found = f"{image.width:g} wide (percentiles 0.5 to 99.5)"
        yield finding(ratio > SCALE_ERROR, "intensity range", found, between(trained.width))


def middle(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """The median among the values: far from it where contrast, background or content are others."""
    if trained.middle_place is None:
        return
    low, high = trained.middle_place
    if max(low - image.middle_place, image.middle_place - high) > MIDDLE_WARNING:
        found = f"at {image.middle_place:.0%} of the range of its values"
        yield finding(False, "median intensity", found, f"{low:.0%} to {high:.0%}")


def spacing(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """The axis whose voxels are furthest from those of training, where both are in millimetres."""
    if trained.spacing_mm is None or not trained.by_voxel or not has_size(image):
        return
    if all(ends == (1.0, 1.0) for ends in trained.spacing_mm) and image.dimension < len(PLANES):
        return  # pictures, whose pixels have no size
    ratio, axis = furthest(image.spacing_mm, trained.spacing_mm)
    if ratio > SPACING_WARNING:
        accepted = f"{between(trained.spacing_mm[axis])} mm"
        found = f"{image.spacing_mm[axis]:.3g} mm along {'xyz'[axis]}"
        yield finding(ratio > SPACING_ERROR, "spacing", found, accepted)


def plane(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """Slices across another axis than those of training."""
    if trained.spacing_mm is None or image.dimension < len(PLANES):
        return
    seen = {slices([ends[k] for ends in trained.spacing_mm]) for k in (0, 1)}
    found = slices(image.spacing_mm)
    if found is not None and seen != {None} and found not in seen:
        accepted = ", ".join(sorted(PLANES[axis] for axis in seen if axis is not None))
        yield finding(False, "orientation", f"{PLANES[found]} slices", f"{accepted} slices")


def tilt(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """Axes that are oblique to those of the body."""
    if trained.tilt_degrees is not None and image.tilt_degrees > trained.tilt_degrees[1] + TILT_WARNING:
        accepted = f"0 to {trained.tilt_degrees[1]:.0f} degrees"
        found = f"{image.tilt_degrees:.0f} degrees off the axes of the body"
        yield finding(False, "orientation", found, accepted)


def size(trained: TrainedFacts, image: ImageFacts) -> Iterator[Finding]:
    """A whole body for a network of small crops, or the reverse."""
    if trained.size_mm is None or not has_size(image):
        return
    ratio, axis = furthest(image.size_mm, trained.size_mm)
    if ratio > SIZE_WARNING:
        found = f"{image.size_mm[axis]:.0f} mm along {'xyz'[axis]}"
        yield finding(False, "size", found, f"{between(trained.size_mm[axis])} mm")


def has_size(image: ImageFacts) -> bool:
    """Whether the size of a voxel is known: a picture's is not, and stands as 1."""
    return image.dimension == len(PLANES) or image.spacing_mm != (1.0, 1.0)


def slices(sizes: Sequence[float]) -> int | None:
    """The axis that slices lie across; None where voxels are about cubes."""
    *_, second, longest = sorted(sizes)
    return list(sizes).index(longest) if longest >= FLAT * second else None


def times_outside(value: float, ends: Ends) -> float:
    """By what factor a positive number lies outside a range, 1 inside.

    >>> times_outside(6.0, (1.0, 2.0)), times_outside(1.5, (1.0, 2.0)), times_outside(0.25, (1.0, 2.0))
    (3.0, 1.0, 4.0)
    """
    low, high = ends
    return max(low / max(value, 1e-9), value / max(high, 1e-9), 1.0)


def furthest(values: Sequence[float], ends: Sequence[Ends]) -> tuple[float, int]:
    """The largest factor over the axes, and its axis."""
    ratios = [times_outside(value, each) for value, each in zip(values, ends, strict=True)]
    return max(ratios), ratios.index(max(ratios))


def between(ends: Ends) -> str:
    """A range in words; one number where both ends are equal.

    >>> between((1.0, 1.0)), between((0.5, 2.0))
    ('1', '0.5 to 2')
    """
    low, high = (f"{value:.3g}" for value in ends)
    return low if low == high else f"{low} to {high}"

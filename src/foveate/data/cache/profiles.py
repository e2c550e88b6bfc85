"""How a cache is made: the options, and a profile of intensities for every modality.

A profile decides which source values read as 0 and as 1. It changes nothing that is stored: the cache keeps
the source's own values, so that another window needs no other voxels, and no image is z-scored.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from foveate.core.types import (
    ChannelStatistics,
    Colour,
    FourthAxis,
    FoveateError,
    MissingChannels,
    Reading,
)
from foveate.data.cache.encoding import Histogram
from foveate.data.cache.index import PROFILE

FORMAT_VERSION = 5
EARLIER = 4  # is read as it is: no statistics, no checksums, axes in the image's own order
WindowOf = Literal["profile", "percentiles", "range", "foreground", "dataset"]
Profile = Literal["ct", "mr", "pet", "xray", "us", "generic"]
DEFAULT_PERCENTILES = (0.5, 99.5)
FOREGROUND = (-7.0, 3.0)  # ends of the window, in deviations from the mean: the dark half lies below -2
LEAST_SHARE = 0.01  # of a window of given ends that an image takes up: one in other units looks constant


class UnusableError(Exception):
    """Why a decoded image would teach nothing as it would be prepared."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Which values read as 0 and 1: two fixed ones, or two percentiles of the image's own voxels."""

    kind: Literal["percentiles", "range"]
    ends: tuple[float, float]


WINDOWS: dict[Profile, Window] = {
    "ct": Window(kind="range", ends=(-1000.0, 1000.0)),  # Hounsfield units
    "mr": Window(kind="percentiles", ends=DEFAULT_PERCENTILES),
    "pet": Window(kind="percentiles", ends=(0.0, 99.9)),  # uptake is sparse: 99.5 would cut the hot spots
    "xray": Window(kind="percentiles", ends=DEFAULT_PERCENTILES),
    "us": Window(kind="percentiles", ends=(0.0, 99.9)),  # black around the fan is the true zero
    "generic": Window(kind="percentiles", ends=DEFAULT_PERCENTILES),
}
BY_MODALITY: dict[str, Profile] = {  # DICOM's words
    "CT": "ct",
    "MR": "mr",
    **dict.fromkeys(("PT", "PET", "NM"), "pet"),
    **dict.fromkeys(("CR", "DX", "DR", "MG", "RG", "XA", "RF", "PX", "IO"), "xray"),
    **dict.fromkeys(("US", "IVUS"), "us"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """How volumes are resampled, cropped and stored, and how intensities map to [0, 1] when they are read.

    Attributes:
        profile: Window of intensities: `by_modality` chooses for each image by what its header says (DICOM)
            and uses `generic` if it says nothing; or one of ct (-1000 to 1000 HU), mr, xray, generic
            (percentiles 0.5 and 99.5 of the image), pet, us (percentiles 0 and 99.9) for all.
        spacing_mm: Voxel size to resample to, one number per axis, or `native`. Axes that shrink are
            low-passed first; label maps take the nearest voxel.
        foreground: Keep the whole image, or crop it to the box of its foreground: what lies above
            `foreground_threshold` of the window, single bright voxels aside.
        foreground_threshold: In units of the window, 0 its low end, 1 its high end: with the ct profile 0.25
            is -500 HU.
        format: `npy` is read fastest; `blosc2` (LZ4) takes about two thirds of the space and needs
            `pip install 'foveate[blosc2]'`.
        window: Override the profile's window for all images: `percentiles` or `range` below; `foreground`:
            each channel's foreground has its mean at 0.7 and its deviation at 0.1 of the window; `dataset`:
            the percentiles 0.5 and 99.5 of the labelled voxels of all training images (`finetune`).
        percentiles: The two percentiles of an image's voxels that become 0 and 1 with `window: percentiles`.
        intensity_range: The two source values that become 0 and 1 with `window: range`, for instance
            [-1000, 1000] in Hounsfield units.
        fourth_axis: What the volumes of a 4D NIfTI are: `channels` of one image, such as sequences;
            a time series, of which the `first` or the `mean` is taken; `images`, each on its own, for
            `pretrain` and `prepare`; or an `error`. Short: `--channels.fourth_axis`.
        colour: Colour pictures (PNG, JPEG, TIFF) turned to `grey`, or with `keep` their red, green and blue
            as three channels; grey pictures then have three equal ones. Short: `--channels.colour`.
        missing_channels: An image that lacks the file of a channel which others of its folder have: an
            `error`, or the channel is `zero` or the `mean` of the image's other channels. Short:
            `--channels.missing`.
    """

    profile: Literal["by_modality", "ct", "mr", "pet", "xray", "us", "generic"] = "by_modality"
    spacing_mm: tuple[float, ...] | Literal["native"] = "native"
    foreground: Literal["keep", "crop"] = "keep"
    foreground_threshold: float = 0.25
    format: Literal["npy", "blosc2"] = "npy"
    window: WindowOf = "profile"
    percentiles: tuple[float, float] = DEFAULT_PERCENTILES
    intensity_range: tuple[float, float] = (0.0, 1.0)
    fourth_axis: FourthAxis = "error"
    colour: Colour = "grey"
    missing_channels: MissingChannels = "error"

    @property
    def reading(self) -> Reading:
        """What of it concerns the reading of files."""
        return Reading(
            fourth_axis=self.fourth_axis, colour=self.colour, missing_channels=self.missing_channels
        )

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise FoveateError(
                f"prepare.percentiles is {self.percentiles}; it takes two rising numbers between 0 and 100."
            )
        if not self.intensity_range[0] < self.intensity_range[1]:
            raise FoveateError(f"prepare.intensity_range is {self.intensity_range}; its numbers must rise.")
        if self.spacing_mm != "native" and not all(0.01 <= size <= 100 for size in self.spacing_mm):
            raise FoveateError(
                f"prepare.spacing_mm is {self.spacing_mm}; it takes millimetres from 0.01 to 100, or native."
            )
        if not 0 <= self.foreground_threshold < 1:
            raise FoveateError(
                f"prepare.foreground_threshold is {self.foreground_threshold}; accepted are 0 to below 1."
            )
        self._refuse_unused()

    def _refuse_unused(self) -> None:
        keys = (
            ("percentiles", self.percentiles, DEFAULT_PERCENTILES, "percentiles"),
            ("intensity_range", self.intensity_range, (0.0, 1.0), "range"),
        )
        for name, value, default, window in keys:
            if value != default and self.window != window:
                raise FoveateError(
                    f"prepare.{name} is {value}, which only `prepare.window: {window}` reads; "
                    f"prepare.window is {self.window}."
                )


def as_json(config: PrepareConfig, version: int = FORMAT_VERSION) -> str:
    """One line that tells how a cache is made."""
    values = asdict(config)
    later = {name: values.pop(name) for name in asdict(Reading()) if name in values}  # new: caches had none
    changed = {name: value for name, value in later.items() if value != asdict(Reading())[name]}
    return json.dumps({"format_version": version, **values, **changed}, sort_keys=True)


def is_of_before(folder: Path) -> bool:
    """Whether an earlier version made a cache and no other has added to it."""
    return bool(parsed_profile((folder / PROFILE).read_text(), folder)["format_version"] == EARLIER)


def parsed_profile(text: str, where: Path) -> dict[str, Any]:
    """What `as_json` wrote, as it stands there.

    Raises:
        FoveateError: when it is damaged.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        values = None
    if not isinstance(values, dict) or "format_version" not in values:
        raise FoveateError(
            f"{where / PROFILE} is damaged; put it back from a backup, or prepare the cache anew in another "
            "folder."
        )
    return values


def earlier_note(folder: Path) -> str:
    """What is said of a cache of an earlier version."""
    return (
        f"{folder} was made by an earlier version (format {EARLIER}): its images are read as they are, with "
        "statistics counted when they are asked for and slower slices; `foveate prepare` into another folder "
        "makes it anew"
    )


def from_json(text: str, where: Path) -> PrepareConfig:
    """The configuration that `as_json` wrote.

    Raises:
        FoveateError: when it is of another version of the format.
    """
    values = parsed_profile(text, where)
    version = values.pop("format_version")
    if version not in (EARLIER, FORMAT_VERSION):
        raise FoveateError(
            f"{where} holds a cache of format {version}; accepted are {EARLIER} and {FORMAT_VERSION}. "
            "Prepare it anew in another folder, or use the version of foveate that made it."
        )
    lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return PrepareConfig(**{**values, **lists})


def profile_of(modality: str, config: PrepareConfig) -> Profile:
    """The profile of an image whose header names a modality.

    >>> profile_of("PT", PrepareConfig()), profile_of("", PrepareConfig())
    ('pet', 'generic')
    """
    if config.profile == "by_modality":
        return BY_MODALITY.get(modality.upper(), "generic")
    return config.profile


def foreground_windows(statistics: Sequence[ChannelStatistics]) -> tuple[tuple[float, float], ...]:
    """The source values of every channel that read as 0 and 1, by its foreground's mean and deviation.

    A channel of one value reads as the foreground's mean.
    """
    below, above = FOREGROUND
    found = []
    for channel in statistics:
        mean = channel.foreground.mean
        unit = channel.foreground.std or channel.whole.std or 1.0
        found.append((mean + below * unit, mean + above * unit))
    return tuple(found)


def window_values(counts: Histogram, profile: Profile, config: PrepareConfig) -> tuple[float, float]:
    """The source values that read as 0 and 1; an image that would read as constant is refused.

    Raises:
        UnusableError: when no value lies inside, or nearly all are equal.
    """
    window = WINDOWS[profile]
    if config.window == "percentiles":
        window = Window(kind="percentiles", ends=config.percentiles)
    elif config.window == "range":
        window = Window(kind="range", ends=config.intensity_range)
    if window.kind == "range":
        low, high = window.ends
        name = "intensity_range" if config.window == "range" else f"the {profile} profile's window"
        if counts.percentile(100) <= low or counts.percentile(0) >= high:
            raise UnusableError(f"all its values lie outside {name} {low:g} to {high:g}")
        first, last = counts.percentile(0), counts.percentile(100)
        if min(last, high) - max(first, low) < LEAST_SHARE * (high - low):
            raise UnusableError(
                f"its values {first:g} to {last:g} take up less than {LEAST_SHARE:.0%} of {name} {low:g} to "
                f"{high:g}: they are in other units (--prepare.profile generic goes by percentiles)"
            )
        return low, high
    low, high = (counts.percentile(percent) for percent in window.ends)
    if low == high:
        raise UnusableError(f"its percentiles {window.ends} are both {low:g}: nearly all of it is background")
    return low, high

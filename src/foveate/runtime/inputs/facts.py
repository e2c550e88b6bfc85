"""The facts of training images in a card, the facts of a new image, and the gate that compares them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, final

import numpy as np

from foveate.core.types import FoveateError, Record
from foveate.data.cache.encoding import Histogram, together
from foveate.data.cache.profiles import BY_MODALITY, WINDOWS, PrepareConfig, Profile
from foveate.data.cache.volumes import Cache, CachedVolume
from foveate.runtime.inputs.check import UNKNOWN, Ends, Finding, ImageFacts, TrainedFacts, compare
from foveate.train.logging import say

PERCENTILES = (0, 5, 50, 95, 100)  # over the images; the outer two are compared, the others are for people
MOST_IMAGES = 64  # whose values are counted for a card
GENERIC: Profile = "generic"
PROFILES: dict[str, Profile] = {**{name: name for name in WINDOWS}, UNKNOWN: GENERIC}


def image_facts(volume: CachedVolume, record: Record | None = None) -> ImageFacts:
    """The facts of a prepared image; its modality is what the record says."""
    counts = values_of(volume)
    return ImageFacts(
        dimension=len(volume.view_shape),
        channels=volume.channels,
        spacing_mm=volume.view_spacing_mm,
        size_mm=tuple(n * mm for n, mm in zip(volume.view_shape, volume.view_spacing_mm, strict=True)),
        tilt_degrees=tilt_of(volume.entry.affine, len(volume.shape)),
        low=counts.percentile(0.5),
        middle=counts.percentile(50),
        high=counts.percentile(99.5),
        modality=BY_MODALITY.get(record.modality.upper(), UNKNOWN) if record else UNKNOWN,
        stated=record is not None and record.evidence.startswith("DICOM"),
    )


def values_of(volume: CachedVolume) -> Histogram:
    """How often each value occurs in all channels."""
    return together(volume.histograms())


def tilt_of(affine: Sequence[Sequence[float]], axes: int) -> float:
    """Degrees between the axes of an array and those of the body, of the axis that is furthest off.

    >>> c, s = 2 * np.cos(np.pi / 6), 2 * np.sin(np.pi / 6)
    >>> round(tilt_of([[c, -s, 0, 0], [s, c, 0, 0], [0, 0, 5, 0], [0, 0, 0, 1]], 3), 6)
    30.0
    """
    columns = np.abs(np.array(affine)[:3, :axes])
    along = columns.max(axis=0) / np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
    return float(np.degrees(np.arccos(np.clip(along.min(), 0, 1))))


def card_facts(cache: Cache, config: PrepareConfig) -> dict[str, Any]:
    """The `input` of a card: statistics over the training images, nothing about a single one."""
    some = cache.volumes[:: -(-len(cache) // MOST_IMAGES)]
    facts = [image_facts(volume) for volume in some]
    profiles = Counter(volume.entry.profile for volume in cache)
    spacing = np.array([volume.view_spacing_mm for volume in cache])
    size = spacing * np.array([volume.view_shape for volume in cache])
    return {
        "percentiles": list(PERCENTILES),
        "channels": cache.channels,
        "modalities": {
            UNKNOWN if name == GENERIC else name: round(count / len(cache), 4)
            for name, count in sorted(profiles.items())
        },
        "fixed_window": any(fixed(profile, config) for profile in profiles),
        "spacing_mm": [spread(column) for column in spacing.T],
        "size_mm": [spread(column) for column in size.T],
        "tilt_degrees": spread([each.tilt_degrees for each in facts]),
        "low": spread([each.low for each in facts]),
        "width": spread([each.width for each in facts]),
        "below_zero": spread([each.below_zero for each in facts]),
        "middle_place": spread([each.middle_place for each in facts]),
    }


def fixed(profile: str, config: PrepareConfig) -> bool:
    """Whether a window has the same ends in every image."""
    return config.window == "range" or (
        config.window == "profile" and WINDOWS[PROFILES[profile]].kind == "range"
    )


def spread(values: Sequence[float] | np.ndarray[Any, Any]) -> list[float]:
    """Percentiles over the images, to four digits."""
    return [float(f"{value:.4g}") for value in np.percentile(values, PERCENTILES)]


def trained_facts(card: Mapping[str, Any], *, by_voxel: bool) -> TrainedFacts:
    """The facts of a card; those of an earlier version lack most of them.

    Raises:
        FoveateError: when they are not of the form that `card_facts` writes.
    """
    dimension: int = card["dimension"]
    given = card.get("input")
    if given is None:
        return TrainedFacts(dimension=dimension, by_voxel=by_voxel, channels=None)
    try:
        return TrainedFacts(
            dimension=dimension,
            by_voxel=by_voxel,
            channels=int(given["channels"]),
            modalities={str(name): float(share) for name, share in given["modalities"].items()},
            fixed_window=bool(given["fixed_window"]),
            spacing_mm=axes_of(given["spacing_mm"], dimension),
            size_mm=axes_of(given["size_mm"], dimension),
            tilt_degrees=ends_of(given["tilt_degrees"]),
            low=ends_of(given["low"]),
            width=ends_of(given["width"]),
            below_zero=ends_of(given["below_zero"]),
            middle_place=ends_of(given["middle_place"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        raise FoveateError(
            "The card of --run is damaged: its `input` is not what fine-tuning writes; accepted: the card "
            "as it was written, or one without `input`, whose images are then not compared."
        ) from None


def ends_of(values: Sequence[float]) -> Ends:
    """The smallest and the largest of numbers over the images."""
    low, high = float(values[0]), float(values[-1])
    if len(values) != len(PERCENTILES) or not low <= high:
        raise ValueError(values)
    return low, high


def axes_of(values: Sequence[Sequence[float]], dimension: int) -> tuple[Ends, ...]:
    """The same for each axis."""
    ends = tuple(map(ends_of, values))
    if len(ends) != dimension:
        raise ValueError(values)
    return ends


def as_trained(config: PrepareConfig, trained: TrainedFacts) -> PrepareConfig:
    """How a new image is prepared: with the profile of the training images if they share one."""
    known = [PROFILES[name] for name in trained.modalities or {} if name in PROFILES]
    if config.profile != "by_modality" or len(known) != 1:
        return config
    return replace(config, profile=known[0])


@final
class Gate:
    """Refuses images that are too unlike the training images, and warns of doubtful ones."""

    def __init__(self, trained: TrainedFacts, *, force: bool) -> None:
        self.trained, self.force = trained, force
        if text := unchecked(trained):
            say(f"warning: {text}")

    def warning(self, record: Record, volume: CachedVolume) -> str:
        """What is doubtful about an image; "" where nothing is.

        Raises:
            FoveateError: when its answer would be meaningless, and nothing forces it.
        """
        found = compare(self.trained, image_facts(volume, record))
        wrong = [each for each in found if each.severity == "error"]
        if wrong and not self.force:
            raise FoveateError(f"{sentence(wrong)} (--force predicts it anyway)")
        text = "forced: " * bool(wrong) + sentence(found)
        if text:
            say(f"warning: {record.relative}: {text}")
        return text


def sentence(findings: Sequence[Finding]) -> str:
    """Findings in one line."""
    return "; ".join(map(str, findings))


def unchecked(trained: TrainedFacts) -> str:
    """What cannot be compared, in words."""
    known: Mapping[str, float] | None = trained.modalities
    if known is None:
        return (
            "the card of --run is of an earlier version and does not say what its training images were like: "
            "modality, channels, spacing, size, orientation and intensities are not compared"
        )
    if share := known.get(UNKNOWN):
        some = "the" if share == 1 else f"{share:.0%} of the"
        return f"the modality of {some} training images is not known: values are compared, modalities are not"
    return ""

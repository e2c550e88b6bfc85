"""The card of a weights file: what is checked when it is read, and when it meets another input."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import fields
from math import isfinite
from typing import Any, Literal, get_args, get_origin, get_type_hints

from foveate.core.dims import LAYERS
from foveate.core.networks import EncoderConfig
from foveate.core.types import FoveateError, Normalisation, printable
from foveate.nets.encoders.catalogue import ENCODERS, MODULE

FORMAT = "foveate/1"
Card = dict[str, Any]
LARGEST = 100_000  # no number of an encoder's configuration is larger
RANGES = {"range": "intensity_range", "percentiles": "percentiles"}  # which field holds a window's ends
WINDOWS = ("profile", *RANGES, "foreground", "dataset")
LIKE = 1.25  # spacings within this ratio are the same


def parse_card(text: str, name: str) -> Card:
    """A card from JSON, with what loading relies on present and of the right type."""
    try:
        card = json.loads(text)
    except (ValueError, RecursionError):
        raise FoveateError(f"{name}: its card is not JSON.") from None
    if not isinstance(card, dict) or card.get("format") != FORMAT:
        found = card.get("format") if isinstance(card, dict) else type(card).__name__
        raise FoveateError(f"{name}: card format {printable(repr(found))}; this version reads {FORMAT!r}.")
    if problem := of_python(card):
        raise FoveateError(f"{name}: {problem}.")
    if problem := wrong_field(card) or wrong_input(card) or wrong_step(card):
        raise FoveateError(f"{name}: its card is damaged: {problem}.")
    return card


def of_python(card: Card) -> str:
    """What to do where the encoder is a torch module that is not here; empty where it is not."""
    encoder = card.get("encoder")
    named = isinstance(encoder, dict) and encoder.get("name") == MODULE
    if not named or MODULE in ENCODERS.names():
        return ""
    return (
        "its encoder is a torch module that Python gave; accepted: foveate.load_encoder(RUN, module=MODULE) "
        "with the same network"
    )


def wrong_field(card: Card) -> str:
    """The first field of a card that is not what it must be, and what is accepted; empty: none."""
    if card.get("dimension") not in tuple(LAYERS):
        return f"dimension is {printable(repr(card.get('dimension')))}, accepted are {list(LAYERS)}"
    encoder = card.get("encoder")
    if not isinstance(encoder, dict) or encoder.get("name") not in ENCODERS.names():
        shown = printable(repr(encoder.get("name") if isinstance(encoder, dict) else encoder))
        return f"encoder.name is {shown}, accepted are {', '.join(ENCODERS)}"
    entry = ENCODERS[str(encoder["name"])]
    if card["dimension"] not in entry.dimensions:
        return f"encoder {encoder['name']} does not exist in {card['dimension']}D"
    known, hints = {field.name: field for field in fields(entry.config)}, get_type_hints(entry.config)
    if strangers := sorted(set(map(str, encoder)) - set(known)):
        return f"encoder.{printable(strangers[0])} is no argument of {encoder['name']}"
    wrong = (wrong_value(f"encoder.{k}", v, known[k].default, hints[k]) for k, v in encoder.items())
    return next(filter(None, wrong), "")


def wrong_value(name: str, value: object, default: object, hint: object) -> str:
    """Why a value of JSON may not stand for a configuration's default; empty: it may."""
    words = get_args(hint) if get_origin(hint) is Literal else ()
    if words and value not in words:
        return f"{name} is {printable(repr(value))}, accepted are {', '.join(map(str, words))}"
    if not alike(value, default):
        return f"{name} is {printable(repr(value))}, accepted is something like {default!r}"
    return ""


def wrong_input(card: Card) -> str:
    """The same of the fields that say what the weights were trained on; absent or null: not known."""
    channels, spacing, intensity = card.get("in_channels"), card.get("spacing_mm"), card.get("intensity")
    if channels != card["encoder"].get("in_channels", 1) or not alike(channels, 1):
        return f"in_channels is {printable(repr(channels))}, accepted is the number that the encoder reads"
    if spacing is not None and not are_numbers(spacing, card["dimension"]):
        return f"spacing_mm is {printable(repr(spacing))}, accepted is a number of mm for each axis"
    slices = card.get("slices")
    if slices is not None and not (isinstance(slices, dict) and slices.keys() == {"axis", "neighbours"}):
        return f"slices is {printable(repr(slices))}, accepted is an axis and a number of neighbours"
    if intensity is None:
        return ""
    named = isinstance(intensity, dict) and intensity.get("window") in WINDOWS
    if named and are_numbers(intensity.get(RANGES.get(intensity["window"], ""), [0, 1]), 2):
        return ""
    return f"intensity is {printable(repr(intensity))}, accepted is a window and its two ends"


def wrong_step(card: Card) -> str:
    """The same of the step before the network; absent or null: not known."""
    step = card.get("normalisation")
    return "" if step is None else wrong_value("normalisation", step, "none", Normalisation)


def are_numbers(value: object, count: int) -> bool:
    """Whether a value of JSON is a list of so many finite numbers."""
    return (
        isinstance(value, list)
        and len(value) == count
        and all(isinstance(v, int | float) and not isinstance(v, bool) and isfinite(v) for v in value)
    )


def alike(value: object, default: object) -> bool:
    """Whether a value of JSON may stand for a configuration's default."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(value, bool) and isinstance(default, bool)
    if isinstance(default, int):
        return isinstance(value, int) and 1 <= value <= LARGEST
    if isinstance(default, tuple):
        return isinstance(value, list) and 1 <= len(value) <= 64 and all(alike(v, 1) for v in value)
    return isinstance(value, type(default))


def encoder_config(card: Card) -> EncoderConfig:
    """The configuration of the card's encoder; lists of JSON are tuples again."""
    keys: Card = {k: tuple(v) if isinstance(v, list) else v for k, v in card["encoder"].items()}
    return ENCODERS[str(keys["name"])].config(**keys)


def check_card(
    card: Mapping[str, Any],
    *,
    dimension: int,
    in_channels: int,
    normalisation: str,
    intensity: Mapping[str, Any],
    spacing: Sequence[float],
    slices: Mapping[str, Any] | None = None,
) -> list[str]:
    """How the input that weights were trained on differs from the one they will see.

    Args:
        card: Of the weights.
        dimension: Of the network that they go into.
        in_channels: Channels of its images.
        normalisation: The named step before the network.
        intensity: The intensity rule, as `prepare` in a configuration.
        spacing: Size of a voxel in mm along each axis.
        slices: How volumes are cut into slices, None where they are not.

    Returns:
        The differences that training can bridge, in words.

    Raises:
        FoveateError: where the weights would be meaningless.
    """
    if card["dimension"] != dimension:
        raise FoveateError(
            f"The weights are {card['dimension']}D and the network is {dimension}D. A 2D ResNet "
            "becomes 3D by `foveate convert FILE --out NEW.safetensors --inflate mean`; nothing else does."
        )
    channels = card["in_channels"]
    if channels != in_channels and 1 not in (channels, in_channels):
        raise FoveateError(
            f"The weights read {channels} image channels and the network {in_channels}; accepted: as "
            "many, or 1 on either side."
        )
    named = [channel_note(channels, in_channels)]
    named.append(difference("normalisation", card.get("normalisation"), normalisation))
    named.append(intensity_note(card.get("intensity"), intensity))
    named.append(spacing_note(card.get("spacing_mm"), spacing))
    named.append(difference("slices", slicing(card.get("slices")), slicing(slices)))
    return [note for note in named if note]


def channel_note(given: int, wanted: int) -> str:
    """What happens to image channels."""
    how = "repeated and divided by their number" if given == 1 else "summed"
    return "" if given == wanted else f"image channels: {given} in the weights, {wanted} here; {how}"


def difference(field: str, given: object, wanted: object) -> str:
    """Two values of a field in words; empty where they agree."""
    if given is None:
        return f"{field}: the weights do not say theirs; here {printable(wanted)}"
    return "" if given == wanted else f"{field}: {printable(given)} in the weights, {printable(wanted)} here"


def intensity_note(given: Mapping[str, Any] | None, wanted: Mapping[str, Any]) -> str:
    """Two intensity rules; an error where fixed ranges have nothing in common."""
    if given is None:
        return difference("intensity", None, rule(wanted))
    if given.get("window") == wanted.get("window") == "range":
        (a, b), (c, d) = given["intensity_range"], wanted["intensity_range"]
        common, wider, narrower = min(b, d) - max(a, c), max(b - a, d - c), min(b - a, d - c)
        if common <= 0 or wider > 20 * narrower:
            raise FoveateError(
                f"The weights were trained on values from {a:g} to {b:g} and prepare.intensity_range is "
                f"{c:g} to {d:g}: not the same units. Say a range in the weights' units, as {a:g} to {b:g}."
            )
    return difference("intensity", rule(given), rule(wanted))


def slicing(slices: Mapping[str, Any] | None) -> str:
    """How volumes are cut, in words.

    >>> slicing({"axis": "auto", "neighbours": 1}), slicing(None)
    ('across auto with 1 neighbours on either side', 'none')
    """
    if slices is None:
        return "none"
    return printable(f"across {slices['axis']} with {slices['neighbours']} neighbours on either side")


def rule(intensity: Mapping[str, Any]) -> str:
    """An intensity rule in words.

    >>> rule({"window": "range", "intensity_range": (-1000.0, 1000.0), "percentiles": (0.5, 99.5)})
    'range -1000 to 1000'
    >>> rule({"window": "profile", "profile": "ct"})
    'profile ct'
    """
    window = str(intensity["window"])
    if window == "profile":
        return f"profile {printable(str(intensity.get('profile')))}"
    low, high = intensity.get(RANGES.get(window, ""), (None, None))
    return printable(window) if low is None else f"{window} {low:g} to {high:g}"


def spacing_note(given: Sequence[float] | None, wanted: Sequence[float]) -> str:
    """Two spacings in words, where they differ by more than a quarter."""
    if not given:
        return ""
    pairs = zip(given, wanted, strict=False)
    if all(a > 0 and b > 0 and max(a / b, b / a) <= LIKE for a, b in pairs):
        return ""
    return difference(
        "spacing in mm", [round(float(a), 3) for a in given], [round(float(b), 3) for b in wanted]
    )

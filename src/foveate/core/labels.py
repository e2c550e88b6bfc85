"""Labels of whole images as tables hold them; classes of label maps as a configuration names them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsFloat

from foveate.core.types import FoveateError, Json, LabelFacts

LABELS = "labels"  # the map that every image with a label map comes with
MISSING = ("", "nan", "na", "n/a", "null")  # not "none": of a finding it is a class


def is_missing(value: object) -> bool:
    """Whether a value counts as missing.

    >>> [is_missing(v) for v in ("", None, float("nan"), "NA", 0, "0")]
    [True, True, True, True, False, False]
    """
    return value is None or (isinstance(value, float) and math.isnan(value)) or str(value).lower() in MISSING


def spelled(value: object) -> str:
    """A class name: 1, 1.0 and "1" are the same.

    >>> spelled(1.0), spelled("1.0"), spelled("benign ")
    ('1', '1', 'benign')
    """
    text = str(value).strip()
    return text.removesuffix(".0") if text.removesuffix(".0").lstrip("-").isdecimal() else text


def number_of(value: Json) -> float | None:
    """A label as a number; None where it is none.

    >>> number_of("1e3"), number_of(True), number_of("benign"), number_of([1])
    (1000.0, 1.0, None, None)
    """
    if not isinstance(value, str | SupportsFloat):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def check_targets(targets: Sequence[str], facts: LabelFacts, *, one: bool) -> None:
    """Refuse targets that are no columns or hold nothing; where `one` is wanted, another number of them."""
    known = ", ".join(facts.columns) or "none"
    if not targets or (one and len(targets) != 1):
        wanted = "exactly one column" if one else "at least one column"
        raise FoveateError(f"task.targets {list(targets)}: {wanted} is accepted; there are: {known}.")
    for target in targets:
        if target not in facts.columns:
            raise FoveateError(f"task.targets: there is no column {target!r}; there are: {known}.")
        if all(map(is_missing, facts.columns[target])):
            raise FoveateError(
                f"task.targets: {target!r} is missing for every training image; at least one is needed."
            )


def unions(classes: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Names and values of classes.

    >>> unions(("edema=2", "whole=1+2+4"))
    {'edema': (2,), 'whole': (1, 2, 4)}
    """
    named: dict[str, tuple[int, ...]] = {}
    for text in classes:
        name, equals, values = text.partition("=")
        parts = [part.strip() for part in values.split("+")]
        if not equals or not name.strip() or name in named or not all(part.isdecimal() for part in parts):
            raise FoveateError(
                f"task.classes: {text!r} is not accepted; write name=value or name=value+value, each name "
                "once."
            )
        named[name.strip()] = tuple(int(part) for part in parts)
    return named

"""Labels of whole images as tables hold them."""

from __future__ import annotations

import math

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

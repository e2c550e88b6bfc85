"""Keeps out of logs what libraries say: of a stream that was spoilt on purpose, and what quotes a header."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ERRORS = 2  # the file descriptor to which C libraries print


@contextmanager
def unquoted() -> Iterator[None]:
    """No warning is seen and nothing of pydicom's is logged: both may quote the header."""
    reports = logging.getLogger("pydicom")
    level = reports.level
    reports.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        reports.setLevel(level)


@contextmanager
def silence() -> Iterator[None]:
    """Nothing that is printed to the standard error is seen."""
    try:
        kept = os.dup(ERRORS)
    except OSError:  # it is closed
        yield
        return
    nothing = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nothing, ERRORS)
        yield
    finally:
        os.dup2(kept, ERRORS)
        os.close(kept)
        os.close(nothing)

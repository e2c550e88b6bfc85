"""Keeps what a C library prints while it decodes a stream that was spoilt on purpose out of the log."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

ERRORS = 2  # the file descriptor to which C libraries print


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

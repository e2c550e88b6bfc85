"""Charts in a file beside a run: written by commands, shown by its page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from foveate.core.files import write_json
from foveate.core.types import Json
from foveate.pages.curves import Curve


class Plot(NamedTuple):
    """Curves over one axis, and what the axes are."""

    x: str
    y: str
    curves: Mapping[str, Curve]
    log_x: bool = False


def write_plots(path: Path, plots: Mapping[str, Plot]) -> None:
    """Charts by title, as JSON; a number that is none is null."""
    said: dict[str, Json] = {
        title: {
            "x": plot.x,
            "y": plot.y,
            "log_x": plot.log_x,
            "curves": {
                name: {axis: [float(v) for v in values] for axis, values in curve._asdict().items()}
                for name, curve in plot.curves.items()
            },
        }
        for title, plot in plots.items()
    }
    write_json(path, said)


def read_plots(path: Path) -> dict[str, Plot]:
    """The charts of a file; none where it is not there or damaged."""
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        return {
            title: Plot(
                str(each["x"]),
                str(each["y"]),
                {
                    name: Curve(**{axis: numbers(values) for axis, values in curve.items()})
                    for name, curve in each["curves"].items()
                },
                bool(each["log_x"]),
            )
            for title, each in said.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError):
        return {}


def numbers(values: Sequence[float | None]) -> list[float]:
    """Numbers, NaN where there was none."""
    return [math.nan if value is None else float(value) for value in values]

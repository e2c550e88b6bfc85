"""The FROC curve as a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.scoring.boxes.froc import RATES, Curve, sensitivity_at
from foveate.scoring.figures import COLOURS, new_axes, save_figure

LOWEST = RATES[0] / 2


def draw_froc(path: Path, curve: Curve) -> None:
    """Sensitivity against false alarms per scan on a logarithmic axis, with the rates that CPM reads."""
    figure, axes = new_axes()
    x = np.geomspace(LOWEST, 2 * RATES[-1], 400)
    axes.plot(x, sensitivity_at(curve, x.tolist()), color=COLOURS[0])
    found = sensitivity_at(curve)
    axes.plot(RATES, found, "o", color=COLOURS[0], label=f"CPM {found.mean():.3f}")
    axes.set_xscale("log", base=2)
    axes.set_xticks(RATES, [f"{rate:g}" for rate in RATES])
    axes.set(
        xlabel="false alarms per scan", ylabel="sensitivity", ylim=(0, 1.02), xlim=(LOWEST, 2 * RATES[-1])
    )
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    save_figure(figure, path)

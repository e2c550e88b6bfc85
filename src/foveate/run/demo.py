"""The demo: the main job on virtual brains, offline, on a laptop, in minutes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rich.progress import Progress as Bar

from foveate.core.types import FoveateError
from foveate.data.virtual_brains import build_cohort
from foveate.run.pretrain import pretrain
from foveate.run.settings import resolve
from foveate.train.logging import CONSOLE, say

BRAINS = 24
DEFAULTS = {"out": "demo", "steps": "300", "seed": "0"}


def run_demo(flags: Mapping[str, str]) -> bool:
    """Build the cohort, pre-train a small 3D PCRLv2 on its images, say where to look."""
    if unknown := sorted(set(flags) - set(DEFAULTS)):
        raise FoveateError(f"--{unknown[0]}: `foveate demo` takes {', '.join(f'--{k}' for k in DEFAULTS)}.")
    chosen = {**DEFAULTS, **flags}
    out = Path(chosen["out"])
    with Bar(console=CONSOLE, transient=True, disable=not CONSOLE.is_terminal) as bar:
        task = bar.add_task("building virtual brains", total=BRAINS)
        build_cohort(out / "brains", BRAINS, 0, lambda done, _total: bar.update(task, completed=done))
    say(f"{BRAINS} virtual brains with labels: {out / 'brains'}")
    keys = {
        "data": str(out / "brains"),
        "out": str(out / "run"),
        "size": "small",
        "steps": chosen["steps"],
        "seed": chosen["seed"],
        "preview_every": "100",
    }
    finished = pretrain(resolve({}, keys))
    if finished:
        say(f"look at {out / 'run' / 'previews'}: clean view, corrupted view, restoration at every scale")
        say(f'then: foveate.load_encoder("{out / "run"}") in Python')
    return finished

"""One section of `report.py` in a process of its own: its rows go into a file, one after the other."""

from __future__ import annotations

import argparse
import gc
import json
import logging
import traceback
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

import torch

from foveate.train.logging import CONSOLE
from hardware import Row, Setting

SECTIONS = {  # section -> its module, which is imported when it is its turn: what it needs takes seconds
    "environment": "hardware",
    "ceiling": "hardware",
    "parity": "programs",
    "steps": "training",
    "loop": "processes",
    "memory": "training",
    "predict": "answers",
    "devices": "processes",
}


def arguments() -> argparse.Namespace:
    """The command line that `report.py` gives."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=SECTIONS)
    parser.add_argument("--rows", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--accelerator", required=True)
    parser.add_argument("--fixtures", required=True)
    parser.add_argument("--launcher", required=True)
    parser.add_argument("--miniature", action="store_true")
    return parser.parse_args()


def attempt(what: str, measure: Callable[[], Row]) -> Row:
    """A row, or why there is none."""
    print(what, flush=True)
    try:
        return {"what": what, **measure()}
    except Exception as error:
        traceback.print_exc()
        return {"what": what, "failed": f"{type(error).__name__}: {error}"[:500]}


def main() -> None:
    """Every row is written when it is known."""
    chosen = arguments()
    logging.disable(logging.WARNING)
    CONSOLE.quiet = True
    before = json.loads(chosen.results.read_text(encoding="utf-8")) if chosen.results.exists() else {}
    setting = Setting(
        accelerator=chosen.accelerator,
        miniature=chosen.miniature,
        scratch=chosen.scratch,
        fixtures=chosen.fixtures,
        launcher=chosen.launcher,
        before={name: section["rows"] for name, section in before.items()},
    )
    rows: list[Row] = []
    measures = getattr(import_module(SECTIONS[chosen.name]), chosen.name)
    for what, measure in measures(setting):
        rows.append(attempt(what, measure))
        chosen.rows.write_text(json.dumps(rows), encoding="utf-8")
        gc.collect()
        if chosen.accelerator == "cuda":
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()

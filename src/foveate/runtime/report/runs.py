"""The page of a run of `pretrain` or `finetune`, finished or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from foveate.core import config as parsing
from foveate.core.types import Json
from foveate.pages.curves import Curve, chart
from foveate.pages.elements import Html, Part, el, facts, folded, joined, table
from foveate.pages.page import Page
from foveate.pages.pictures import slider
from foveate.pages.scenes import read_scenes
from foveate.pages.viewer import viewer
from foveate.runtime.report.curves import charts, curve_of, is_short
from foveate.runtime.report.written import Row, inner, lines_of, mapping_of, rows_of
from foveate.train.verdicts import ADVICE, judge

LOG_LINES = 200
VIEWS = "previews/views.npz"  # where the views of some samples lie, with their images
VIEWS_NOTE = (
    "Where the views of a sample lie in its image, as the run drew them before its first step, and what its "
    "method marks in them."
)


def add_run(page: Page, folder: Path, name: str = "") -> None:
    """The sections of a run; `name` stands before each where there are several."""
    keys, rows = mapping_of(folder / "run.yaml"), rows_of(folder / "metrics.jsonl")
    before = f"{name}: " if name else ""
    page.head += verdicts(rows, keys, before)
    page.add(f"{before}Summary", summary(folder, keys, rows))
    page.add(f"{before}Curves", charts(page, rows, health=False))
    page.add(f"{before}Health", charts(page, rows, health=True))
    page.add(f"{before}Previews", previews(page, folder))
    scenes = viewer(page, read_scenes(folder / VIEWS))
    page.add(f"{before}Views", el("p", VIEWS_NOTE) if scenes else None, scenes)
    page.add(f"{before}Weights it started from", *transfers(folder))
    page.add(f"{before}Configuration and log", *details(folder, keys))


def verdicts(rows: Sequence[Row], keys: Mapping[str, Json], before: str = "") -> list[Part]:
    """What stands at the end of the log, with advice; nothing of a healthy run."""
    total = keys.get("steps")
    found: dict[str, list[str]] = {}
    for each in judge(rows, total if isinstance(total, int) else 0):
        found.setdefault(each.kind, []).append(each.text)
    return [
        el(
            "div",
            el("p", el("b", f"{before}{'; '.join(texts)}")),
            el("p", f"To do: {ADVICE[kind]}."),
            class_="verdict",
        )
        for kind, texts in found.items()
    ]


def summary(folder: Path, keys: Mapping[str, Json], rows: Sequence[Row]) -> Html:
    """What was trained, on what, where, and how far it came."""
    card, place = mapping_of(folder / "exported" / "card.json"), mapping_of(folder / "environment.json")
    packages = inner(place, "packages")
    versions = packages if isinstance(packages, Mapping) else {}
    batch = " x ".join(
        str(keys[k]) for k in ("batch_size", "accumulate", "devices", "num_nodes") if k in keys
    )
    return facts(
        [
            ("state", state_of(folder, keys, rows)),
            ("method", inner(keys, "method", "name")),
            ("task", inner(keys, "task", "name")),
            ("images seen in", f"{keys['dimension']}D" if "dimension" in keys else ""),
            ("encoder", words_of(inner(keys, "encoder", "name"), inner(keys, "encoder", "width"), "width")),
            ("size", keys.get("size")),
            ("steps", keys.get("steps")),
            ("batch x accumulated x devices x nodes", batch),
            ("images", card.get("images")),
            ("patients", card.get("patients")),
            ("voxel size, mm", listed(card.get("spacing_mm"))),
            ("hash of the data", place.get("data_hash")),
            ("validation score of the weights", card.get("validation_score")),
            ("hardware", place.get("accelerator")),
            ("precision", place.get("precision")),
            ("threads", place.get("threads")),
            ("commit", place.get("commit")),
            ("versions", ", ".join(f"{n} {v}" for n, v in versions.items())),
            ("time in steps", time_in_steps(rows)),
        ]
    )


def state_of(folder: Path, keys: Mapping[str, Json], rows: Sequence[Row]) -> str:
    """Whether it reached its end."""
    step, total = (max((int(str(row["step"])) for row in rows), default=0), keys.get("steps", "?"))
    if (folder / "exported" / "card.json").is_file() and isinstance(total, int) and step >= total:
        return f"finished: {step} steps"
    return f"not at its end: step {step} of {total}. It is still going on, was stopped, or failed."


def words_of(name: Json, value: Json, what: str) -> str:
    """A name with one more fact."""
    return "" if name is None else str(name) if value is None else f"{name}, {what} {value}"


def listed(value: Json) -> str:
    """Numbers side by side."""
    return " x ".join(map(str, value)) if isinstance(value, list) else ""


def time_in_steps(rows: Sequence[Row]) -> str:
    """How long the steps took."""
    total, before = 0.0, 0
    for row in rows:
        seconds, step = row.get("seconds_per_step"), int(str(row["step"]))
        if isinstance(seconds, int | float):
            total, before = total + seconds * (step - before), step
    if total < 360:
        return f"{total:.0f} seconds" if total else ""
    return f"{total / 3600:.1f} hours"


def previews(page: Page, folder: Path) -> Html:
    """The previews over time."""
    paths = sorted((folder / "previews").glob("step-*.png"))
    labels = [f"step {int(re.sub(r'[^0-9]', '', path.stem) or 0)}" for path in paths]
    return slider(page, paths, labels, "previews") if paths else Html("")


def transfers(folder: Path) -> list[Part]:
    """What became of every tensor of the weights that the run started from."""
    found: list[Part] = []
    for path in sorted(folder.glob("transfer*.json")):
        report = mapping_of(path)
        part = path.stem.removeprefix("transfer").strip(".")
        share = report.get("share")
        kinds = {kind: names_of(report.get(kind)) for kind in ("matched", "adapted", "random", "unused")}
        of = f" ({part})" if part else ""
        found.append(
            facts(
                [
                    (
                        f"filled of the encoder{of}",
                        f"{share:.0%}" if isinstance(share, int | float) else None,
                    ),
                    *((f"{kind} tensors", len(names)) for kind, names in kinds.items()),
                    ("notes", "; ".join(names_of(report.get("notes")))),
                ]
            )
        )
        rows = [(kind, name) for kind, names in kinds.items() for name in names]
        found.append(folded(f"Every tensor{of}", table(("what happened", "tensor"), rows)) if rows else None)
    return found


def names_of(value: Json) -> list[str]:
    """Names, or names with how."""
    if isinstance(value, Mapping):
        return [f"{name}: {how}" for name, how in value.items()]
    return [str(each) for each in value] if isinstance(value, list) else []


def details(folder: Path, keys: Mapping[str, Json]) -> list[Part]:
    """Every key, and the log."""
    flat = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in flattened(keys)]
    card = mapping_of(folder / "exported" / "card.json")
    kept = [(key, json.dumps(value)) for key, value in flattened(card)]
    log = lines_of(folder / "train.log", LOG_LINES)
    return [
        folded("Configuration (run.yaml)", table(("key", "value"), flat)) if flat else None,
        folded("Card of the weights", table(("key", "value"), kept)) if kept else None,
        folded(f"Log (the last {LOG_LINES} lines)", el("pre", log)) if log else None,
    ]


def flattened(keys: Mapping[str, Json]) -> list[tuple[str, Json]]:
    """Dotted keys."""
    return list(parsing.flatten(keys))


def add_runs(page: Page, folders: Mapping[str, Path]) -> None:
    """Several runs: first their losses and scores side by side, then each."""
    rows = {name: rows_of(folder / "metrics.jsonl") for name, folder in folders.items()}
    drawn = []
    for key, label in (("loss", "Loss"), ("val/score", "Validation score")):
        curves = {name: curve_of(each, key) for name, each in rows.items()}
        known: dict[str, Curve] = {name: curve for name, curve in curves.items() if curve}
        if known:
            drawn.append(chart(page, f"{label} of all runs", known, dots=is_short(known), names=list(rows)))
    page.add("Side by side", el("div", joined(drawn), class_="two") if drawn else None)
    for name, folder in folders.items():
        add_run(page, folder, name)

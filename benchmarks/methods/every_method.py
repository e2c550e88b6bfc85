"""A short run of every method in 2D and 3D, and one Markdown table of what it cost and how the loss fell.

    FOVEATE_DATA=FOLDER python benchmarks/methods/every_method.py --out DIR [--steps 300] [--methods a,b]
        [--dimensions 2,3]

FOLDER holds `nih_cxr256_multilabel/images` and `msd_hippocampus/images`. Every run is
`foveate pretrain --size small` in a process of its own, with the method's defaults and the same batch order.
What is done is kept in DIR/results.json: the same command goes on where it stopped, and DIR/table.md holds
what there is so far. Losses are the total over the first and the last ten steps, and not comparable between
methods. Memory is the peak of the largest process of a run.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from foveate.runtime.registries import METHODS
from foveate.train.verdicts import Judge

COHORTS = {2: "nih_cxr256_multilabel", 3: "msd_hippocampus"}
NAMES = {2: "2D, `nih_cxr256_multilabel`", 3: "3D, `msd_hippocampus`"}


def rows_of(run: Path) -> list[dict[str, Any]]:
    """The lines of a run's metrics."""
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def measure(name: str, dimension: int, data: Path, out: Path, steps: int) -> dict[str, Any]:
    """One run from start to end."""
    command = [sys.executable, "-m", "foveate.cli", "pretrain", "--method", name, "--size", "small"]
    command += ["--data", str(data), "--out", str(out), "--dimension", str(dimension), "--steps", str(steps)]
    command += ["--log_every", "10", "--preview_every", str(steps), "--health_every", "50"]
    started = time.perf_counter()
    with (out.parent / f"{out.name}.log").open("w", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{name} in {dimension}D failed; see {log.name}")
    judge, lines = Judge(total=steps), rows_of(out)
    for line in lines:
        judge.see(line)
    rows = [line for line in lines if "seconds_per_step" in line]
    return {
        "seconds_per_step": statistics.median(row["seconds_per_step"] for row in rows[1:] or rows),
        "data_wait": statistics.median(row["data_wait"] for row in rows[1:] or rows),
        "minutes": (time.perf_counter() - started) / 60,
        "memory_gb": usage.ru_maxrss / 1e6,
        "first": rows[0]["loss"],
        "last": rows[-1]["loss"],
        "health": "; ".join(verdict.text for verdict in judge.standing()),
    }


def table(results: dict[str, dict[str, Any]], steps: int) -> str:
    """What is known so far, a row per method and a block per dimension."""
    head = "| method | s a step | data wait | peak memory | loss, first 10 | last 10 | health |"
    blocks = []
    for dimension, title in NAMES.items():
        rows = []
        for name in METHODS:
            if found := results.get(f"{name}/{dimension}/{steps}"):
                cost = f"{found['seconds_per_step']:.2f} | {found['data_wait']:.1%}"
                losses = f"{found['first']:.4f} | {found['last']:.4f} | {found['health'] or 'nothing to say'}"
                rows.append(f"| `{name}` | {cost} | {found['memory_gb']:.2f} GB | {losses} |")
        if rows:
            blocks.append("\n".join([f"{title}, {steps} steps", "", head, "|---" * 7 + "|", *rows]))
    return "\n\n".join(blocks)


def main() -> None:
    """Measure what is missing, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--methods", default=",".join(METHODS))
    parser.add_argument("--dimensions", default="2,3")
    chosen = parser.parse_args()
    chosen.out.mkdir(parents=True, exist_ok=True)
    kept = chosen.out / "results.json"
    results = json.loads(kept.read_text(encoding="utf-8")) if kept.exists() else {}
    for dimension in map(int, chosen.dimensions.split(",")):
        data = Path(os.environ["FOVEATE_DATA"]) / COHORTS[dimension] / "images"
        for name in chosen.methods.split(","):
            key = f"{name}/{dimension}/{chosen.steps}"
            if key not in results:
                run = chosen.out / f"{name}_{dimension}d_{chosen.steps}"
                results[key] = measure(name, dimension, data, run, chosen.steps)
                kept.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
                print(key, json.dumps(results[key]), file=sys.stderr)
    text = table(results, chosen.steps)
    (chosen.out / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()

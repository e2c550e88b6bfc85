"""Heart structures from 1 and 3 labelled patients, in several draws: pre-training, unlabelled images, both.

    python benchmarks/evidence/draws.py --data $FOVEATE_DATA/acdc_cine_mr --work FOLDER [--minutes M]
    python benchmarks/evidence/draws.py --table

Fixed before the first test score, in this file and the commit that added it:

- primary endpoint: mean foreground Dice per test volume (40 volumes of 20 patients), mean over the draws;
- a draw is a set of labelled patients and the seed of the fine-tuning; draw K takes the first 1 or 3 of the
  training patients in an order drawn with seed K;
- every arm has the same network, views, optimiser, rate, warm-up and batch; the moving average of the weights
  after the last step is judged, never a checkpoint chosen by a score; one pre-training;
- `scratch_long` has as many steps as take the CPU time of pre-training and fine-tuning together;
- the test part is predicted once per run. Nothing here was chosen on it.

A cell that is in results.json is not run again, so the work may be stopped and goes on elsewhere. Draw 0 was
run without `scratch_long`; the rest is left to acdc.yaml, a comparison with more arms by foveate itself.
"""

from __future__ import annotations

import argparse
import csv
import json
import resource
import subprocess
import time
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
RESULTS = HERE / "draws" / "results.json"
NETWORK = ["--size", "small", "--dimension", "2", "--encoder", "unet2d", "--encoder.width", "8"]
NETWORK += ["--encoder.levels", "5", "--precision", "bf16-mixed", "--preview_every", "0"]
PRETRAIN = [
    "--method",
    "foveate",
    "--batch_size",
    "16",
    "--steps",
    "1000",
    "--patient_pattern",
    r"(patient\d+)_",
]
FINETUNE = ["--task", "segmentation", "--batch_size", "8", "--optim.warmup_steps", "100"]
FINETUNE += ["--task.crops.grid", "[128,128]", "--task.crops.source_sizes", "[[128,128]]"]
FINETUNE += ["--validation.overlap", "0"]
STEPS, LONG_STEPS = 1200, 3200
FROM_PRETRAINED = ["--tuning.transfer", "encoder_decoder"]
ARMS = ("scratch", "pretrained", "unlabelled", "both", "scratch_long")
DRAWS, COUNTS = (0, 1, 2), (1, 3)


def parts(table: Path, draw: int, count: int) -> dict[str, list[str]]:
    """Names of the images of each part; both frames of a labelled patient are labelled."""
    with table.open() as lines:
        rows = list(csv.DictReader(lines))
    patients = sorted({row["patient"] for row in rows if row["split"] == "train"})
    np.random.default_rng(draw).shuffle(patients)
    chosen = set(patients[:count])
    return {
        "train": [row["image"] for row in rows if row["patient"] in chosen],
        "val": [row["image"] for row in rows if row["split"] == "val"],
        "test": [row["image"] for row in rows if row["split"] == "test"],
    }


def unlabelled_folder(data: Path, work: Path) -> Path:
    """Links to all images of the training part, and to nothing else."""
    folder = work / "unlabelled"
    folder.mkdir(parents=True, exist_ok=True)
    with (data / "patients.csv").open() as lines:
        for row in csv.DictReader(lines):
            link = folder / Path(row["image"]).name
            if row["split"] == "train" and not link.exists():
                link.symlink_to((data / row["image"]).resolve())
    return folder


def foveate(*words: str) -> float:
    """Run a command; its CPU seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["foveate", *words], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def cell(data: Path, work: Path, arm: str, count: int, draw: int) -> dict[str, object]:
    """Train and judge one arm."""
    images, run = unlabelled_folder(data, work), work / f"{arm}_{count}_{draw}"
    split = work / f"split_{count}_{draw}.json"
    split.write_text(json.dumps(parts(data / "patients.csv", draw, count)))
    initial = work / "pretrained"
    if arm in ("pretrained", "both") and not (initial / "exported" / "weights.safetensors").exists():
        seconds = foveate("pretrain", "--data", str(images), "--out", str(initial), *NETWORK, *PRETRAIN)
        (work / "pretrained.json").write_text(json.dumps({"cpu_seconds": seconds}))
    steps = str(LONG_STEPS if arm == "scratch_long" else STEPS)
    words = ["--data", str(data), "--out", str(run), "--split.source", str(split), "--seed", str(draw)]
    words += [*NETWORK, *FINETUNE, "--steps", steps, "--validate_every", steps]
    words += (
        ["--init", str(initial), *FROM_PRETRAINED] if arm in ("pretrained", "both") else ["--init", "none"]
    )
    words += ["--unlabelled", str(images)] if arm in ("unlabelled", "both") else []
    seconds = foveate("finetune", *words)
    report = work / f"report_{arm}_{count}_{draw}"
    foveate("evaluate", "--run", str(run), "--data", str(data), "--out", str(report), "--worst", "0")
    with (report / "cases.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=HERE, text=True)
    return {
        "arm": arm,
        "patients": count,
        "draw": draw,
        "dice": [float(row["mean_fg_dice"]) for row in rows],
        "dice_by_class": [
            np.mean([float(row[f"dice/class{k}"]) for row in rows]).round(4) for k in (1, 2, 3)
        ],
        "cpu_seconds": round(seconds),
        "commit": commit.strip(),
    }


def table(cells: list[dict[str, object]]) -> str:
    """Mean Dice per cell, and the mean difference to scratch over the draws that both have."""
    found = {(c["arm"], c["patients"], c["draw"]): float(np.mean(c["dice"])) for c in cells}
    lines = ["| patients | arm | " + " | ".join(f"draw {d}" for d in DRAWS) + " | over scratch |"]
    lines.append("|" + "---|" * (len(DRAWS) + 3))
    for count in COUNTS:
        for arm in ARMS:
            of_arm = [found.get((arm, count, draw)) for draw in DRAWS]
            pairs = [(a, found.get(("scratch", count, d))) for d, a in zip(DRAWS, of_arm, strict=True)]
            gains = [a - s for a, s in pairs if a is not None and s is not None]
            shown = " | ".join("not run" if a is None else f"{a:.3f}" for a in of_arm)
            gain = f"{np.mean(gains):+.3f}" if gains and arm != "scratch" else ""
            lines.append(f"| {count} | {arm} | {shown} | {gain} |")
    return "\n".join(lines)


def main() -> None:
    """Run what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder with patients.csv, images/ and labels/")
    parser.add_argument("--work", type=Path, help="folder for runs, which may be deleted afterwards")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no cell after so many")
    parser.add_argument("--table", action="store_true", help="only print what was measured")
    asked = parser.parse_args()
    cells = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    began = time.monotonic()
    todo = [(a, c, d) for d in DRAWS for a in ARMS for c in COUNTS]
    done = {(c["arm"], c["patients"], c["draw"]) for c in cells}
    for arm, count, draw in [] if asked.table else [t for t in todo if t not in done]:
        if time.monotonic() - began > 60 * asked.minutes:
            break
        cells.append(cell(asked.data, asked.work, arm, count, draw))
        RESULTS.parent.mkdir(exist_ok=True)
        staged = RESULTS.with_suffix(".partial")
        staged.write_text(json.dumps(cells, indent=1) + "\n")
        staged.replace(RESULTS)
    print(table(cells))


if __name__ == "__main__":
    main()

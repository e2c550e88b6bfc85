"""Pictures of the pages on localisation and scan planes, from drawn phantoms (no patient), by the commands.

    python benchmarks/localization/phantoms.py --out docs/tasks/figures --scratch DIR

Organs are ellipses in a body, the stone in half of the images; a sweep goes past a heart and a head with
frames of noise in between. DIR receives phantoms, runs and reports; runs that are there are taken up again.
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from foveate.cli import main as foveate
from foveate.core.types import Array

SIDE, BODIES = 96, 120
ORGANS = {"left lung": (0.32, 0.45), "right lung": (0.68, 0.45), "heart": (0.5, 0.58), "stone": (0.5, 0.85)}
RADII = {"left lung": (0.12, 0.24), "right lung": (0.12, 0.24), "heart": (0.09, 0.08), "stone": (0.035, 0.03)}
GREY = {"left lung": 50, "right lung": 50, "heart": 190, "stone": 230}
PATIENTS, FRAMES, SMALL = 30, 48, 64
SMOOTH = 7
SMALL_RUN = ["--init", "none", "--size", "small", "--num_workers", 0, "--preview_every", 0]


def run(*words: object) -> None:
    """A command, which must end well."""
    if code := foveate([str(word) for word in words]):
        raise SystemExit(code)


def ellipse(side: int, centre: Array, radii: Array) -> Array:
    """Pixels (x, y) inside."""
    x, y = np.meshgrid(*[np.arange(side) / side] * 2, indexing="ij")
    return np.asarray(((x - centre[0]) / radii[0]) ** 2 + ((y - centre[1]) / radii[1]) ** 2 <= 1)


def write_bodies(folder: Path) -> Path:
    """Images and label maps of bodies that vary in place, size and shape."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for i in range(BODIES):
        move, scale = rng.normal(0, 0.04, 2), rng.uniform(0.8, 1.1, 2)
        image, label = np.full((SIDE, SIDE), 10.0), np.zeros((SIDE, SIDE), np.uint8)
        image[ellipse(SIDE, 0.5 + move, 0.42 * scale)] = 110
        for value, name in enumerate(ORGANS, 1):
            centre = 0.5 + move + (np.array(ORGANS[name]) - 0.5) * scale + rng.normal(0, 0.01, 2)
            inside = ellipse(SIDE, centre, np.array(RADII[name]) * scale * rng.uniform(0.85, 1.15, 2))
            if name == "stone" and i % 2:
                continue
            image[inside], label[inside] = GREY[name], value
        image += rng.normal(0, 14, image.shape)
        Image.fromarray(image.clip(0, 255).astype(np.uint8).T).save(folder / f"images/p{i:03d}.png")
        Image.fromarray(label.T).save(folder / f"labels/p{i:03d}.png")
    return folder


def organs(scratch: Path) -> tuple[Path, dict[str, float]]:
    """The worst test images of a localisation, and its metrics."""
    data, out, scores = write_bodies(scratch / "bodies"), scratch / "organs", scratch / "organs_scores"
    classes = ",".join(f"{name}={value}" for value, name in enumerate(ORGANS, 1))
    run(
        *("finetune", "--data", data, "--task", "localization", "--out", out, *SMALL_RUN, "--steps", 150),
        *("--task.classes", f"[{classes}]", "--task.crops.grid", "[64,64]", "--batch_size", 4),
        *("--encoder", "unet2d", "--encoder.width", 8, "--split.val_share", 0.15, "--split.test_share", 0.3),
    )
    run("evaluate", "--run", out, "--data", data, "--out", scores)
    return scores / "worst.png", metrics_in(scores)


def write_sweeps(folder: Path) -> Path:
    """A sweep of each patient: a heart of four chambers, later a head, and frames that show neither."""
    folder.mkdir(parents=True, exist_ok=True)
    rng, rows = np.random.default_rng(1), []
    for patient in range(PATIENTS):
        heart, head = rng.integers(8, 20), rng.integers(28, 40)
        for frame in range(FRAMES):
            plane = "heart" if abs(frame - heart) < 3 else "head" if abs(frame - head) < 4 else "none"
            image = np.full((SMALL, SMALL), 70.0)
            centre, size = 0.5 + rng.normal(0, 0.05, 2), rng.uniform(0.8, 1.2)
            near = np.exp(-min(abs(frame - heart), abs(frame - head)) / 6)  # neighbours look alike
            image[ellipse(SMALL, centre, np.array([0.3, 0.3]) * size)] += 40 * near + 20
            if plane == "heart":
                for dx in (-0.07, 0.07):
                    for dy in (-0.08, 0.08):
                        image[ellipse(SMALL, centre + np.array([dx, dy]), np.array([0.05, 0.06]) * size)] -= (
                            50
                        )
            if plane == "head":
                image[ellipse(SMALL, centre, np.array([0.015, 0.22]) * size)] += 70
            image = image * rng.gamma(6, 1 / 6, image.shape)  # speckle
            name = f"s{patient:02d}_{frame:03d}.png"
            Image.fromarray(image.clip(0, 255).astype(np.uint8).T).save(folder / name)
            rows.append({"image": name, "patient": f"p{patient}", "plane": plane})
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def planes(scratch: Path, path: Path) -> dict[str, dict[str, float]]:
    """Draw a sweep with its answers; metrics with and without smoothing."""
    data, out = write_sweeps(scratch / "sweeps"), scratch / "planes"
    run(
        *("finetune", "--data", data, "--task", "classification", "--out", out, *SMALL_RUN, "--steps", 120),
        *("--task.targets", "[plane]", "--task.background", "none", "--task.weighting", "balanced"),
        *("--task.crops.grid", "[64,64]", "--batch_size", 8, "--encoder", "sononet", "--encoder.width", 4),
        *("--split.val_share", 0.15, "--split.test_share", 0.3),
    )
    found = {}
    for count in (1, SMOOTH):
        scores = scratch / f"planes_scores{count}"
        run("evaluate", "--run", out, "--data", data, "--out", scores, "--smooth_frames", count)
        found[f"{count} frames"] = metrics_in(scores)
    draw_sweep(path, *(rows_in(scratch / f"planes_scores{count}") for count in (1, SMOOTH)))
    return found


def metrics_in(scores: Path) -> dict[str, float]:
    """The metrics of an evaluation."""
    summary = json.loads((scores / "summary.json").read_text())
    return {name: each["value"] for name, each in summary["metrics"].items()}


def rows_in(scores: Path) -> list[dict[str, str]]:
    """The frames of the first patient of an evaluation, in their order."""
    with (scores / "cases.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    return [row for row in rows if row["patient"] == rows[0]["patient"]]


def draw_sweep(path: Path, each: list[dict[str, str]], smooth: list[dict[str, str]]) -> None:
    """Probabilities along a sweep: dots of single frames, lines of means, bars where a plane is."""
    figure = Figure(figsize=(7.2, 2.8), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    names = sorted(("heart", "head", "none"))
    for name, colour in (("heart", "#d55e00"), ("head", "#0072b2")):
        answers = ([float(row[f"answer/{name}"]) for row in rows] for rows in (each, smooth))
        axes.plot(next(answers), "o", color=colour, markersize=3.5, alpha=0.55)
        means = next(answers)
        axes.plot(means, color=colour, linewidth=1.6, label=name)
        true = [i for i, row in enumerate(each) if float(row["label/plane"]) == names.index(name)]
        axes.axvspan(min(true) - 0.5, max(true) + 0.5, color=colour, alpha=0.12, linewidth=0)
        best = int(np.argmax(means))
        axes.plot(best, means[best], "v", color=colour, markersize=9)
    axes.set(xlabel="frame", ylabel="probability", ylim=(-0.03, 1.08), xlim=(-0.5, len(each) - 0.5))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=9, loc="center right")
    figure.savefig(path, metadata={"Software": None})


def main() -> None:
    """Draw both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    picture, found = organs(args.scratch)
    shutil.copy(picture, args.out / "localization.png")
    print(json.dumps({"organs": found, **planes(args.scratch, args.out / "planes.png")}, indent=1))


if __name__ == "__main__":
    main()

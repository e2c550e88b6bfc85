"""What the installed wheel does in an environment without extras: python -I work.py FOLDER."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import foveate
from foveate.cli import main
from foveate.testing.cohorts import write_labelled

SHORT = "--size small --steps 2 --batch_size 2 --num_workers 0 --encoder.width 4"
VIEW = "--{0}.grid [16,16,16] --{0}.source_sizes [[16,16,16]]"
CROPS = f"{VIEW.format('method.global_crops')} --method.local_crops.grid [8,8,8]"
CROPS += " --method.local_crops.source_sizes [[8,8,8]] --method.global_appearance.swap_count 4"
TASK = f"--task segmentation --init run --validate_every 2 {VIEW.format('task.crops')}"
WORK = (
    f"pretrain --data data/images --out run --method pcrlv2 {SHORT} {CROPS}",
    f"finetune --data data --out tuned {TASK} {SHORT}",
    "predict --run tuned --data data/images --out masks",
    "evaluate --run tuned --data data --out scores --part all --draws 20",
    "report run --out report.html",
    "export run --format torch-export --out weights.pt2",
)
MISSING = (  # what needs an extra, and the extra
    ("demo --out demo", "demo"),
    (f"pretrain --data data/images --out a --method pcrlv2 --prepare.format blosc2 {SHORT}", "blosc2"),
    ("export run --format onnx --out net.onnx", "onnx"),
    (f"finetune --data data --out b --task segmentation --init hf:owner/name {SHORT}", "hub"),
    (f"pretrain --data data/images --out c --method pcrlv2 --loggers tensorboard {SHORT}", "loggers"),
    (f"pretrain --data data/images --out d --method pcrlv2 --loggers mlflow {SHORT}", "loggers"),
    (f"pretrain --data data/images --out e --method pcrlv2 --loggers wandb {SHORT}", "loggers"),
    ("embed --run run --data data/images --out f --projection umap", "embed"),
)


def said(line: str) -> tuple[int, str]:
    """Exit code and words of a command."""
    words = io.StringIO()
    with contextlib.redirect_stderr(words), contextlib.redirect_stdout(words):
        code = main(line.split())
    return int(code or 0), words.getvalue()


def check(holds: bool, what: str) -> None:
    """End with a message where something does not hold."""
    if not holds:
        sys.exit(what)


def works() -> None:
    """From images to scores, and a page, with the recipes and assets that lie in the wheel."""
    for line in WORK:
        code, words = said(line)
        check(code == 0, f"{line}\n{words}")
    masks = sorted(path.name for path in Path("masks").glob("*.nii.gz"))
    check(len(masks) == 8, f"masks: {masks}")
    cases = list(csv.DictReader(Path("scores/cases.csv").read_text().splitlines()))
    check(len(cases) == 8, f"{len(cases)} rows in scores/cases.csv")
    dice = json.loads(Path("scores/summary.json").read_text())["metrics"]["mean_fg_dice"]["value"]
    check(0 <= dice <= 1, f"Dice {dice}")
    check("<script" in Path("report.html").read_text(), "report.html has no script: assets are missing")
    code, words = said("finetune --recipe quick --data data --init none --out g --print_config")
    check(code == 0 and "steps: 400" in words, f"recipe quick:\n{words}")
    encoder = foveate.load_encoder("run")
    check(encoder.card["foveate"] == version("foveate"), f"card: {encoder.card['foveate']}")


def tells_what_is_missing() -> None:
    """One sentence with what to install, exit code 2, and nothing left behind."""
    before = set(Path().iterdir())
    for line, extra in MISSING:
        code, words = said(line)
        text = " ".join(words.split())
        check(code == 2, f"{line}: exit code {code}\n{words}")
        check(f"pip install 'foveate[{extra}]'" in text, f"{line}: {words}")
        check("Traceback" not in text and len(text) < 300, f"{line}: more than a sentence:\n{words}")
        check(set(Path().iterdir()) <= before, f"{line}: left {set(Path().iterdir()) - before}")
        print(f"{extra}: {text}")
    code, words = said("embed --run run --data data/images --out features")
    check(code == 0 and Path("features/features.npy").is_file(), words)
    check("pip install 'foveate[embed]'" in " ".join(words.split()), f"embed: {words}")


if __name__ == "__main__":
    check(Path(foveate.__file__).is_relative_to(sys.prefix), f"not the installed one: {foveate.__file__}")
    place = Path(sys.argv[1])
    place.mkdir()
    with contextlib.chdir(place):
        program = Path(sys.executable).with_name("foveate")
        told = subprocess.run([program, "methods"], capture_output=True, text=True, check=True).stdout
        check("pcrlv2" in told, told)
        write_labelled(Path("data"), 3)
        works()
        tells_what_is_missing()
    print(f"foveate {version('foveate')} from the wheel: {len(WORK)} commands, {len(MISSING)} missing extras")

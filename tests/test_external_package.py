"""A package of somebody else, beside foveate in a new environment: seen, trained, resumed, tested."""

import csv
import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.conftest import write_cohort

ROOT = Path(__file__).parents[1]
FLAGS = [
    "--method",
    "denoising",
    "--encoder",
    "plain",
    "--source",
    "by_suffix",
    "--size",
    "small",
    "--dimension",
    "3",
    "--batch_size",
    "2",
]
VIEW = ["--method.global_crops.grid", "[16, 16, 16]", "--method.global_crops.source_sizes", "[[16, 16, 16]]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder of programs of the new environment, which sees the libraries of this one."""
    home = tmp_path_factory.mktemp("venv")
    venv.create(home, with_pip=False)
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "-q",
        "--python",
        str(home / "bin/python"),
    ]
    install = [*pip, "install", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    subprocess.run([*install, str(ROOT), str(ROOT / "tests/external_package")], check=True, env=clean())
    return home / "bin"


def clean():
    """The environment without this checkout on the path."""
    return {**{k: v for k, v in os.environ.items() if k != "PYTHONPATH"}, "OMP_NUM_THREADS": "1"}


def said(program, *arguments, cwd):
    command = [str(program), *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=clean(), cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


ALL = """
import json, sys
from foveate.cli import main
sys.exit(any(main(words) for words in json.loads(sys.argv[1])))
"""  # in one process: each start of Python takes seconds


def ran(installed, commands, cwd):
    """What commands say, one after the other."""
    words = json.dumps([[str(word) for word in command] for command in commands])
    return said(installed / "python", "-c", ALL, words, cwd=cwd)


def test_it_is_listed_trains_resumes_and_keeps_the_shipped_contract(installed, tmp_path):
    write_cohort(tmp_path / "data" / "scans", 3, 3)
    run = ["pretrain", "--data", tmp_path / "data", "--out", tmp_path / "run", *FLAGS, *VIEW]
    commands = [
        ["pretrain", "--method", "denoising", "--encoder", "plain", "--help_all"],
        ["methods"],
        [*run, "--steps", "2"],
        [*run, "--steps", "3", "--log_every", "1"],
    ]
    text = ran(installed, commands, tmp_path)
    for words in (
        "denoising,",
        "plain,",
        "by_suffix",
        "--method.strength",
        "Standard deviation of the noise",
        "Denoising: the clean view",
        "step 3/3",
    ):
        assert words in text

    kit = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "foveate.testing"]
    kit += ["-k", "not bf16"]  # half the time
    names = ["--foveate_method", "denoising", "--foveate_encoder", "plain", "--foveate_task", "ordinal"]
    assert "18 passed" in said(installed / "python", *kit, *names, cwd=tmp_path)


def test_its_task_is_learnt_predicted_and_scored(installed, tmp_path):
    """By nothing but its own file: its metrics, its columns."""
    data = write_cohort(tmp_path / "data", 2, 8)
    rows = [f"{path.name},{i % 4}" for i, path in enumerate(sorted(data.iterdir()))]
    (data / "labels.csv").write_text("\n".join(["image,severity", *rows]) + "\n")
    steps = {
        "finetune": "--data data --task ordinal --task.targets severity --init none --out run --size small "
        "--steps 2 --batch_size 2 --num_workers 0 --encoder.width 4 --task.crops.grid 64,64 "
        "--accelerator cpu --precision 32-true --split.val_share 0.25 --split.test_share 0.25",
        "predict": "--run run --data data --out answers --accelerator cpu",
        "evaluate": "--run run --data data --out scores --part all --draws 50 --accelerator cpu",
    }
    ran(installed, [[name, *flags.split()] for name, flags in steps.items()], tmp_path)
    table = list(csv.DictReader((tmp_path / "answers" / "predictions.csv").open()))
    assert len(table) == 8
    for row in table:
        shares = [float(row[f"grade{k}"]) for k in range(4)]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
        expected = sum(k * share for k, share in enumerate(shares))
        assert float(row["expected"]) == pytest.approx(expected, abs=1e-2)
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    assert set(summary["metrics"]) == {"kappa", "mae", "largest_error", "n"}
    assert summary["less_is_better"] == ["largest_error", "mae", "ece"]
    truth = {row.split(",")[0]: int(row[-1]) for row in rows}
    error = sum(abs(float(row["expected"]) - truth[row["image"]]) for row in table) / 8
    assert summary["metrics"]["mae"]["value"] == pytest.approx(error, abs=1e-2)
    assert summary["metrics"]["mae"]["low"] <= summary["metrics"]["mae"]["high"]
    assert (tmp_path / "scores" / "worst.png").exists()


def test_its_command_is_in_the_overview_and_a_broken_one_stops_nothing(installed, tmp_path):
    foveate = installed / "foveate"
    helped = said(foveate, "--help", cwd=tmp_path)
    assert "Count the files of every role" in helped
    assert "cannot be loaded; `foveate broken` says why" in helped
    assert "--role TEXT" in said(foveate, "roles", "--help", cwd=tmp_path)
    write_cohort(tmp_path / "images", 2, 3)
    assert said(foveate, "roles", "images", cwd=tmp_path).strip() == "image: 3"

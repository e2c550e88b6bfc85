"""A package of somebody else, beside foveate in a new environment: seen, trained, resumed, tested."""

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


def test_it_is_listed_trains_resumes_and_keeps_the_shipped_contract(installed, tmp_path):
    foveate = installed / "foveate"
    helped = said(foveate, "pretrain", "--method", "denoising", "--encoder", "plain", "--help", cwd=tmp_path)
    for words in (
        "denoising,",
        "plain,",
        "by_suffix",
        "--method.strength",
        "Standard deviation of the noise",
    ):
        assert words in helped
    assert "Denoising: the clean view" in said(foveate, "methods", cwd=tmp_path)

    write_cohort(tmp_path / "data" / "scans", 3, 3)
    paths = ["--data", tmp_path / "data", "--out", tmp_path / "run", *FLAGS, *VIEW]
    said(foveate, "pretrain", *paths, "--steps", "2", cwd=tmp_path)
    assert "step 3/3" in said(foveate, "pretrain", *paths, "--steps", "3", "--log_every", "1", cwd=tmp_path)

    kit = [
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--pyargs",
        "foveate.testing",
        "-k",
        "not bf16",
    ]  # for time
    kit += ["-k", "not bf16"]  # half the time
    names = ["--foveate_method", "denoising", "--foveate_encoder", "plain"]
    assert "14 passed" in said(installed / "python", *kit, *names, cwd=tmp_path)

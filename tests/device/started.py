"""Checks on the pretended device, each set of them in a process of its own: torch is told of a GPU once."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.device import guard

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
needs_compiler = pytest.mark.skipif(bool(guard.why_not()), reason=guard.why_not())


def program(path, *arguments, seconds=3600):
    """A program on the pretended device; what it printed."""
    command = [sys.executable, str(HERE / "on_device.py"), str(path), *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, timeout=seconds)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def checked(folder, *names):
    """What each check gave; an error fails here, with its reason."""
    program(HERE / "check.py", folder / "report.json", *names)
    outcomes = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert {name: each["error"] for name, each in outcomes.items() if each["error"]} == {}
    return {name: each["value"] for name, each in outcomes.items()}

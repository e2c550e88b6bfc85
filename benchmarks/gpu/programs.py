"""What runs as a program of its own, and parity, which does."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

from hardware import Measures, Row, Setting

METHODS = Path(__file__).resolve().parents[1] / "methods"


def program(setting: Setting, *arguments: object) -> str:
    """What a Python program prints."""
    command = [sys.executable, *filter(None, [setting.launcher]), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode}: {(done.stdout + done.stderr)[-400:]}")
    return done.stdout


def parity(setting: Setting) -> Measures:
    """The largest relative errors."""
    against = [("the plain transcription", "")]
    if setting.fixtures:
        against.insert(0, ("the authors' recordings", setting.fixtures))
    for name, folder in against:
        yield name, partial(compared, setting, folder)


def compared(setting: Setting, folder: str) -> Row:
    """The largest error in 2D and in 3D."""
    text = program(setting, METHODS / "parity_on.py", setting.accelerator, *filter(None, [folder]))
    return json.loads(text.splitlines()[-1])

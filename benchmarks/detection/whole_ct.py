"""How long does the detection of a whole CT take on a CPU, and in how much memory?

`python benchmarks/detection/whole_ct.py RUN FILE OUT`: `foveate predict` in a process of its own, its wall
and processor time, and the largest memory that it held at any moment (with the process that decodes apart).
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time


def main(run: str, file: str, out: str) -> None:
    """Predict and measure."""
    command = [sys.executable, "-m", "foveate.cli", "predict", "--run", run, "--data", file, "--out", out]
    started = time.monotonic()
    subprocess.run(
        [*command, "--force", "true", "--window.overlap", "0.25", "--accelerator", "cpu"], check=True
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    figures = {
        "minutes": (time.monotonic() - started) / 60,
        "processor_minutes": (used.ru_utime + used.ru_stime) / 60,
        "peak_mib": used.ru_maxrss / 1024,
    }
    print(json.dumps(figures, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:4])

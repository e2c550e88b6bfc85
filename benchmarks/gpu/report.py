"""Everything that only a GPU can tell, in one command of less than forty minutes.

    python benchmarks/gpu/report.py --out gpu.json [--sections steps,predict] [--fixtures FOLDER]
        [--miniature] [--accelerator cpu] [--patience 1]

Every section runs in a process of its own, with a limit of time: one that fails, hangs or leaves the device
unusable is reported, and the next one begins. After each the results are written to --out, and printed as a
table in Markdown. --fixtures names the recordings of PCRLv2's authors (see `methods/parity.py`); without it
parity is with the plain transcription. --miniature makes everything tiny, to try the command itself, and
--patience is a factor on the limits of time, for a machine that others use as well.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIMITS = {  # seconds; together less than forty minutes
    "environment": 60,
    "ceiling": 120,
    "parity": 180,
    "steps": 840,
    "loop": 300,
    "memory": 360,
    "predict": 240,
    "devices": 240,
}
TITLES = {
    "environment": "Where this was measured",
    "ceiling": "What large convolutions reach on this device, the ceiling of the shares below",
    "parity": "PCRLv2 on this device in float64, against recorded numbers",
    "steps": "The training step of every method, at paper size, with its loader",
    "loop": "PCRLv2 from files to weights, against a plain float32 loop over the published step",
    "memory": "What `foveate plan` says of memory, and what a run of that batch takes",
    "predict": "Prediction of a volume, against MONAI's sliding window over the same network",
    "devices": "One process and two",
}
Section = dict[str, Any]


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--sections", default=",".join(LIMITS))
    parser.add_argument("--accelerator", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--miniature", action="store_true")
    parser.add_argument("--patience", type=float, default=1.0)
    parser.add_argument("--fixtures", default="")
    parser.add_argument("--launcher", default="", help="a Python program that starts those of the sections")
    chosen = parser.parse_args()
    if unknown := set(chosen.sections.split(",")) - set(LIMITS):
        parser.error(f"--sections {', '.join(sorted(unknown))}: accepted are {', '.join(LIMITS)}")
    return chosen


def run(name: str, chosen: argparse.Namespace, scratch: Path) -> Section:
    """One section in a process group of its own, with whatever rows it wrote before it ended."""
    rows, limit = scratch / f"{name}.json", LIMITS[name] * chosen.patience
    command = [sys.executable, *filter(None, [chosen.launcher]), str(HERE / "sections.py"), name]
    command += ["--rows", str(rows), "--scratch", str(scratch), "--results", str(chosen.out)]
    command += ["--accelerator", chosen.accelerator, "--fixtures", chosen.fixtures]
    command += ["--launcher", chosen.launcher, *["--miniature"] * chosen.miniature]
    started = time.perf_counter()
    with (scratch / f"{name}.log").open("w+", encoding="utf-8") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=limit)
            ending = "done" if code == 0 else f"failed with exit code {code}"
        except subprocess.TimeoutExpired:
            ending = f"stopped after its {limit:g} s"
        finally:
            end_group(process)
        log.seek(0)
        last = log.read()[-2000:]
    found: Section = {"ending": ending, "seconds": round(time.perf_counter() - started, 1)}
    found["rows"] = json.loads(rows.read_text(encoding="utf-8")) if rows.exists() else []
    return found if ending == "done" else {**found, "log": last}


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Nothing of a section outlives it: a worker that stays holds memory of the device."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()


def markdown(name: str, section: Section) -> str:
    """A section as a table; the columns are those that any row has."""
    columns = list(dict.fromkeys(column for row in section["rows"] for column in row))
    lines = [f"## {TITLES[name]}", "", f"{section['ending']}, {section['seconds']} s", ""]
    if columns:
        lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
        lines += [f"| {' | '.join(cell(row.get(c)) for c in columns)} |" for row in section["rows"]]
    if "log" in section:
        lines += ["", "```", section["log"].strip(), "```"]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A value, short and without what would end the cell."""
    text = "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
    return " ".join(text.split()).replace("|", "/")


def main() -> int:
    """All sections in order; 1 where one of them or a row of it failed."""
    chosen, results = arguments(), {}
    with tempfile.TemporaryDirectory(prefix="foveate-gpu-") as scratch:
        for name in [name for name in LIMITS if name in chosen.sections.split(",")]:
            results[name] = run(name, chosen, Path(scratch))
            text = json.dumps(results, indent=1) + "\n"
            part = chosen.out.with_name(f"{chosen.out.name}.part")
            part.write_text(text, encoding="utf-8")
            part.replace(chosen.out)
            print(f"{markdown(name, results[name])}\n", flush=True)
    bad = [name for name, each in results.items() if each["ending"] != "done" or failures(each)]
    print(f"{len(results)} sections, with failures: {', '.join(bad) or 'none'}")
    return int(bool(bad))


def failures(section: Section) -> list[str]:
    """The rows of a section that failed."""
    return [row["what"] for row in section["rows"] if "failed" in row]


if __name__ == "__main__":
    sys.exit(main())

"""What `foveate plan` says against the run itself.

    python benchmarks/step/plan_accuracy.py [--cpu] FOLDER [FOLDER ...]

For every folder of images the plan is made in a process of its own, then the run of 200 steps is made in
another, from a cache that does not exist yet, then the plan again: the two plans show how much the machine
itself moved meanwhile. That what is planned is what is run is asserted on their first lines.

With --cpu first, all clocks are CPU seconds of the process, loading is in it (no workers), and the images are
prepared beforehand: what remains when others use the machine as well.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = 200
PLAN = """
import sys, json, time
if sys.argv[2]:
    time.perf_counter = time.process_time
from foveate.commands.plan import measure, run as plan
from foveate.commands.pretrain import config as settings
if sys.argv[2]:
    measure.age_seconds = time.process_time
keys = json.loads(sys.argv[1])
found = {}
report = plan.report
def kept(config, probe):
    step, low, high = plan.spread(probe.steps)
    found.update(step=step, low=low, high=high, peak=probe.peak)
    found.update(seconds=plan.total_seconds(config, probe, step))
    return report(config, probe)
plan.report = kept
text = plan.plan(settings.SPEC.from_keys(keys))
print(json.dumps(found | {"headline": text.splitlines()[0]}))
"""


def planned(keys: dict[str, object], cpu: str) -> dict[str, float]:
    """What the plan says."""
    command = [sys.executable, "-c", PLAN, json.dumps(keys), cpu]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def run(keys: dict[str, object], cpu: str) -> tuple[float, float, float, str]:
    """Seconds of the whole command, of a step, peak MiB, and its first line."""
    flags = [part for key, value in keys.items() for part in (f"--{key}", str(value))]
    command = [sys.executable, "-m", "foveate.cli", "pretrain", *flags]
    started = time.perf_counter()
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    text = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = usage.ru_utime + usage.ru_stime if cpu else time.perf_counter() - started
    assert status == 0, text
    rows = [json.loads(line) for line in (Path(str(keys["out"])) / "metrics.jsonl").read_text().splitlines()]
    times = [row["seconds_per_step"] for row in rows if "seconds_per_step" in row]
    return seconds, sum(times) / len(times), usage.ru_maxrss / 1024, text.splitlines()[0]


def compare(folder: str, cpu: str) -> None:
    """One folder: plan, run, plan."""
    with tempfile.TemporaryDirectory() as scratch:
        keys: dict[str, object] = {"data": folder, "out": f"{scratch}/run", "size": "small", "steps": STEPS}
        if cpu:
            prepare = [
                sys.executable,
                "-m",
                "foveate.cli",
                "prepare",
                "--data",
                folder,
                "--out",
                f"{scratch}/cache",
            ]
            subprocess.run(prepare, check=True, capture_output=True)
            keys |= {"data": f"{scratch}/cache", "num_workers": 0}
        first = planned(keys, cpu)
        seconds, step, peak, headline = run(keys, cpu)
        second = planned(keys, cpu)
        assert first["headline"] == headline, (first["headline"], headline)
    print(f"{re.sub(r'.*: ', '', headline)} [{Path(folder).parent.name}]")
    for name, plan in (("before", first), ("after", second)):
        whole = f"whole {plan['seconds']:7.1f} s ({plan['seconds'] / seconds:.2f} x of {seconds:.1f} s)"
        each = f"step {plan['step']:.3f} s ({plan['step'] / step:.2f} x of {step:.3f})"
        memory = f"peak {plan['peak']:.0f} MiB ({plan['peak'] / peak:.2f} x of {peak:.0f})"
        each = "" if cpu else f"{each}, "  # metrics.jsonl knows the wall clock only
        print(f"  plan {name:<7} {whole}, {each}said {plan['low']:.3f}-{plan['high']:.3f}, {memory}")


if __name__ == "__main__":
    for each in sys.argv[1:]:
        if each != "--cpu":
            compare(each, "cpu" if "--cpu" in sys.argv else "")

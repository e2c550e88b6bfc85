"""Run checks on the pretended device and write what came of each.

    python tests/device/on_device.py tests/device/check.py REPORT.json NAME ...

A name is "rules", "planted faults", "forgotten moves METHOD 2D", "waits NAME 2D", "answers 2D", or
"GROUP NAME 2D" of `whole.GROUPS`.
"""

import json
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import answering
import faults
import steps
import whole
from ledger import LEDGER


def found(name):
    """The check of a name."""
    own = {"rules": faults.rules, "planted faults": faults.planted_faults}
    if name in own:
        return own[name]
    body, _, dimension = name.rpartition(" ")
    if name.startswith("forgotten moves "):
        return partial(faults.forgotten_moves, body.removeprefix("forgotten moves "), int(dimension[0]))
    if name.startswith("answers "):
        return partial(answering.answers, int(name.removeprefix("answers ")[0]))
    if name.startswith("waits "):
        return partial(waits, body.removeprefix("waits "), int(dimension[0]))
    return whole.found(name)


def waits(name, dimension):
    """The most waits and blocking copies of one step."""
    one = steps.counted(steps.variants(dimension)[name]())
    return [one.waits, one.blocking]


def outcome(name):
    """What a check gave, or why it failed: what the device refused goes before whatever came of it."""
    LEDGER.clear()
    try:
        return {"error": "", "value": found(name)()}
    except Exception as error:
        refused = "; ".join(f"{where}: {why}" for where, why in LEDGER.refused.items())
        trace = "".join(traceback.format_exception(error, limit=-4))
        return {"error": refused or trace, "value": None}


def main():
    report, *names = sys.argv[1:]
    steps.quiet()
    outcomes = {}
    for name in names:
        started = time.process_time()
        outcomes[name] = outcome(name)
        took = time.process_time() - started
        print(f"{took:6.1f} s  {name}  {outcomes[name]['error']}", file=sys.stderr, flush=True)
        Path(report).write_text(json.dumps(outcomes, indent=1, default=str))


if __name__ == "__main__":
    main()

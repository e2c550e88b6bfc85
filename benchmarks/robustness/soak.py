"""Do memory and open files stay flat? `soak.py --out SCRATCH [--minutes 120] [--megabytes 3000]`.

One process runs scan, pretrain and predict on miniatures again and again, under a limit of address space.
A line a round: what it holds then (resident memory, open files, threads, children). At the end: how each grew
over the rounds after the first tenth.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import resource
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from foveate.cli import main as foveate
from miniatures import Arena

ROUND = ("scan", "pretrain", "predict")
KINDS = ("megabytes", "open files", "threads", "children")


def held() -> tuple[float, int, int, int]:
    """What this process holds now."""
    status = dict(
        line.split(":", 1) for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    )
    children = Path("/proc/self/task").glob("*/children")
    megabytes = int(status["VmRSS"].split()[0]) / 1024
    count = sum(len(each.read_text(encoding="utf-8").split()) for each in children)
    return megabytes, len(list(Path("/proc/self/fd").iterdir())), int(status["Threads"]), count


def slopes(rows: Sequence[tuple[float, int, int, int]]) -> str:
    """How each grows in 100 rounds."""
    later = np.array(rows[len(rows) // 10 :], dtype=float)
    found = np.polyfit(np.arange(len(later)), later, 1)[0] * 100 if len(later) > 1 else np.zeros(len(KINDS))
    first, last = rows[len(rows) // 10], rows[-1]
    return "\n".join(
        f"{kind}: {a:.0f} after a tenth, {b:.0f} at the end, {slope:+.2f} in 100 rounds"
        for kind, a, b, slope in zip(KINDS, first, last, found, strict=True)
    )


def main() -> None:
    """Go round until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument(
        "--megabytes", type=int, default=3000, help="of address space beyond that at the start"
    )
    given = parser.parse_args()
    arena = Arena(given.out.resolve())
    arena.look("finetune")
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0]) * resource.getpagesize()
    most = pages + given.megabytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    until, rows = time.monotonic() + 60 * given.minutes, list[tuple[float, int, int, int]]()
    while time.monotonic() < until:
        for name in ROUND:
            arena.clean(name)
            said = io.StringIO()
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                code = foveate(arena.words(name))
            if code:
                raise SystemExit(f"{name} ends with {code}: {said.getvalue()[-500:]}")
        rows.append(held())
        print(
            len(rows),
            *(f"{kind} {value:.0f}" for kind, value in zip(KINDS, rows[-1], strict=True)),
            flush=True,
        )
    print(slopes(rows))


if __name__ == "__main__":
    main()

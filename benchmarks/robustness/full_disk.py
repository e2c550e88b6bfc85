"""Is anything lost on a full disk? `full_disk.py --out SCRATCH [--most 200] [--only NAMES]`.

Every command that writes runs on miniatures under a preloaded library (`failing.c`, compiled on the spot),
with which every write, truncation and fsync below SCRATCH/inside fails from the n-th on, for every n, or for
`--most` that are drawn. The command must end with one paragraph, and the same command again, with room, must
leave the same bytes as one that had room at once. `--results FILE.json` goes on where it stopped.
What goes through a memory map is not seen: there a full disk ends a process by SIGBUS.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from miniatures import Arena, asked, keep, kept, left_after, needed

SOURCE = Path(__file__).with_name("failing.c")


class Disk:
    """What the library shares with the processes that it is loaded into."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as stream:
            self.shared = mmap.mmap(stream.fileno(), 0)
        self.numbers = (ctypes.c_long * 2).from_buffer(self.shared)

    def fail_from(self, number: int) -> None:
        """Count anew; 0: nothing fails."""
        self.numbers[0], self.numbers[1] = 0, number

    def seen(self) -> int:
        """Writes so far."""
        return int(self.numbers[0])


def preloaded(scratch: Path) -> Path:
    """Where the shared numbers are; starts this program again with the library where it is not loaded yet."""
    state, library = scratch / "state", scratch / "failing.so"
    if os.environ.get("FAILING_STATE") != str(state):
        state.write_bytes(bytes(2 * ctypes.sizeof(ctypes.c_long)))
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE), "-ldl"], check=True)
        known = {
            "LD_PRELOAD": str(library),
            "FAILING_STATE": str(state),
            "FAILING_BELOW": str(scratch / "inside"),
        }
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **known})
    return state


def tried(arena: Arena, disk: Disk, name: str, number: int) -> dict[str, object]:
    """A command on a disk that is full from the n-th write on, and again with room."""
    arena.clean(name)
    disk.fail_from(number)
    child = arena.start(name)
    code = arena.ends(child)
    disk.fail_from(0)
    said = arena.said(name)
    left, _ = left_after(child)
    again = arena.ends(arena.start(name))
    wrong = arena.wrong(name) if again == 0 else [arena.said(name).strip()[-500:]]
    row = {"command": name, "number": number, "code": code, "left": len(left), "again": again, "wrong": wrong}
    row["said"] = "" if is_paragraph(said, code) else f"{code}: {said.strip()[-700:]}"
    arena.restore(name)
    return row


def is_paragraph(said: str, code: int) -> bool:
    """Whether a command ended as it must: with an error of one paragraph about the disk, or whole."""
    last = (said.strip().splitlines() or [""])[-1]
    return "Traceback" not in said and (
        code == 0 or (code in (1, 2) and any(word in last for word in ("full", "No space")))
    )


def table(rows: Sequence[dict[str, object]], writes: dict[str, int]) -> str:
    """A line for every command."""
    lines = ["| command | writes | tried | no paragraph | other bytes afterwards |", "|---|---|---|---|---|"]
    for name in [*writes, "all"]:
        mine = [row for row in rows if name in (row["command"], "all")]
        silent, lost = sum(bool(row["said"]) for row in mine), sum(bool(row["wrong"]) for row in mine)
        lines.append(
            f"| {name} | {writes.get(name, sum(writes.values()))} | {len(mine)} | {silent} | {lost} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Fill the disk at every place, and say what was lost."""
    given = asked(__doc__, "--most", 200)
    scratch = given.out.resolve()
    scratch.mkdir(parents=True, exist_ok=True)
    disk = Disk(preloaded(scratch))
    arena, results, writes = Arena(scratch), given.results or scratch / "full_disk.json", dict[str, int]()
    rows, names = kept(results), given.only
    for name in needed(names):
        arena.look(name)
        if name not in names:
            continue
        arena.clean(name)
        disk.fail_from(0)
        arena.ends(arena.start(name))
        writes[name] = disk.seen()
        every = range(1, writes[name] + 1)
        draw = random.Random(f"{given.seed} {name}")
        chosen = draw.sample(every, min(given.most, len(every)))
        for number in chosen:
            if all((row["command"], row["number"]) != (name, number) for row in rows):
                rows.append(tried(arena, disk, name, number))
                keep(results, rows)
                print(*rows[-1].values(), flush=True)
        arena.restore(name)
    print(table(rows, writes))


if __name__ == "__main__":
    main()

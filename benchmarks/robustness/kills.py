"""Is anything lost when a command is killed? `kills.py --out SCRATCH [--kills 100] [--only NAMES]`.

Every command that writes is killed with SIGKILL at moments that are drawn: at any time, or in the middle of a
file, of which half is on the disk then; the whole group of processes, or the parent alone. No process may be
left after 10 seconds, and the same command again must leave the same bytes as one that was never killed.
`--results FILE.json` goes on where an earlier call stopped, and asks again where something was wrong.
"""

from __future__ import annotations

import os
import random
import select
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from miniatures import WORDS, Arena, asked, keep, kept, left_after, needed

TRIES = 4  # where a command ended before its moment came


def in_the_middle_of(number: int, tell: int) -> Callable[[], None]:
    """For a process to call: its n-th file is cut in half where it would be complete; then it waits."""
    synced, seen = os.fsync, [0]

    def fsync(place: int) -> None:
        seen[0] += 1
        if seen[0] != number:
            synced(place)
            return
        os.ftruncate(place, os.fstat(place).st_size // 2)
        synced(place)
        os.write(tell, str(sys._getframe(1).f_locals.get("path", place)).encode())  # it has no name yet
        signal.pause()

    def patch() -> None:
        os.fsync = fsync

    return patch


def counted(arena: Arena, name: str) -> int:
    """How many files the first process of a command waits for."""
    hear, tell = os.pipe()
    seen, synced = [0], os.fsync

    def fsync(place: int) -> None:
        seen[0] += 1
        synced(place)

    def patch() -> None:
        os.fsync = fsync

    arena.clean(name)
    arena.ends(arena.start(name, patch, lambda: os.write(tell, str(seen[0]).encode())))
    os.close(tell)
    with os.fdopen(hear) as stream:
        return int(stream.read() or 0)


def killed(arena: Arena, name: str, draw: random.Random, files: int) -> dict[str, object]:
    """One kill, and what became of it."""
    inside, whole_group = files > 0 and draw.random() < 0.5, draw.random() < 0.5
    delay, number = draw.uniform(0, 0.95 * arena.whole[name].seconds), draw.randint(1, max(1, files))
    row: dict[str, object] = {"command": name, "killed": "group" if whole_group else "parent"}
    for _ in range(TRIES):
        arena.clean(name, cache=draw.random() < 0.5)
        hear, tell = os.pipe()
        child = arena.start(name, in_the_middle_of(number, tell) if inside else None)
        os.close(tell)
        over = os.pidfd_open(child)
        ready = select.select([over, hear] if inside else [over], [], [], 600 if inside else delay)[0]
        moment = "at any time"
        if inside and hear in ready:
            moment = f"half of {Path(os.read(hear, 5000).decode()).name}"
        ended = bool(select.select([over], [], [], 0)[0])
        with suppress(ProcessLookupError):
            (os.killpg if whole_group else os.kill)(child, signal.SIGKILL)
        os.close(over)
        os.close(hear)
        os.waitpid(child, 0)
        delay, number = delay / 2, max(1, number // 2)
        if not ended:
            break
    return {**row, "moment": "it had ended" if ended else moment, **aftermath(arena, name, child)}


def aftermath(arena: Arena, name: str, session: int) -> dict[str, object]:
    """Which processes stay, and what the same command again leaves."""
    left, spent = left_after(session)
    code = arena.ends(arena.start(name))
    whole_before = code == 2 and "exists already" in arena.said(name)  # killed when its file was there
    wrong = arena.wrong(name) if code == 0 or whole_before else [arena.said(name).strip()[-500:]]
    arena.restore(name)
    return {"gone": round(spent, 1), "left": len(left), "code": code, "wrong": wrong}


def table(rows: Sequence[dict[str, object]]) -> str:
    """A line for every command."""
    lines = [
        "| command | kills | in the middle of a file | clean | processes left | longest, s |",
        "|---|---|---|---|---|---|",
    ]
    for name in [*WORDS, "all"]:
        mine = [row for row in rows if name in (row["command"], "all") and row["moment"] != "it had ended"]
        if mine:
            inside = sum("half" in str(row["moment"]) for row in mine)
            clean = sum(not row["wrong"] and not row["left"] for row in mine)
            left, longest = (
                sum(int(str(row["left"])) for row in mine),
                max(float(str(row["gone"])) for row in mine),
            )
            lines.append(f"| {name} | {len(mine)} | {inside} | {clean} | {left} | {longest} |")
    return "\n".join(lines)


def main() -> None:
    """Kill, and say what was lost."""
    given = asked(__doc__, "--kills", 100)
    names = given.only
    arena, files = Arena(given.out.resolve()), dict[str, int]()
    for name in needed(names):
        arena.look(name)
        if name in names:
            files[name] = counted(arena, name)
            arena.restore(name)
    results = given.results or given.out / "kills.json"
    rows = kept(results)
    for i in [*(i for i, row in enumerate(rows) if row["wrong"]), *range(len(rows), given.kills)]:
        row = killed(arena, name := names[i % len(names)], random.Random(f"{given.seed} {i}"), files[name])
        rows[i : i + 1] = [row]
        keep(results, rows)
        print(i, *row.values(), flush=True)
    print(table(rows))


if __name__ == "__main__":
    main()

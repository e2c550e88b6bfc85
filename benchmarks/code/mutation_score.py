"""How many small faults the tests notice: `mutation_score.py [--results FILE.json] [--again]`.

Lines are drawn with a fixed seed from the modules that must not be wrong, each by its text: a change
elsewhere moves no other line out of the draw. A copy of the package has one fault on each of them, and a
switch for each fault. The tests that belong to a file run once with all faults off, to see which of them
reach which line, also in programs they start; these run again with the fault on, in a fork, until one fails.
Where none does, the rest of their files runs as well: a line may be reached in what tests share. Started
again, the script goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import mmap
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NoReturn

import pytest
import torch  # noqa: F401  # once, not for every group of tests
from hypothesis import Phase, settings

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "foveate"
RESULTS = Path(__file__).with_name("mutation_score.json")
ITK = ("confinement", "limits", "streams")  # of the tests of all readers, those of these two
BELONG = {  # files below the package, and the tests that belong to them
    "data/readers/dicom/**/*.py": ("tests/data/readers/dicom",),
    "data/readers/itk/*.py": ("tests/data/readers/itk", *(f"tests/data/readers/test_{n}.py" for n in ITK)),
    "data/readers/*.py": ("tests/data/readers", "tests/data/decoding"),
    "train/checkpoint.py": ("tests/train/test_checkpoint.py", "tests/train/test_finite.py"),
    "train/seal.py": ("tests/train/test_checkpoint.py",),
    "data/cohort/splits.py": ("tests/data/cohort",),
    "data/cohort/leakage.py": ("tests/data/cohort",),
    "scoring/statistics.py": ("tests/scoring/test_statistics.py", "tests/scoring/test_comparison.py"),
    "nets/weights/card.py": ("tests/nets/weights/test_files.py",),
    "nets/weights/transfer.py": ("tests/nets/weights/test_transfer.py",),
    "tasks/*.py": ("tests/tasks",),
}
COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq},
    **{ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is},
}
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div}
}
# Tests that take so many seconds longer, or so many times as long, hang: the fault was noticed.
PATIENCE, SLOWER, LONGEST = 60.0, 5, 1800.0
PASSED, FAILED, WRONG = 0, 1, (3, 5)  # what pytest ends with; 4 is also an import that fails
REACHED, ON = 1, 2  # what a fault's byte says to every process
SWITCH = """import mmap, os
with open(os.environ["FOVEATE_FAULTS"], "r+b") as stream:
    BYTES = mmap.mmap(stream.fileno(), 0)
def is_on(number):
    found = BYTES[number]
    BYTES[number] = found | 1
    return found > 1
"""
NOTICED, SURVIVED = "noticed", "NOT NOTICED"  # anything else in the results is the reason why none can


Answer = Callable[["Fault", str], None]


@dataclass(frozen=True)
class Fault:
    """One expression that is changed; `nth` of the lines of the file that read the same."""

    file: str
    text: str
    nth: int
    column: int
    before: str
    after: str

    def line(self) -> int:
        """Where it is now, counted from 0."""
        lines = (PACKAGE / self.file).read_text(encoding="utf-8").splitlines()
        return [i for i, line in enumerate(lines) if line.strip() == self.text][self.nth]

    def switched(self, line: str, number: int) -> str:
        """The line, where the expression is another while the fault is on."""
        start = len(line) - len(line.lstrip()) + self.column
        assert line[start:].startswith(self.before)
        either = f"({self.after} if fault_is_on({number}) else ({self.before}))"
        return line[:start] + either + line[start + len(self.before) :]


def changed(node: ast.AST) -> ast.AST | None:
    """The same expression with one fault; None where none is known."""
    if isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARED:
        return ast.Compare(node.left, [COMPARED[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    if isinstance(node, ast.BinOp) and type(node.op) in COUNTED and not isinstance(node.left, ast.Constant):
        return ast.BinOp(node.left, COUNTED[type(node.op)](), node.right)
    if isinstance(node, ast.BoolOp):
        return ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        return node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return ast.Constant(not node.value)
    return None


def faults(path: Path) -> Iterator[Fault]:
    """Every fault of one line each."""
    source = path.read_text(encoding="utf-8")
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.expr) or node.lineno != node.end_lineno:
            continue
        if (new := changed(node)) and (before := ast.get_source_segment(source, node)):
            line = lines[node.lineno - 1]
            place = len(line.encode()[: node.col_offset].decode()) - (len(line) - len(line.lstrip()))
            nth = sum(each.strip() == line.strip() for each in lines[: node.lineno - 1])
            after = f"({ast.unparse(ast.fix_missing_locations(new))})"
            yield Fault(str(path.relative_to(PACKAGE)), line.strip(), nth, place, before, after)


def drawn(count: int, seed: int) -> dict[Fault, tuple[str, ...]]:
    """One fault on each of `count` lines, with the tests that belong to it."""
    lines: dict[str, dict[Fault, tuple[str, ...]]] = defaultdict(dict)
    for pattern, tests in BELONG.items():
        for path in sorted(PACKAGE.glob(pattern)):
            for fault in faults(path):
                lines[drawn_as(seed, fault.file, fault.text, fault.nth)].setdefault(fault, tests)
    found = {}
    for key in sorted(lines)[:count]:
        fault = min(lines[key], key=lambda each: drawn_as(seed, each.column, each.before, each.after))
        found[fault] = lines[key][fault]
    return found


def drawn_as(*words: object) -> str:
    """A draw that depends on the words alone."""
    return hashlib.sha256(json.dumps(words).encode()).hexdigest()


class Switches:
    """A copy of the package with every fault, and which of them is on."""

    def __init__(self, folder: Path, faults: Iterable[Fault]) -> None:
        self.folder, self.faults = folder, {fault: i for i, fault in enumerate(faults)}
        self.source = folder / "src"
        shutil.copytree(PACKAGE.parent, self.source, ignore=shutil.ignore_patterns("__pycache__"))
        for fault, number in self.faults.items():
            path, at = self.source / "foveate" / fault.file, fault.line()
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
            lines[at] = fault.switched(lines[at], number)
            path.write_text("".join(lines), encoding="utf-8")
        (self.source / "fault_switch.py").write_text(SWITCH, encoding="utf-8")
        first = self.source / "foveate" / "__init__.py"
        text, mark = first.read_text(encoding="utf-8"), "from __future__ import annotations\n"
        begin = f"{mark}import builtins, fault_switch; builtins.fault_is_on = fault_switch.is_on\n"
        assert mark in text
        first.write_text(text.replace(mark, begin, 1), encoding="utf-8")
        shared = folder / "shared"
        shared.write_bytes(bytes(len(self.faults)))
        with shared.open("r+b") as stream:
            self.bytes = mmap.mmap(stream.fileno(), 0)

    def turn(self, fault: Fault | None) -> None:
        """Let this fault be on, no other, and none be reached."""
        self.bytes[:] = bytes(len(self.faults))
        if fault:
            self.bytes[self.faults[fault]] = ON

    def reached(self) -> list[Fault]:
        """Faults whose line was run since."""
        return [fault for fault, number in self.faults.items() if self.bytes[number] & REACHED]

    def run(self, tests: Sequence[str], *plugins: object) -> int:
        """What pytest ends with in a process of its own, on the copy."""
        return in_fork(lambda: self.be_pytest(tests, plugins), None if plugins else LONGEST)

    def be_pytest(self, tests: Sequence[str], plugins: Sequence[object]) -> int:
        """Run the tests on the copy."""
        os.chdir(ROOT)
        os.environ |= {"PYTHONPATH": str(self.source), "FOVEATE_FAULTS": str(self.folder / "shared")}
        sys.path.insert(0, str(self.source))
        settings.register_profile("fault", phases=(Phase.explicit, Phase.generate), database=None)
        settings.load_profile("fault")  # one example that fails is enough: it need not be the smallest
        return int(pytest.main(["-q", "-s", "-x", "-p", "no:cacheprovider", *tests], plugins=[*plugins]))


class Trials:
    """A plugin of pytest that collects tests once, and tries faults on them, each in a fork."""

    def __init__(self, switches: Switches, todo: Sequence[Fault], answer: Answer) -> None:
        self.switches, self.todo, self.answer = switches, todo, answer
        self.seconds: dict[str, float] = {}

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Try all but those that matter when modules are imported."""
        early = self.switches.reached()
        found = self.reaching(session)
        for fault in self.todo:
            if fault in early:
                continue
            files = defaultdict[Path, list[pytest.Item]](list)
            for i in found[fault]:
                files[session.items[i].path].append(session.items[i])
            first = [item for items in sorted(files.values(), key=self.lasts) for item in items]
            rest = [item for item in session.items if item.path in files and item not in first]
            self.switches.turn(fault)
            seen = self.notices(session, first) or self.notices(session, rest)
            self.answer(fault, NOTICED if seen else SURVIVED)
        return True

    def lasts(self, items: Sequence[pytest.Item]) -> float:
        """Seconds that tests took without any fault."""
        return sum(self.seconds[item.nodeid] for item in items)

    def notices(self, session: pytest.Session, items: Sequence[pytest.Item]) -> bool:
        """Whether one of the tests fails, or takes much longer than without the fault."""
        limit = PATIENCE + SLOWER * self.lasts(items)
        return bool(items) and in_fork(lambda: run(session, items), limit) != PASSED

    def reaching(self, session: pytest.Session) -> dict[Fault, list[int]]:
        """Which tests reach which faults; what tests of a file share belongs to the first of them."""
        out = self.switches.folder / "reaching.json"

        def look() -> int:
            found, seconds = defaultdict[int, list[int]](list), {}
            for i, item in enumerate(session.items):
                self.switches.turn(None)
                started = time.monotonic()
                ended = run(session, [item], session.items[i + 1 : i + 2])
                seconds[item.nodeid] = time.monotonic() - started
                for fault in self.switches.reached():
                    found[self.switches.faults[fault]].append(i)
                if ended:
                    print(f"fails without any fault: {item.nodeid}", file=sys.stderr)
                    return ended
            out.write_text(json.dumps([found, seconds]), encoding="utf-8")
            return PASSED

        if in_fork(look, None):
            raise pytest.UsageError("tests fail without any fault")
        found, self.seconds = json.loads(out.read_text(encoding="utf-8"))
        return {fault: found.get(str(number), []) for fault, number in self.switches.faults.items()}


def run(session: pytest.Session, items: Sequence[pytest.Item], then: Sequence[pytest.Item] = ()) -> int:
    """Run tests until one fails; what they share is kept for the next one of the same file."""
    following = [*items[1:], *then]
    for i, item in enumerate(items):
        after = following[i] if i < len(following) else None
        beside = after if after and after.path == item.path else None
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=beside)
        if session.testsfailed:
            return FAILED
    return PASSED


def in_fork(does: Callable[[], int], seconds: float | None) -> int:
    """What a function returns in a process with temporary files of its own; one that hangs has failed."""
    with tempfile.TemporaryDirectory(prefix="foveate-fault-") as scratch:
        if (child := os.fork()) == 0:
            be(does, seconds, scratch)
        over = os.pidfd_open(child)
        hangs = not select.select([over], [], [], seconds)[0]
        os.close(over)
        if hangs or seconds:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with what the tests have started
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status in WRONG:
        raise SystemExit(f"pytest ends with {status}")
    return status


def be(does: Callable[[], int], seconds: float | None, scratch: str) -> NoReturn:
    """Call the function, and end."""
    try:
        os.setsid()
        tempfile.tempdir = os.environ["TMPDIR"] = scratch
        if seconds:
            nowhere = os.open(os.devnull, os.O_RDWR)
            for stream in range(3):
                os.dup2(nowhere, stream)
        os._exit(does())
    finally:
        os._exit(FAILED)


def main() -> None:
    """Go on with the faults that have no answer yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="ask again about those that were not noticed")
    parser.add_argument(
        "--tests", nargs="+", help="the same of these tests alone, where they belong to a file"
    )
    parser.add_argument("--only", default="", help="faults of files that have this in their path")
    given = parser.parse_args()
    chosen, known = drawn(given.lines, given.seed), read(given.results)
    again = {f for f in chosen if known.get(f) == SURVIVED} if given.again or given.tests else set()
    todo = [f for f in chosen if given.only in f.file and (f in again or not (given.tests or f in known))]
    write(given.results, {fault: what for fault, what in known.items() if fault not in todo})

    def answer(fault: Fault, what: str) -> None:
        write(given.results, read(given.results) | {fault: what})
        line = f"{fault.file}:{fault.line() + 1}: {fault.before} -> {fault.after}: {what}"
        print(line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="foveate-faults-") as scratch:
        switches = Switches(Path(scratch), chosen)
        for group in sorted({chosen[fault] for fault in todo}):
            mine = [fault for fault in todo if chosen[fault] == group]
            tests = [test for test in given.tests if test.startswith(group)] if given.tests else group
            switches.turn(None)
            if tests and switches.run(tests, Trials(switches, mine, answer)) != PASSED:
                raise SystemExit(f"pytest did not come to the end of {' '.join(tests)}")
            for fault in set(mine) - set(read(given.results)):  # of what modules do when they are imported
                switches.turn(fault)
                answer(fault, NOTICED if tests and switches.run(tests) != PASSED else SURVIVED)
    known = read(given.results)
    counted = Counter(known[fault] for fault in chosen if fault in known)
    print(len(chosen), "faults:", ", ".join(f"{n} {what}" for what, n in counted.items()))


def read(path: Path) -> dict[Fault, str]:
    """What is known of each fault."""
    rows = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return {Fault(**{k: v for k, v in row.items() if k != "answer"}): row["answer"] for row in rows}


def write(path: Path, known: Mapping[Fault, str]) -> None:
    """Keep it, one fault a line."""
    rows = [json.dumps({**asdict(fault), "answer": answer}) for fault, answer in known.items()]
    path.write_text("[\n" + ",\n".join(rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()

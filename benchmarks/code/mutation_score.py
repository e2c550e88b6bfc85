"""How many small faults the tests notice: `mutation_score.py [--results FILE.json] [--order FILE.json]`.

Lines are drawn with a fixed seed from the modules that must not be wrong, each by its text: a change
elsewhere moves no other line out of the draw. Each gets one fault in a copy of the package, and the tests
that belong to its file run against the copy until one fails. Started again, it goes on where it was.
`--order` first traces which tests run which of the lines, keeps that in a file, and begins with those.
"""

from __future__ import annotations

import argparse
import ast
import compileall
import hashlib
import json
import os
import py_compile
import resource
import select
import shutil
import signal
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import pytest
import torch  # noqa: F401  # once, not for every fault: each is tried in a fork

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "foveate"
RESULTS = Path(__file__).with_name("mutation_score.json")
BELONG = {  # files below the package, and the tests that belong to them
    "data/readers/dicom/**/*.py": ("tests/data/readers/dicom",),
    "data/readers/itk/*.py": ("tests/data/readers/itk", "tests/data/readers/test_streams.py"),
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
SECONDS, LONGEST = (
    300,
    3600,
)  # of a processor, of the clock; tests that take longer hang, so the fault was noticed
PASSED, WRONG = 0, (3, 5)  # what pytest ends with; 4 is also an import that fails
MOST = 40  # tests that are tried first
NOTICED, SURVIVED = "noticed", "NOT NOTICED"  # anything else in the results is the reason why none can


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

    def planted(self) -> str:
        """The source of the file with it."""
        lines = (PACKAGE / self.file).read_text(encoding="utf-8").splitlines(keepends=True)
        old, at = lines[self.line()], self.line()
        start = len(old) - len(old.lstrip()) + self.column
        assert old[start:].startswith(self.before)
        lines[at] = old[:start] + self.after + old[start + len(self.before) :]
        return "".join(lines)


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
        before = ast.get_source_segment(source, node)
        if before and (new := changed(node)):
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


class Copy:
    """A copy of the package in which one file at a time is another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "src"
        shutil.copytree(PACKAGE.parent, self.folder, ignore=shutil.ignore_patterns("__pycache__"))
        mode = py_compile.PycInvalidationMode.CHECKED_HASH  # times are too coarse for what changes so often
        compileall.compile_dir(self.folder, quiet=1, invalidation_mode=mode)

    def notices(self, fault: Fault, tests: Sequence[str]) -> bool:
        """Whether one of the tests fails with the fault."""
        path = self.folder / "foveate" / fault.file
        path.write_text(fault.planted(), encoding="utf-8")
        try:
            return self.ends(tests) != PASSED
        finally:
            shutil.copyfile(PACKAGE / fault.file, path)

    def ends(self, tests: Sequence[str], tracer: Tracer | None = None) -> int:
        """What pytest ends with in a process of its own; one that hangs has failed."""
        if (child := os.fork()) == 0:
            self.be_pytest(tests, tracer)
        over = os.pidfd_open(child)
        hangs = not select.select([over], [], [], LONGEST)[0]
        os.close(over)
        if hangs or tracer is None:
            with suppress(ProcessLookupError):
                os.killpg(child, signal.SIGKILL)  # with what the tests have started
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status in WRONG:
            raise SystemExit(f"pytest ends with {status}: {' '.join(tests)[:500]}")
        return status

    def be_pytest(self, tests: Sequence[str], tracer: Tracer | None) -> NoReturn:
        """Run the tests on the copy, and end."""
        os.setsid()
        os.chdir(ROOT)
        os.environ["PYTHONPATH"] = str(self.folder)
        sys.path.insert(0, str(self.folder))
        if tracer is None:
            resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(nowhere, stream)
        words = ["-q", "-p", "no:cacheprovider", *(() if tracer else ("-x",)), *tests]
        try:
            os._exit(int(pytest.main(words, plugins=[tracer] if tracer else [])))
        finally:
            os._exit(1)


class Tracer:
    """A plugin of pytest that notes which tests run which lines of some files."""

    def __init__(self, lines: Mapping[str, set[int]], out: Path) -> None:
        self.lines, self.out = lines, out
        self.found: dict[str, list[str]] = defaultdict(list)
        self.test = ""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """Trace a test with its fixtures."""
        self.test = item.nodeid
        threading.settrace(self.called)
        sys.settrace(self.called)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]

    def pytest_sessionfinish(self) -> None:
        """Keep what was found."""
        self.out.write_text(json.dumps(self.found), encoding="utf-8")

    def called(self, frame: FrameType, _: str, __: object) -> Callable[..., object] | None:
        """Follow functions of the files alone."""
        file = frame.f_code.co_filename.rpartition("/src/foveate/")[2]
        return self.runs(self.lines[file], file) if file in self.lines else None

    def runs(self, lines: set[int], file: str) -> Callable[..., object]:
        """A tracer of one call."""

        def note(frame: FrameType, _: str, __: object) -> Callable[..., object]:
            if frame.f_lineno - 1 in lines:
                tests = self.found[f"{file}:{frame.f_lineno - 1}"]
                if tests[-1:] != [self.test]:
                    tests.append(self.test)
            return note

        return note


def traced(copy: Copy, chosen: Mapping[Fault, Sequence[str]], out: Path) -> dict[str, list[str]]:
    """Which tests run which of the lines; a process that a test starts is not seen."""
    if not out.exists():
        lines = defaultdict[str, set[int]](set)
        for fault in chosen:
            lines[fault.file].add(fault.line())
        found: dict[str, list[str]] = {}
        for group in sorted(set(chosen.values())):
            if copy.ends(group, Tracer(lines, out)) != PASSED:
                raise SystemExit(f"tests fail without any fault: {' '.join(group)}")
            found |= json.loads(out.read_text(encoding="utf-8"))
        out.write_text(json.dumps(found, indent=1), encoding="utf-8")
    kept: dict[str, list[str]] = json.loads(out.read_text(encoding="utf-8"))
    return kept


def main() -> None:
    """Go on with the faults that have no answer yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--order", type=Path, help="a file for which tests run which lines")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--again", action="store_true", help="ask again about those that were not noticed")
    given = parser.parse_args()
    known = read(given.results)
    chosen = drawn(given.lines, given.seed)
    with tempfile.TemporaryDirectory(prefix="foveate-fault-") as scratch:
        copy = Copy(Path(scratch))
        order = traced(copy, chosen, given.order) if given.order else {}
        todo = [f for f in chosen if f not in known or (given.again and known[f] == SURVIVED)]
        for fault in todo:  # each to its end, so that a run that is stopped has asked the first ones
            first = order.get(f"{fault.file}:{fault.line()}", [])[:MOST]
            seen = bool(first) and copy.notices(fault, first)
            known[fault] = NOTICED if seen or copy.notices(fault, chosen[fault]) else SURVIVED
            write(given.results, known)
            print(
                f"{fault.file}:{fault.line() + 1}: {fault.before} -> {fault.after}: {known[fault]}",
                flush=True,
            )
    counted = Counter(known[fault] for fault in chosen)
    print(f"of {len(chosen)} faults: " + ", ".join(f"{n} {what}" for what, n in counted.items()))


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

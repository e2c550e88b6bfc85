"""How many small faults the tests notice: `mutation_score.py --out FILE.json [--lines 200] [--seed 0]`.

Lines are drawn with a fixed seed from the modules that must not be wrong. Each is changed in a copy of the
package, and the tests that belong to its file run against the copy. Started again, it goes on where it was.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "src" / "foveate"
BELONG = {  # files below the package, and the tests that belong to them
    "data/readers/dicom/**/*.py": ("tests/data/readers/dicom",),
    "data/readers/itk/*.py": ("tests/data/readers/itk", "tests/data/readers/test_streams.py"),
    "data/readers/*.py": ("tests/data/readers", "tests/data/decoding"),
    "train/checkpoint.py": ("tests/train/test_checkpoint.py", "tests/train/test_finite.py"),
    "train/seal.py": ("tests/train/test_checkpoint.py",),
    "data/cohort/splits.py": ("tests/data/cohort",),
    "data/cohort/leakage.py": ("tests/data/cohort",),
    "evaluate/statistics.py": ("tests/evaluate/test_statistics.py", "tests/evaluate/test_comparison.py"),
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
SECONDS = 900  # of the tests of one fault; one that makes them hang was noticed


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


def faults(path: Path) -> Iterator[dict[str, str | int]]:
    """Every fault of one line each: where, what stood there and what stands there then."""
    text = path.read_text(encoding="utf-8")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.expr) or node.lineno != node.end_lineno:
            continue
        before = ast.get_source_segment(text, node)
        if before and (new := changed(node)):
            after = f"({ast.unparse(ast.fix_missing_locations(new))})"
            where = {"line": node.lineno, "column": node.col_offset}
            yield {"file": str(path.relative_to(PACKAGE)), **where, "before": before, "after": after}


def drawn(count: int, seed: int) -> list[tuple[dict[str, str | int], tuple[str, ...]]]:
    """One fault on each of `count` lines, with the tests that belong to it."""
    lines: dict[tuple[str, str | int], list[tuple[dict[str, str | int], tuple[str, ...]]]] = {}
    for pattern, tests in BELONG.items():
        for path in sorted(PACKAGE.glob(pattern)):
            for fault in faults(path):
                lines.setdefault((str(fault["file"]), fault["line"]), []).append((fault, tests))
    draw = random.Random(seed)
    places = draw.sample(sorted(lines, key=str), min(count, len(lines)))
    return [draw.choice(lines[place]) for place in places]


def noticed(fault: dict[str, str | int], tests: tuple[str, ...]) -> bool:
    """Whether the tests fail on a copy of the package with the fault."""
    with tempfile.TemporaryDirectory(prefix="foveate-fault-") as scratch:
        shutil.copytree(PACKAGE.parent, Path(scratch) / "src")
        path = Path(scratch) / "src" / "foveate" / str(fault["file"])
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        line, start = lines[int(fault["line"]) - 1].encode(), int(fault["column"])
        end = start + len(str(fault["before"]).encode())
        lines[int(fault["line"]) - 1] = (line[:start] + str(fault["after"]).encode() + line[end:]).decode()
        path.write_text("".join(lines), encoding="utf-8")
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
        known = {**os.environ, "PYTHONPATH": str(Path(scratch) / "src")}
        try:
            done = subprocess.run(
                command, check=False, cwd=ROOT, env=known, capture_output=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            return True
    return done.returncode != 0


def main() -> None:
    """Go on with the faults that have no answer yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    known = json.loads(given.out.read_text(encoding="utf-8")) if given.out.exists() else []
    for fault, tests in drawn(given.lines, given.seed):
        if any(all(each[key] == fault[key] for key in fault) for each in known):
            continue
        known.append({**fault, "noticed": noticed(fault, tests)})
        given.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        said = "noticed" if known[-1]["noticed"] else "NOT NOTICED"
        print(f"{fault['file']}:{fault['line']}: {fault['before']} -> {fault['after']}: {said}", flush=True)
    print(f"{sum(each['noticed'] for each in known)} of {len(known)} faults were noticed")


if __name__ == "__main__":
    main()

"""The counts of `structure.py` in benchmarks: right on a small package, and what they must be on this one."""

import tomllib
from pathlib import Path

import pytest

import structure

ROOT = Path(__file__).parents[2]
FILES = {
    "__init__.py": "",
    "low.py": "def low():\n    from foveate.top import top\n    return top\n",
    "middle.py": "import typing\nif typing.TYPE_CHECKING:\n    from foveate.low import low\n",
    "top.py": "from foveate import middle\n\ndef top(x):\n    getattr(x, 'y').backward()  # noqa: B009\n",
    "alone.py": "from typing import Any, cast\nx: list[Any] = cast(list, [])  # type: ignore[type-arg]\n",
    "methods/__init__.py": "",
    "methods/a.py": "class A:\n    def one(self):\n        'Said.'\n        return 1\n",
    "methods/b.py": "class B:\n    def one(self):\n        'Otherwise.'\n\n        return 1  # why\n\n"
    "    def two(self):\n        return 1\n",
}


@pytest.fixture
def checkout(tmp_path):
    for name, text in FILES.items():
        path = tmp_path / "src" / "foveate" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_hidden_imports_count_and_cycles_are_found(checkout):
    graph = structure.import_graph(structure.modules(checkout))
    ring = ["foveate.low", "foveate.middle", "foveate.top"]
    assert structure.cycles(graph) == [ring]
    assert sorted(structure.longest_chain(graph)) == ["foveate", *ring]


def test_members_are_compared_without_their_docstrings(checkout):
    places = structure.repeated_members(structure.modules(checkout))
    assert [place.split()[1] for place in places] == ["A.one", "B.one"]


def test_every_count_finds_its_own(checkout):
    counts = structure.table(checkout)
    once = {
        "Any or object in annotations",
        "cast",
        "type: ignore",
        "other noqa",
        "getattr, hasattr, vars, __dict__",
        "imports of our own in functions",
        "training steps (calls of backward)",
        "import cycles",
    }
    assert {what for what in structure.PLACES if counts[what] == "1"} | {"import cycles"} == once
    assert counts["noqa: ANN401"] == "0"
    assert counts["most .py files in a folder"] == "5 (foveate)"


def test_the_package_has_no_import_cycle_and_no_member_of_a_method_twice():
    every = structure.modules(ROOT)
    assert structure.cycles(structure.import_graph(every)) == []
    repeated = structure.repeated_members(every)
    assert not repeated, (
        "equal members of two methods: let core/contracts.py, nets/ or losses/ have them once"
    )


# What the package has now; each may only become less.
UNTYPED, LOOKS = 0, 1


def test_the_package_keeps_to_its_limits():
    every = structure.modules(ROOT)
    chain = structure.longest_chain(structure.import_graph(every))
    assert len(chain) <= 12, " -> ".join(chain)
    assert structure.fullest_folder(every)[1] <= 16
    assert len(structure.places(ROOT, "training steps (calls of backward)")) == 1
    untyped = structure.places(ROOT, "noqa: ANN401")
    assert len(untyped) <= UNTYPED, "one of these is new: give it a type"
    looks = structure.places(ROOT, "getattr, hasattr, vars, __dict__")
    assert len(looks) <= LOOKS, "one of these is new: say in a class or a Protocol what a thing has"


# What the linter does not ask of some files; no rule may be added.
IGNORED = {
    *(("tests/**", rule) for rule in ("D", "ANN", "PLC0415", "ARG001")),
    ("benchmarks/**", "ANN401"),
    ("src/foveate/testing/*.py", "S"),
    ("src/foveate/testing/*.py", "ARG001"),
    ("src/foveate/**/*.py", "PLC0415"),
}


def test_no_file_is_let_off_more_rules():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    ignores = project["tool"]["ruff"]["lint"]["per-file-ignores"]
    assert {(files, rule) for files, rules in ignores.items() for rule in rules} <= IGNORED


def test_help_is_written_and_not_patched():
    package = ROOT / "src" / "foveate"
    writers = [package / "cli.py", package / "runtime" / "command.py", *package.glob("commands/*/config.py")]
    assert len(writers) == 19
    for path in writers:
        assert ".replace(" not in path.read_text(encoding="utf-8"), path

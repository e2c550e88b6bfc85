"""docs/weights.md names a test for every way in and out, and every test that it names exists."""

import re
from pathlib import Path

from foveate.commands.export.run import WRITERS
from foveate.nets.weights.families import families

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "weights.md").read_text(encoding="utf-8")


def rows_below(head):
    """The rows of the table whose head begins so."""
    lines = TEXT[TEXT.index(head) :].splitlines()
    return [line for line in lines[2 : lines.index("")] if line.startswith("|")]


def known_tests():
    """Names of all test functions."""
    found = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_every_test_that_is_named_exists():
    names = re.findall(r"`((?:test_|\.\.\._)\w+)(?:\[\w+\])?`", TEXT)
    known = known_tests()
    assert len(names) > 15
    for name in names:
        end = name.removeprefix("...")
        assert any(each == end or (end != name and each.endswith(end)) for each in known), name


def test_every_function_of_the_foreign_libraries_that_is_named_exists():
    names = set(re.findall(r"`(of_\w+|different_voxels|released|from_git)`", TEXT))
    assert len(names) == 8
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests" / "foreign").glob("*.py"))
    assert names == {name for name in names if f"\ndef {name}(" in code}


def test_every_family_and_format_has_its_row_with_a_test():
    tables = {"| `--family` |": families(), "| out |": WRITERS}
    for head, names in tables.items():
        rows = rows_below(head)
        for name in names:
            assert any(f"`{name}`" in row.split("|")[1] for row in rows), name
        for row in rows:
            cells = row.strip("| ").split(" | ")
            tested = "test_" in row or "..._" in row
            assert tested or (head == "| out |" and cells[-1] != "not tested"), row
            assert all(cells), row

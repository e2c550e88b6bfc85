"""The examples in docstrings are what the functions do."""

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import foveate

PACKAGE = Path(foveate.__file__).parent
WITH_EXAMPLES = sorted(
    ".".join(("foveate", *path.relative_to(PACKAGE).with_suffix("").parts))
    for path in PACKAGE.rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)


def test_there_are_examples():
    assert len(WITH_EXAMPLES) > 30


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_in_docstrings(name):
    found = doctest.testmod(import_module(name))
    assert found.attempted > 0
    assert found.failed == 0

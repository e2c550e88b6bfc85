"""Shares of lines and branches by package, added up by hand."""

import pytest

from coverage_by_package import COUNTS, package_of, shares


def test_packages_are_the_sums_of_their_files():
    counts = {
        "src/foveate/data/cache/store.py": (6, 2, 8, 2),
        "src/foveate/data/cache/index.py": (9, 1, 10, 20),
        "src/foveate/cli.py": (5, 0, 5, 0),
        "src/foveate/losses/__init__.py": (0, 0, 0, 0),
    }
    files = {path: {"summary": dict(zip(COUNTS, each, strict=True))} for path, each in counts.items()}
    found = shares({"files": files})
    assert list(found) == ["data/cache", "foveate"]  # the lowest first; what has no line is left out
    assert found["data/cache"] == pytest.approx(100 * 18 / 40)
    assert found["foveate"] == 100
    assert package_of("src/foveate/pages/page.py") == "pages"

"""Lines and branches that tests run, by package, from a JSON report of coverage.py.

    python benchmarks/code/coverage_by_package.py build/coverage.json

Those below 90 % come first. What tests run in processes of their own is not counted.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

WANTED = 90.0
COUNTS = ("covered_lines", "covered_branches", "num_statements", "num_branches")


def package_of(path: str) -> str:
    """`src/foveate/data/cache/store.py` is of `data/cache`; what lies at the top is of `foveate`."""
    return "/".join(Path(path).parts[2:-1]) or "foveate"


def shares(report: Mapping[str, Any]) -> dict[str, float]:
    """Percentages of lines and branches together, lowest first.

    >>> shares({"files": {"src/foveate/core/a.py": {"summary": dict(zip(COUNTS, (3, 1, 4, 4)))}}})
    {'core': 50.0}
    """
    sums: dict[str, Counter[str]] = {}
    for path, found in report["files"].items():
        sums.setdefault(package_of(path), Counter()).update({name: found["summary"][name] for name in COUNTS})
    all_of = {name: found["num_statements"] + found["num_branches"] for name, found in sums.items()}
    ran = {name: found["covered_lines"] + found["covered_branches"] for name, found in sums.items()}
    return dict(
        sorted(
            ((name, 100 * ran[name] / count) for name, count in all_of.items() if count), key=lambda x: x[1]
        )
    )


def main() -> None:
    """A line for each package."""
    for name, share in shares(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))).items():
        print(f"{share:5.1f} %  {name}{'  below' if share < WANTED else ''}")


if __name__ == "__main__":
    main()

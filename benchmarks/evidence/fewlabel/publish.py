"""Put a comparison's report into the repository: python publish.py OUT FOLDER METRIC.

Tables and curves as they are. Of every test image `results.json` keeps what the tables are made from: the
compared metric to six digits, or answer and label of a whole image, and the first twelve characters of its
salted names; OUT keeps the rest.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

DIGITS, CHARACTERS = 6, 12


def trimmed(cell: dict[str, Any], metric: str) -> dict[str, Any]:
    """A cell with the compared metric alone."""
    if "cases" not in cell:
        return cell
    names = [{key: case[key][:CHARACTERS] for key in ("id", "patient")} for case in cell["cases"]]
    if len({name["id"] for name in names}) < len(names):
        raise SystemExit(f"{cell['name']}: names are not unique after {CHARACTERS} characters")
    kept = [
        {key: rounded(case[key]) for key in (metric, "answer", "label") if key in case}
        for case in cell["cases"]
    ]
    return cell | {"cases": [n | values for n, values in zip(names, kept, strict=True)]}


def rounded(value: Any) -> Any:
    """To so many digits."""
    return [rounded(each) for each in value] if isinstance(value, list) else float(f"{value:.{DIGITS}g}")


def main(out: Path, folder: Path, metric: str) -> None:
    """Copy and trim."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in (*out.glob("table.*"), *out.glob("curves-*")):
        shutil.copy(path, folder / path.name)
    cells = [trimmed(cell, metric) for cell in json.loads((out / "results.json").read_text())]
    text = ",\n".join(json.dumps(cell, separators=(",", ":")) for cell in cells)
    (folder / "results.json").write_text(f"[\n{text}\n]\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])

"""What a wheel and an sdist hold, and what they should: contents.py FOLDER with one of each."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = (".py", ".yaml", ".js", ".css", ".json", ".typed")  # suffixes of what foveate is made of
LARGEST = 300_000  # bytes of a file; the listing of all keys is the largest
PROGRAMS = "foveate = foveate.cli:main"
PLUGIN = "foveate.testing.plugin = foveate.testing.plugin"
BESIDE = ("CHANGELOG.md", "CITATION.cff", "LICENSE", "PKG-INFO", "README.md", "pyproject.toml", ".gitignore")


def sources(root: Path = ROOT) -> set[str]:
    """Every file of the package, by its path in a wheel."""
    inside = root / "src"
    found = (path for path in (inside / "foveate").rglob("*") if path.is_file())
    return {path.relative_to(inside).as_posix() for path in found if "__pycache__" not in path.parts}


def of_wheel(sizes: dict[str, int], expected: set[str]) -> list[str]:
    """What is wrong with the names in a wheel."""
    package = {name for name in sizes if ".dist-info/" not in name}
    return [
        *(f"absent: {name}" for name in sorted(expected - package)),
        *(f"not of the package: {name}" for name in sorted(package - expected)),
        *(f"no source and no asset: {name}" for name in sorted(package) if not name.endswith(PACKAGE)),
        *(f"too large: {name}" for name, size in sorted(sizes.items()) if size > LARGEST),
    ]


def of_sdist(names: set[str], expected: set[str]) -> list[str]:
    """What is wrong with the names in an sdist, the folder that they all begin with left out."""
    package = {name for name in names if name.startswith("src/")}
    wanted = {f"src/{name}" for name in expected}
    return [
        *(f"absent: {name}" for name in sorted((wanted | set(BESIDE) - {".gitignore"}) - names)),
        *(f"not of the package: {name}" for name in sorted(package - wanted)),
        *(f"does not belong there: {name}" for name in sorted(names - package - set(BESIDE))),
    ]


def main(folder: Path) -> list[str]:
    """What is wrong with the two files in a folder."""
    (wheel,), (sdist,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    version = re.findall(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)[0]
    with zipfile.ZipFile(wheel) as file:
        sizes = {info.filename: info.file_size for info in file.infolist()}
        told = {Path(name).name: file.read(name).decode() for name in sizes if ".dist-info/" in name}
    with tarfile.open(sdist) as file:
        names = {member.name.partition("/")[2] for member in file.getmembers() if member.isfile()}
    stated = {f"Version: {version}", "Requires-Python: >=3.11", "License-Expression: Apache-2.0"}
    wrong = [
        *of_wheel(sizes, sources()),
        *of_sdist(names, sources()),
        *(f"not in METADATA: {line}" for line in stated - set(told["METADATA"].splitlines())),
        *(
            f"no entry point: {line}"
            for line in {PROGRAMS, PLUGIN} - set(told["entry_points.txt"].splitlines())
        ),
    ]
    for file, count in ((wheel, len(sizes)), (sdist, len(names))):
        print(f"{file.name}: {count} files, {file.stat().st_size} bytes")
    return wrong


if __name__ == "__main__":
    sys.exit("\n".join(main(Path(sys.argv[1]))) or 0)

"""The lowest versions that pyproject.toml promises, as requirements on standard output.

torch stays at the version of requirements.lock: its older builds come with gigabytes of CUDA. Tools of
the tests are those of the lock as well, but for highdicom, which asks for versions of its own.
"""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
TOOLS = ("torch", "pytest", "pytest-xdist", "hypothesis", "hatchling", "editables")


def lowest(requirements: list[str]) -> list[str]:
    """`name>=version,<other` as `name==version`.

    >>> lowest(["monai>=1.5,<2", "jsonargparse[signatures]>=4.49"])
    ['monai==1.5', 'jsonargparse[signatures]==4.49']
    """
    found = [re.match(r"([\w.\[\]-]+)>=([\w.]+)", each) for each in requirements]
    return [f"{each[1]}=={each[2]}" for each in found if each]


def main() -> None:
    """All of them."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = [*project["dependencies"], *extras["blosc2"], *extras["demo"], *extras["loggers"], "pyarrow>=17"]
    asked += [each for each in extras["dev"] if each.startswith("highdicom")]
    lock = dict(line.split("==") for line in (ROOT / "requirements.lock").read_text().split() if "==" in line)
    pins = [each for each in lowest(asked) if not each.startswith("torch==")]
    print(*pins, *(f"{name}=={lock[name]}" for name in TOOLS), sep="\n")


if __name__ == "__main__":
    main()

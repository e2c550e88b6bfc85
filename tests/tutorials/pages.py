"""A tutorial as a list of blocks: what is run, what is saved as a file, what is shown of the output."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
PAGES = sorted(path for path in FOLDER.glob("*.md") if path.stem != "index")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAMED = re.compile(r"# (\w+\.(?:py|yaml))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: `sh` and `python` are run, one that begins with a file's name is that file."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """The name in the first line; empty: none."""
        found = NAMED.match(self.text)
        return found[1] if found else ""


def blocks(page: str) -> list[Block]:
    """In the order of the page."""
    return [Block(language, text) for language, text in BLOCK.findall(page)]


def missing(shown: str, printed: str) -> list[str]:
    """Lines of `shown` that are not among those of `printed` in this order; `...` stands for any words.

    >>> missing("step .../20", "step 10/20\\nstep 20/20")
    []
    >>> missing("b\\na", "a\\nb")
    ['a']
    """
    left = iter(printed.splitlines())
    wanted = [line.rstrip() for line in shown.splitlines() if line.strip()]
    return [line for line in wanted if not any(agrees(line, other) for other in left)]


def agrees(shown: str, printed: str) -> bool:
    """Whether a printed line is the one that the page shows, white space at its ends aside."""
    pattern = ".*".join(re.escape(part) for part in shown.strip().split("..."))
    return re.fullmatch(pattern, printed.strip()) is not None


def run(block: Block, folder: Path) -> str:
    """What a block prints; a file is written and prints nothing."""
    if block.file:
        (folder / block.file).write_text(block.text, encoding="utf-8")
        return ""
    start = {"sh": ["bash", "-euo", "pipefail", "-c"], "python": [sys.executable, "-c"]}[block.language]
    found = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    done = subprocess.run(
        [*start, block.text],
        cwd=folder,
        env={**os.environ, "PATH": found},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{block.text}\n{done.stdout}"
    return done.stdout

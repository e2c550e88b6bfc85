"""The packages that foveate asks for: which versions are there, and which extras are complete."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, requires, version

NAME = re.compile(r"[A-Za-z0-9_.-]+")
EXTRA = re.compile(r"""extra\s*==\s*['"]([\w-]+)['"]""")
DEVELOPERS = "dev"


def asked_for() -> dict[str, list[str]]:
    """Names of packages by extra; the empty name has those that foveate does not run without."""
    found: dict[str, list[str]] = {"": []}
    for line in requires("foveate") or []:
        name, extra = NAME.match(line), EXTRA.search(line)
        if name:
            found.setdefault(extra[1] if extra else "", []).append(name[0])
    return found


def installed(name: str) -> str:
    """The version of a package, or nothing."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def core_lines(wanted: Mapping[str, list[str]]) -> list[str]:
    """One line with every package that is needed, and its version."""
    there = [f"{name} {installed(name) or 'MISSING'}" for name in sorted(wanted[""], key=str.lower)]
    return [", ".join(there)]


def extra_lines(wanted: Mapping[str, list[str]]) -> list[str]:
    """One line for every extra of users: complete, or how to get what is missing."""
    lines = []
    for extra, names in sorted(wanted.items()):
        if extra in ("", DEVELOPERS):
            continue
        missing = [name for name in names if not installed(name)]
        told = f"without {', '.join(missing)}: pip install 'foveate[{extra}]'" if missing else "installed"
        lines.append(f"{extra}: {told}")
    return lines

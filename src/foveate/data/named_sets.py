"""Several data sets in one `--data`: NAME=FOLDER:WEIGHT, separated by commas."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import final

from foveate.core.types import FoveateError

NAME = "[A-Za-z0-9][A-Za-z0-9_-]{0,31}"
ACCEPTED = (
    "accepted: NAME=FOLDER:WEIGHT for every set, separated by commas: CT=ct_folder:0.5,MR=mr_folder:0.5"
)
RAREST = Fraction(1, 10_000)  # of the samples


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class NamedSet:
    """One of several data sets."""

    name: str
    path: Path
    weight: Fraction


def named_sets(data: str) -> tuple[NamedSet, ...]:
    """The sets that `--data` names, in the order of their names; () where it is one folder, file or cache.

    >>> [(s.name, str(s.path), str(s.weight)) for s in named_sets("MR=b:1,CT=a:0.5")]
    [('CT', 'a', '1/2'), ('MR', 'b', '1')]
    """
    if not re.match(f"{NAME}=", data) or Path(data).exists():
        return ()
    sets = [_parsed(part, data) for part in re.split(f",(?={NAME}=)", data)]
    _check_apart(sets)
    total = sum(each.weight for each in sets)
    for each in sets:
        if each.weight < total * RAREST:
            raise FoveateError(
                f"--data {each.name}: the weight is {float(each.weight / total):.2g} of all; accepted: at "
                f"least {float(RAREST)}."
            )
    return tuple(sorted(sets, key=lambda each: each.name))


def _parsed(part: str, data: str) -> NamedSet:
    name, _, rest = part.partition("=")
    path, colon, number = rest.rpartition(":")
    if not (colon and path):
        raise FoveateError(f"--data {data}: {part!r} has no weight, and no such file exists; {ACCEPTED}.")
    if not re.fullmatch(r"\d*\.?\d+(e-?\d+)?", number) or not (weight := Fraction(number)):
        raise FoveateError(f"--data {name}: the weight {number!r} is not a number above 0; {ACCEPTED}.")
    return NamedSet(name=name, path=Path(path).expanduser(), weight=weight)


def _check_apart(sets: Sequence[NamedSet]) -> None:
    """Refuse a name or a folder that is given twice, and a folder within another."""
    for i, each in enumerate(sets):
        for other in sets[:i]:
            if each.name == other.name:
                raise FoveateError(
                    f"--data names two sets {each.name}; accepted: a name of its own for each."
                )
            here, there = each.path.resolve(), other.path.resolve()
            if here == there or here in there.parents or there in here.parents:
                raise FoveateError(
                    f"--data {other.name} and {each.name}: {other.path} and {each.path} are the same folder, "
                    "or one lies in the other; accepted: folders that have no image in common."
                )


def weights_of(data: str) -> str:
    """Names and weights of the sets, without their paths; "" where there is one.

    >>> weights_of("MR=b:1,CT=a:0.50")
    'CT:0.5,MR:1'
    """
    return ",".join(f"{each.name}:{float(each.weight):.12g}" for each in named_sets(data))


@contextmanager
def said_of(name: str) -> Iterator[None]:
    """Errors say which data set they are about; "": there is one."""
    try:
        yield
    except FoveateError as error:
        if not name:
            raise
        raise FoveateError(f"data set {name}: {error}") from None


def shares_of(data: str) -> dict[str, Fraction]:
    """The share of every set in the samples; they sum to 1."""
    sets = named_sets(data)
    return {each.name: each.weight / sum(other.weight for other in sets) for each in sets}


def paths_of(data: str) -> list[Path]:
    """Where the images are, of one data set or several."""
    return [each.path for each in named_sets(data)] or [Path(data)]


def refuse_sets(data: str, command: str) -> None:
    """For commands that take one data set."""
    if named_sets(data):
        raise FoveateError(
            f"--data {data}: several data sets by weight are accepted by pretrain and plan; {command} takes "
            "one folder, file or cache."
        )

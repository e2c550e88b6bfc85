"""Known families of foreign weights: one table a family, data under `tables/`; here is what reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, final

import yaml
from torch import Tensor

from foveate.core.types import FoveateError, printable
from foveate.nets.weights.adapt import reversed_axes, window_of

OWN = ("encoder.", "decoder.")
MOST_STAGES, MOST_BLOCKS = 10, 100  # of a network that is built because a file says so
Argument = bool | int | tuple[int, ...]  # of an encoder's Config


@final
@dataclass(frozen=True, kw_only=True)
class Family:
    """A table.

    Attributes:
        name: Of the table's file.
        title: For people.
        strip: Pattern of the prefixes that wrappers put before every name.
        drop: Patterns of names that are left behind on purpose: classifiers, heads, copies.
        rename: Patterns and replacements, applied in this order.
        words: Components of the family's names, digits as #, by which a stranger is likened to it.
        derive: Argument of the encoder -> where in the file it is found.
        candidates: Networks that the family may be, each with `dimension`, `encoder` and perhaps `decoder`.
        card: What is known of the input that the weights were trained on.
        strides_at: Dotted key of the strides in the file, where it has them.
        blocks: Where the file says how many blocks its stages have, if it does: the `argument` of the encoder
            that they were counted into, the dotted key `at`, and whether they come in `pairs`.
        reversed_axes: Whether its networks read (rows, columns) or (z, y, x).
    """

    name: str
    title: str
    strip: str
    drop: list[str]
    rename: list[tuple[str, str]]
    words: list[str]
    derive: dict[str, dict[str, Any]]
    candidates: list[dict[str, Any]]
    card: dict[str, Any]
    strides_at: str = ""
    blocks: dict[str, Any] = field(default_factory=dict)
    reversed_axes: bool = False


@cache
def families() -> dict[str, Family]:
    """Every table, by name."""
    tables = sorted(Path(str(files("foveate"))).joinpath("nets", "weights", "tables").glob("*.yaml"))
    loaded = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in tables}
    return {name: Family(name=name, **keys) for name, keys in loaded.items()}


@final
@dataclass(frozen=True, kw_only=True)
class Translation:
    """A file's tensors under our names, and what became of the others."""

    tensors: dict[str, Tensor]
    dropped: tuple[str, ...]
    unknown: tuple[str, ...]


def translate(family: Family, tensors: Mapping[str, Tensor]) -> Translation:
    """Our names for a file's, by the family's table."""
    found: dict[str, str] = {}
    dropped: list[str] = []
    unknown: list[str] = []
    for name in tensors:
        bare = re.sub(family.strip, "", name)
        if any(re.search(p, name) or re.search(p, bare) for p in family.drop):
            dropped.append(name)
            continue
        ours = our_name(family, bare, name)
        if not ours:
            unknown.append(name)
        elif ours in found:
            raise FoveateError(
                f"The file holds both {printable(found[ours])} and {printable(name)}, the same weight of two "
                "networks (a student and a teacher?). Choose one by --prefix, the start of its names."
            )
        else:
            found[ours] = name
    turn = reversed_axes if family.reversed_axes else lambda tensor: tensor
    return Translation(
        tensors={ours: turn(tensors[name]) for ours, name in found.items()},
        dropped=tuple(dropped),
        unknown=tuple(unknown),
    )


def our_name(family: Family, *spellings: str) -> str:
    """The first spelling that the table turns into one of our names, empty where none is.

    >>> our_name(families()["pcrlv2_3d"], "down_tr64.ops.0.conv1.weight")
    'encoder.levels.0.0.conv.weight'
    """
    for name in spellings:
        renamed = name
        for pattern, replacement in family.rename:
            renamed = re.sub(pattern, replacement, renamed)
        if renamed != name and renamed.startswith(OWN):
            return renamed
    return ""


def derived(family: Family, tensors: Mapping[str, Tensor], dimension: int) -> dict[str, Argument] | None:
    """The encoder's arguments as the shapes say them; None where the weights that say them are missing."""
    try:
        return {key: find(rule, tensors, dimension) for key, rule in family.derive.items()}
    except (KeyError, IndexError, ValueError):
        return None


def find(rule: Mapping[str, Any], tensors: Mapping[str, Tensor], dimension: int) -> Argument:
    """One argument: the length of an axis, a number of groups, whether a name is present ..."""
    ((kind, where),) = rule.items()
    match kind:
        case "axis":
            found: Argument = int(tensors[where[0]].shape[where[1]])
        case "window":
            found = window_of(tensors[where].shape[0], dimension) or 0
        case "count":
            found = len(groups(where, tensors))
        case "counts":
            found = tuple(len(groups(pattern, tensors)) for pattern in where)
        case "nested":
            stages = Counter(first for first, _ in groups(where, tensors))
            found = tuple(stages[str(i)] for i in range(len(stages)))
        case "present":
            return any(re.search(where, name) for name in tensors)
        case "most":
            found = max(int(t.shape[0]) for name, t in tensors.items() if re.search(where, name))
        case _:
            raise KeyError(kind)
    if not found or (isinstance(found, tuple) and not all(found)):
        raise ValueError(where)
    return found


def groups(pattern: str, names: Iterable[str]) -> set[tuple[str, ...]]:
    """Distinct groups that a pattern catches in names."""
    matches = (re.search(pattern, name) for name in names)
    return {m.groups() for m in matches if m}


def nearest_families(names: Iterable[str]) -> list[Family]:
    """Every family, the one whose words are most like those of the names first."""
    words = {re.sub(r"\d+", "#", part) for name in names for part in name.split(".")}
    words -= {"weight", "bias", "#", "running_mean", "running_var", "num_batches_tracked"}

    def likeness(family: Family) -> float:
        known = set(family.words)
        return len(known & words) / max(1, len(known | words))

    return sorted(families().values(), key=likeness, reverse=True)


def resemblance(names: Iterable[str]) -> str:
    """The nearest family, for a message."""
    family = nearest_families(names)[0]
    return f"{family.name} ({family.title})"


def check_strides(family: Family, content: object) -> str:
    """Refuse strides that the encoder does not have; a note where the file does not say its strides."""
    if not family.strides_at:
        return ""
    content = at_key(content, family.strides_at)
    if not isinstance(content, Iterable):
        return "strides are not in the file: 1 in the first stage and 2 in every other are assumed"
    strides = [step if isinstance(step, list | tuple) else [step] for step in content]
    if strides and all(set(step) == {2 if i else 1} for i, step in enumerate(strides)):
        return ""
    raise FoveateError(
        f"The file is of the family {family.name}, but its strides are {printable(strides)}; the encoder "
        "resenc has 1 in the first stage and 2 on every axis in the others: it would compute something else."
    )


def at_key(content: object, dotted: str) -> object:
    """What nested mappings hold under a dotted key; None where they do not."""
    for key in dotted.split("."):
        content = content.get(key) if isinstance(content, Mapping) else None
    return content


def with_all_blocks(family: Family, arguments: dict[str, Argument], content: object) -> dict[str, Argument]:
    """Arguments with the blocks that the stages should have: the last of a stage may be missing in the file.

    As the file says; where it does not, one more where they come in pairs and were counted odd.
    """
    if not family.blocks:
        return arguments
    counted, said = arguments[family.blocks["argument"]], at_key(content, family.blocks["at"])
    if isinstance(said, list | tuple):
        if len(said) > MOST_STAGES or not all(type(n) is int and 0 < n <= MOST_BLOCKS for n in said):
            raise FoveateError(
                f"The file says that its stages have {printable(said)} blocks; accepted: up to {MOST_STAGES} "
                f"stages of 1 to {MOST_BLOCKS}."
            )
        counted = tuple(said)
    elif family.blocks.get("pairs") and isinstance(counted, tuple):
        counted = tuple(count + count % 2 for count in counted)
    return {**arguments, family.blocks["argument"]: counted}


def blocks_note(family: Family, content: object) -> str:
    """What to say where a file that lacks the last block of a stage would look like a smaller network."""
    if not family.blocks or family.blocks.get("pairs") or at_key(content, family.blocks["at"]) is not None:
        return ""
    return "the file does not say how many blocks its stages have: as many as were counted are assumed"

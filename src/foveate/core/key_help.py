"""What help says of the keys of a Config: its docstrings, types and defaults, in the terminal's width."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Set
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

from foveate.core.config import CHOICES, field_values, is_config
from foveate.core.types import Dataclass

OPTIONS = "options (N is a whole number, X a number, LIST such as [1, 2]):"
NO_BREAK = "\N{NO-BREAK SPACE}"
HELP_INDENT = 30  # columns before the meaning of a key


def attribute_help(config: type[Dataclass]) -> dict[str, str]:
    """What the docstrings of a Config and its parents say of each of its fields."""
    from docstring_parser import parse as parse_docstring

    described = [
        param for each in config.__mro__[:-1] for param in parse_docstring(each.__doc__ or "").params
    ]
    meanings = {param.arg_name: " ".join((param.description or "").split()) for param in reversed(described)}
    return {param.arg_name: meanings[param.arg_name] for param in described}


def help_sections(
    config: Dataclass, found: Set[str] = frozenset(), prefix: str = "", title: str = OPTIONS
) -> dict[str, dict[str, str]]:
    """The help of every key by the key, in a section for every group by its title.

    `found` are keys whose default is not that of the configuration but found out.
    """
    hints, meanings, values = get_type_hints(type(config)), attribute_help(type(config)), field_values(config)
    groups = {name: value for name, value in values.items() if is_config(value)}
    rows = {}
    for name in [name for name in values if name not in groups]:
        key = prefix + name
        head, meaning = f"--{key} {accepted_values(hints[name])}", meanings.get(name, "")
        if name == "name" and prefix[:-1] in CHOICES:
            head, meaning = f"--{prefix[:-1]} NAME", ""
        rows[key] = help_row(head, _with_default(meaning, "" if key in found else values[name]))
    sections = {title: rows} if rows else {}
    for name, group in groups.items():
        heading = f"{prefix}{name}: {summary_of(type(group))}"
        sections |= help_sections(group, found, f"{prefix}{name}.", heading)
    return sections


def help_row(head: str, text: str) -> str:
    """A key and its meaning, in the terminal's width."""
    lines = [line.replace(NO_BREAK, " ") for line in textwrap.wrap(text, help_width() - HELP_INDENT)] or [""]
    first = f"  {head}".ljust(HELP_INDENT)
    beside = len(first) == HELP_INDENT and first.endswith("  ")
    shown = [first + lines.pop(0)] if beside else [first]
    return "\n".join([line.rstrip() for line in shown] + [" " * HELP_INDENT + line for line in lines if line])


def help_list(title: str, names: Iterable[str]) -> str:
    """Names that may be chosen, in lines."""
    return textwrap.fill(f"{title}: {', '.join(names)}", help_width(), subsequent_indent="  ")


def help_width() -> int:
    """That of the terminal, up to what is easily read."""
    return min(110, shutil.get_terminal_size().columns)


def summary_of(config: type[Dataclass]) -> str:
    """The first paragraph of a Config's docstring."""
    from docstring_parser import parse as parse_docstring

    found = parse_docstring(config.__doc__ or "")
    return " ".join(f"{found.short_description or ''} {found.long_description or ''}".split())


def accepted_values(hint: object) -> str:
    """How a type is written on the command line.

    >>> accepted_values(Literal["npy", "blosc2"]), accepted_values(tuple[float, ...] | Literal["all"])
    ('npy|blosc2', 'LIST|all')
    """
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) in (Union, UnionType):
        return "|".join(map(accepted_values, get_args(hint)))
    words: dict[object, str] = {bool: "true|false", int: "N", float: "X", NoneType: "null"}
    return "LIST" if get_origin(hint) is tuple else words.get(hint, "TEXT")


def _with_default(meaning: str, value: object) -> str:
    """The meaning with what holds where nothing is said; nothing is added where that is empty."""
    word = written(value)
    return f"{meaning} {f'[default: {word}]'.replace(' ', NO_BREAK)}".strip() if word else meaning


def written(value: object) -> str:
    """A default as help writes it; empty where there is none."""
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(written, value))}]" if value else ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)

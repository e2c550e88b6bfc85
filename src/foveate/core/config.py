"""Configuration: frozen dataclasses and complete YAML files, parsed by jsonargparse. Only this file knows it.

Parsing takes two passes. The first reads the names of the method and the encoder, the dimension and the size
from YAML and command line; the caller turns these into one dataclass of concrete Config classes with their
defaults. The second pass checks every key against that dataclass and lets jsonargparse check the values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from functools import reduce
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Any,
    TypeGuard,
    TypeVar,
    get_type_hints,
)

import yaml

from foveate.core.files import parse_yaml
from foveate.core.registry import nearest
from foveate.core.types import Dataclass, FoveateError

if TYPE_CHECKING:  # heavy: imported when a parser is built
    from jsonargparse import ArgumentParser

C = TypeVar("C", bound=Dataclass)
Nested = dict[str, Any]
Others = Mapping[str, Mapping[str, type[Dataclass]]]  # group -> name -> Config class
CHOICES = (
    "method",
    "method.base",
    "task",
    "source",
    "encoder",
)  # keys whose value may be given as the bare name


def read_flags(
    arguments: list[str], switches: Iterable[str], positional: str = "", yes: Iterable[str] = ()
) -> tuple[dict[str, str], set[str]]:
    """Split a command line into `--key value` pairs and switches that take no value.

    One word that stands alone is the value of the key `positional`, where a command has one; a key of `yes`
    that stands alone is true.

    >>> read_flags(["--steps", "10", "--encoder.width=4", "--dry_run"], {"dry_run"})
    ({'steps': '10', 'encoder.width': '4'}, {'dry_run'})
    >>> read_flags(["SRC", "--out", "INV"], {"help"}, "data")
    ({'data': 'SRC', 'out': 'INV'}, set())
    >>> read_flags(["--force", "--out", "X"], {"help"}, yes=["force"])
    ({'force': 'true', 'out': 'X'}, set())
    """
    values: dict[str, str] = {}
    given: set[str] = set()
    queue = list(arguments)
    while queue:
        token = queue.pop(0)
        if not token.startswith("--"):
            if positional and positional not in values:
                values[positional] = token
                continue
            raise FoveateError(f"{token!r} stands alone; options are written --key value.")
        name, equals, value = token[2:].partition("=")
        if name in switches:
            given.add(name)
        elif equals:
            values[name] = value
        elif name in yes and (not queue or queue[0].startswith("--")):
            values[name] = "true"
        elif not queue or queue[0].startswith("--"):
            raise FoveateError(f"--{name} has no value; write --{name} VALUE.")
        else:
            values[name] = queue.pop(0)
    return {f"{k}.name" if k in CHOICES else k: v for k, v in values.items()}, given


def read_yaml(path: Path) -> Nested:
    """A YAML file as nested mappings, with `method: NAME` spelled out."""
    try:
        loaded = parse_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        why = str(error.strerror).lower() if isinstance(error, OSError) else error
        raise FoveateError(f"--config {path} cannot be read as YAML: {why}.") from None
    if not isinstance(loaded, dict):
        raise FoveateError(f"--config {path} holds a {type(loaded).__name__}; accepted: keys with values.")
    return spelled_out(loaded)


def spelled_out(keys: Mapping[str, Any], prefix: str = "") -> Nested:
    """`method: NAME` as `method: {name: NAME}`, the same for the other choices.

    >>> spelled_out({"method": {"name": "region_contrast", "base": "byol"}, "steps": 3})
    {'method': {'name': 'region_contrast', 'base': {'name': 'byol'}}, 'steps': 3}
    """

    def spelled(key: str, value: object) -> object:
        if isinstance(value, Mapping):
            return spelled_out(value, f"{key}.")
        return {"name": value} if key in CHOICES and isinstance(value, str) else value

    return {k: spelled(f"{prefix}{k}", v) for k, v in keys.items()}


def flatten(nested: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values.

    >>> dict(flatten({"a": {"b": 1}, "c": 2}))
    {'a.b': 1, 'c': 2}
    """
    for key, value in nested.items():
        if isinstance(value, Mapping):
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def nest(flat: Mapping[str, Any]) -> Nested:
    """The inverse of `flatten`."""
    nested: Nested = {}
    for key, value in flat.items():
        *parents, leaf = key.split(".")
        at = nested
        for parent in parents:
            at = at.setdefault(parent, {})
        at[leaf] = value
    return nested


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> Nested:
    """Nested keys with others on top.

    >>> overlaid({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": 4}})
    {'a': {'b': 4, 'c': 2}, 'd': 3}
    """
    both = [k for k in below if isinstance(below[k], Mapping) and isinstance(above.get(k), Mapping)]
    return {**below, **above, **{key: overlaid(below[key], above[key]) for key in both}}


def to_mapping(config: Dataclass) -> Nested:
    """A Config as plain YAML types: tuples become lists, paths strings."""

    def plain(value: object) -> object:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return str(value) if isinstance(value, Path) else value

    mapping = plain(dataclasses.asdict(config))
    assert isinstance(mapping, dict)
    return mapping


def to_yaml(config: Dataclass, without: Iterable[str] = ()) -> str:
    """A complete YAML that `--config` reads back, the values of some dotted keys left empty."""
    mapping = to_mapping(config)
    for key in without:
        *parents, leaf = key.split(".")
        reduce(lambda at, parent: at[parent], parents, mapping)[leaf] = ""
    return yaml.safe_dump(mapping, sort_keys=False, default_flow_style=None, width=100)


def check_keys(
    given: Iterable[str], defaults: Dataclass, alternatives: Callable[[], Others], *, verb: str
) -> None:
    """Refuse a key that the configuration does not have, and say where it would belong.

    Args:
        given: Dotted keys from YAML or the command line.
        defaults: The Config of this run.
        alternatives: Group -> name -> Config class of what was not chosen, e.g. the other methods; asked
            for when a key is unknown, since it imports them.
        verb: Whose help lists the keys.
    """
    known = dict(flatten(to_mapping(defaults)))
    for key in given:
        if key in known or any(k.startswith(f"{key}.") for k in known):
            continue
        others = alternatives()
        group = max((g for g in others if key.startswith(f"{g}.")), key=len, default="")
        rest = key[len(group) + 1 :]
        owners = [n for n, other in others.get(group, {}).items() if rest.split(".")[0] in field_names(other)]
        if owners:
            belongs = f"belongs to {', '.join(owners)}, and this run uses {known[f'{group}.name']}"
            raise FoveateError(f"--{key} {belongs}; drop the key or choose --{group} {owners[0]}.")
        raise FoveateError(
            f"--{key}: there is no such key{nearest(key, list(known))}. "
            f"`foveate {verb} --help_all` lists all."
        )


def field_names(config: type[Dataclass]) -> set[str]:
    """Names of the fields of a dataclass."""
    return {field.name for field in dataclasses.fields(config)}


def is_config(value: object) -> TypeGuard[Dataclass]:
    """Whether a value is a dataclass, and not the class."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def field_values(config: Dataclass) -> dict[str, Any]:
    """The fields of a dataclass by name, as they are."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}


def parse(defaults: C, yaml_keys: Nested, flags: Mapping[str, str]) -> C:
    """The configuration: defaults, overridden by YAML, overridden by the command line."""
    from jsonargparse import ArgumentError

    parser = parser_for(defaults)
    lists = {key for key, value in flatten(to_mapping(defaults)) if isinstance(value, list)}
    try:
        chosen = parser.parse_object(overlaid(to_mapping(defaults), yaml_keys), defaults=False)
        if words := [f"--{key}={_bracketed(value, lists, key)}" for key, value in flags.items()]:
            chosen = parser.parse_args(words, namespace=chosen, defaults=False)
        values = parser.instantiate(chosen)
    except (ArgumentError, TypeError, ValueError, RecursionError) as error:
        raise FoveateError(" ".join(str(error).split())) from None
    return type(defaults)(**{name: values[name] for name in field_names(type(defaults))})


def _bracketed(value: str, lists: Set[str], key: str) -> str:
    """A list as YAML writes it: `0.01,0.1` needs no brackets."""
    return f"[{value}]" if key in lists and not value.startswith("[") else value


_PARSERS: dict[tuple[object, ...], ArgumentParser] = {}


def parser_for(defaults: Dataclass) -> ArgumentParser:
    """A parser for these classes, kept for each combination of them: a grid has hundreds of Configs."""
    shape = classes_of(defaults)
    if shape not in _PARSERS:
        _PARSERS[shape] = build_parser(defaults)
    return _PARSERS[shape]


def classes_of(config: Dataclass) -> tuple[object, ...]:
    """The class of a Config and of those in it: all that a parser depends on."""
    inner = ((name, classes_of(value)) for name, value in field_values(config).items() if is_config(value))
    return type(config), *inner


def build_parser(defaults: Dataclass) -> ArgumentParser:
    """A parser with every field of a Config dataclass, nested dataclasses included."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False)
    hints = get_type_hints(type(defaults))
    for name, value in field_values(defaults).items():
        if is_config(value):
            add_class(parser, value, name)
        else:
            parser.add_argument(f"--{name}", type=hints[name])
    return parser


def add_class(parser: ArgumentParser, value: Dataclass, key: str) -> None:
    """Arguments for a Config, and for those in it whose class only their value tells."""
    hints, values = get_type_hints(type(value)), field_values(value)
    chosen = {n: v for n, v in values.items() if is_config(v) and type(v) is not hints[n]}
    parser.add_class_arguments(type(value), key, skip=set(chosen))
    for name, inner in chosen.items():
        add_class(parser, inner, f"{key}.{name}")


def differences(first: Nested, second: Nested, ignore: Iterable[str]) -> list[str]:
    """Dotted keys whose values differ, as `key: a -> b`."""
    a, b = dict(flatten(first)), dict(flatten(second))
    skip = set(ignore)
    keys = [k for k in {**a, **b} if k not in skip and a.get(k) != b.get(k)]
    return [f"{k}: {a.get(k, 'absent')} -> {b.get(k, 'absent')}" for k in keys]

"""Keys of other commands inside the file of a comparison: read as dotted ones, and checked by groups."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields, make_dataclass, replace
from typing import Any, TypeVar

from foveate.core import config as parsing
from foveate.core.types import Dataclass, FoveateError

C = TypeVar("C", bound=Dataclass)
Keys = Mapping[str, Any]  # dotted keys of another command
SEARCHED = ("optim.warmup_steps", "tuning.transfer", "tuning.layer_decay", "tuning.frozen_steps")


def mapping_of(value: object, name: str, where: str) -> dict[str, Any]:
    """Something that must be a mapping."""
    if not isinstance(value, dict) or not value:
        raise FoveateError(f"{where}: {name} is missing or empty; accepted: a mapping of names.")
    return value


def dotted(value: object, where: str) -> dict[str, Any]:
    """Nested keys as dotted ones, `method: NAME` spelled out."""
    if not isinstance(value, dict):
        raise FoveateError(f"{where} holds {value!r}; accepted: keys and values.")
    return dict(parsing.flatten(parsing.spelled_out(value)))


def checked(keys: Keys, may: Iterable[str], where: str, why: str) -> None:
    """Refuse keys that are in none of the groups `may`."""
    for key in keys:
        if not any(key == each or (each.endswith(".") and key.startswith(each)) for each in may):
            raise FoveateError(f"{where}.{key}: {why}; accepted: {', '.join(may)}.")


def refused(keys: Keys, never: Iterable[str], where: str, why: str) -> None:
    """Refuse keys that are in one of the groups `never`."""
    for key in keys:
        if any(key == each or (each.endswith(".") and key.startswith(each)) for each in never):
            raise FoveateError(f"{where}.{key}: {why}.")


def groups_of(said: object, config: C, where: str) -> tuple[C, dict[str, dict[str, Any]]]:
    """A Config's plain values parsed, and its groups of dotted keys."""
    values = dict(mapping_of(said, where, "--config"))
    if isinstance(values.get("method"), dict):
        values["method"] = values["method"].get("name", "")
    named = {k for k, v in parsing.to_mapping(config).items() if isinstance(v, dict)}
    parts = {name: dotted(values.pop(name), f"{where}.{name}") for name in named if name in values}
    plain = plain_of(config)
    try:
        parsing.check_keys(values, plain, dict, verb="compare")
        parsed = parsing.parse(plain, values, {})
    except FoveateError as error:
        raise FoveateError(f"{where}: {error}") from None
    return replace(config, **parsing.field_values(parsed)), parts


def plain_of(config: Dataclass) -> Dataclass:
    """The same Config without its groups of keys, for the parser."""
    values = {k: v for k, v in parsing.field_values(config).items() if not isinstance(v, dict)}
    named = [(each.name, each.type, each) for each in fields(config) if each.name in values]
    made = make_dataclass(type(config).__name__, named, frozen=True, kw_only=True)
    made.__doc__ = type(config).__doc__
    made.__module__ = type(config).__module__  # where the names in its types are found
    plain: Dataclass = made(**values)
    return plain


def search_of(keys: Keys, where: str) -> Keys:
    """The values to try."""
    checked(keys, SEARCHED, where, "cannot be searched")
    for key, values in keys.items():
        if not isinstance(values, list) or not values:
            raise FoveateError(f"{where}.{key} {values!r}: accepted is a list of values to try.")
    return keys

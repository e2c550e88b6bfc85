"""Registries: our own modules and the entry points of other packages, by name.

Nothing is imported before it is asked for by its name, so that a list of names costs nothing.
"""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, Protocol, TypeVar, cast, runtime_checkable

from foveate.core.types import Dataclass, FoveateError

T = TypeVar("T")


@runtime_checkable
class Configured(Protocol):
    """A module with a Config, as far as a registry can tell before it has looked at it."""

    Config: type[Dataclass]


class Registry(Generic[T]):
    """What can be named for one key of the configuration; `needs` are attributes of what a package adds."""

    def __init__(self, kind: str, group: str, own: Mapping[str, str], needs: Collection[str] = ()) -> None:
        self.kind, self.group, self.own, self.needs = kind, group, dict(own), needs

    def names(self) -> list[str]:
        """Every accepted name, sorted."""
        return sorted({*self.own, *(point.name for point in entry_points(group=self.group))})

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def __getitem__(self, name: str) -> T:
        if name in self.own:
            return cast(T, EntryPoint(name, self.own[name], self.group).load())
        for point in entry_points(group=self.group, name=name):
            return cast(T, self.loaded(point))
        raise FoveateError(
            f"--{self.kind} {name}: there is no such {self.kind}{nearest(name, self.names())}. "
            f"Accepted: {', '.join(self.names())}."
        )

    def loaded(self, point: EntryPoint) -> object:
        """What an entry point of another package stands for, if it is what this registry is for."""
        owner = point.dist.name if point.dist else "another package"
        try:
            found = point.load()
        except Exception as error:  # whatever it is, the package must be named
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise FoveateError(
                f"--{self.kind} {point.name}: {owner}, which adds it, cannot be loaded ({what}). Fix or "
                "remove that package; nothing else of foveate needs it."
            ) from error
        if fault := self.fault(point, found):
            raise FoveateError(
                f"--{self.kind} {point.name}: {owner}, which adds it, is incomplete: {point.value} {fault}. "
                "Fix or remove that package; nothing else of foveate needs it."
            )
        return found

    def fault(self, _point: EntryPoint, found: object) -> str:
        """What another package's thing lacks, and what is accepted, as a predicate; empty where nothing."""
        missing = [name for name in self.needs if name not in dir(found)]
        return f"has no {' and no '.join(missing)}; accepted: {', '.join(self.needs)}" if missing else ""

    def others(self, name: str) -> dict[str, T]:
        """All but one, without what cannot be loaded: a broken package must not stop a run without it."""
        found: dict[str, T] = {}
        for other in self:
            with suppress(FoveateError):
                if other != name:
                    found[other] = self[other]
        return found


class ModuleRegistry(Registry[T]):
    """Every module of one of our packages is an entry, so that one new file adds one thing.

    Every Config is built on `settings`.
    """

    def __init__(self, kind: str, group: str, package: str, settings: type = object) -> None:
        path = import_module(package).__path__
        own = {module.name: f"{package}.{module.name}" for module in pkgutil.iter_modules(path)}
        super().__init__(kind, group, own, ("Config", "build"))
        self.settings = settings

    def fault(self, point: EntryPoint, found: object) -> str:
        """In addition a Config that is none, or that has another name than its entry point."""
        if missing := super().fault(point, found):
            return missing
        assert isinstance(found, Configured)
        config, wanted = found.Config, self.settings
        if not (isinstance(config, type) and dataclasses.is_dataclass(config) and issubclass(config, wanted)):
            on = "" if wanted is object else f" on {wanted.__module__}.{wanted.__name__}"
            return f"has a Config that cannot be one; accepted: a frozen keyword-only dataclass{on}"
        default = {field.name: field.default for field in dataclasses.fields(config)}.get("name")
        field = f'name: Literal["{point.name}"] = "{point.name}"'
        if default == point.name:
            return ""
        return f"has a Config whose field name is {default!r}; accepted: {field}, below @dataclass"


def nearest(word: str, accepted: list[str]) -> str:
    """A suggestion to append to an error, empty where nothing is near.

    >>> nearest("pcrl", ["pgl", "pcrlv2"])
    ' (did you mean pcrlv2?)'
    """
    found = get_close_matches(word, accepted, n=1, cutoff=0.6)
    return f" (did you mean {found[0]}?)" if found else ""

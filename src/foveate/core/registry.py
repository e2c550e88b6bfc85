"""Registries: our own modules and the entry points of other packages, by name.

Nothing is imported before it is asked for by its name, so that a list of names costs nothing.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar, cast

from foveate.core.types import FoveateError

T = TypeVar("T")


class Registry(Generic[T]):
    """What can be named for one key of the configuration."""

    def __init__(self, kind: str, group: str, own: Mapping[str, str]) -> None:
        self.kind, self.group, self.own = kind, group, dict(own)

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
        """What an entry point of another package stands for."""
        try:
            return point.load()
        except Exception as error:  # whatever it is, the package must be named
            owner = point.dist.name if point.dist else "another package"
            what = f"{type(error).__name__}: {' '.join(str(error).split())}"
            raise FoveateError(
                f"--{self.kind} {point.name}: {owner}, which adds it, cannot be loaded ({what}). Fix or "
                "remove that package; nothing else of foveate needs it."
            ) from error

    def others(self, name: str) -> dict[str, T]:
        """All but one, without what cannot be loaded: a broken package must not stop a run without it."""
        found: dict[str, T] = {}
        for other in self:
            with suppress(FoveateError):
                if other != name:
                    found[other] = self[other]
        return found


class ModuleRegistry(Registry[T]):
    """Every module of one of our packages is an entry, so that one new file adds one thing."""

    def __init__(self, kind: str, group: str, package: str) -> None:
        path = import_module(package).__path__
        own = {module.name: f"{package}.{module.name}" for module in pkgutil.iter_modules(path)}
        super().__init__(kind, group, own)


def nearest(word: str, accepted: list[str]) -> str:
    """A suggestion to append to an error, empty where nothing is near.

    >>> nearest("pcrl", ["pgl", "pcrlv2"])
    '; did you mean pcrlv2?'
    """
    found = get_close_matches(word, accepted, n=1, cutoff=0.6)
    return f"; did you mean {found[0]}?" if found else ""

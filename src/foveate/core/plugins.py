"""What a registry holds of methods and sources (`core.tasks` has tasks): modules with these names in them.

`build` is nearly always the class itself. A module's own Config stands for the one that is written here: a
registry hands to `build` what came from `Config`, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from foveate.core.types import Dataclass

if TYPE_CHECKING:  # a list of names does without torch
    from foveate.core.contracts import Method, MethodConfig, Source
    from foveate.core.networks import Network


class MethodBuilder(Protocol):
    """From a network and a Config to any method: what a method that is put around another is given."""

    def __call__(self, net: Network, config: MethodConfig, /) -> Method:
        """The method on this network."""
        ...


class MethodModule(Protocol):
    """A module of `foveate.methods`; the first line of its docstring is what `foveate methods` shows."""

    __doc__: str | None
    Config: type[MethodConfig]

    def build(self, net: Network, config: MethodConfig, /, *inner: MethodBuilder) -> Method:
        """The method on a network; `inner` is given to one whose Config has `wrapped`."""
        ...


class SourceConfig(Dataclass, Protocol):
    """What commands read of a source's Config; every other field has a default."""

    @property
    def name(self) -> str:
        """Which source."""
        ...


class SourceModule(Protocol):
    """A module of `foveate.data.sources`."""

    Config: type[SourceConfig]

    def build(self, config: SourceConfig, /) -> Source:
        """The layout."""
        ...


@runtime_checkable
class RecognisingModule(SourceModule, Protocol):
    """A source that knows its layout when it sees one."""

    def recognises(self, root: Path, /) -> bool:
        """Whether a tree looks like it, judged by a few names."""
        ...

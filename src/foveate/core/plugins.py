"""What a registry holds of methods, tasks and sources: modules with these names in them.

`build` is nearly always the class itself. A module's own Config stands for the one that is written here: a
registry hands to `build` what came from `Config`, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

from foveate.core.types import Dataclass, Dimension, LabelFacts, Normalisation, Size

if TYPE_CHECKING:  # a list of names does without torch
    from foveate.core.contracts import Method, MethodConfig, Source, Task
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


class Look(Dataclass, Protocol):
    """What commands read of an appearance."""

    @property
    def normalisation(self) -> Normalisation:
        """The named step that a network's input goes through."""
        ...


class TaskConfig(Dataclass, Protocol):
    """What commands read of a task's Config."""

    @property
    def appearance(self) -> Look:
        """What is done to a window before the network sees it."""
        ...

    @property
    def name(self) -> str:
        """Which task."""
        ...

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> TaskConfig:
        """The defaults of a dimension and a size, for an encoder whose input went through that step."""
        ...


class TaskModule(Protocol):
    """A module of `foveate.tasks`.

    Attributes:
        Config: Its configuration.
        WANT: What its labels are: maps on the image's grid, or values of whole images.
    """

    Config: type[TaskConfig]
    WANT: Literal["maps", "values"]

    def settle(self, config: TaskConfig, facts: LabelFacts, /) -> TaskConfig:
        """The configuration with what the labels of the training images decide."""
        ...

    def stratum(self, config: TaskConfig, labels: Mapping[str, object], /) -> str:
        """What a split must mix evenly."""
        ...

    def encode(self, config: TaskConfig, labels: Mapping[str, object], /) -> dict[str, float]:
        """Labels of a whole image as numbers, NaN where they are missing."""
        ...

    def build(self, net: Network, config: TaskConfig, /) -> Task:
        """The task on a network."""
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

"""The methods and the tasks by name: our own modules, other packages' entry points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.core import config as parsing
from foveate.core.registry import ModuleRegistry
from foveate.core.types import Dimension, FoveateError, Size

METHODS = ModuleRegistry("method", "foveate.methods", "foveate.methods")
TASKS = ModuleRegistry("task", "foveate.tasks", "foveate.tasks")


def method_defaults(given: Mapping[str, Any], dimension: Dimension, size: Size) -> Any:  # noqa: ANN401
    """The Config of the method that was named, around that of its base where it wraps one."""
    name = str(given.get("method.name", "pcrlv2"))
    config = METHODS[name].Config.preset(dimension, size)
    if not hasattr(config, "base"):
        return config
    inner = str(given.get("method.base.name", config.default_base))
    accepted = base_names()
    if inner not in accepted:
        raise FoveateError(f"--method.base {inner}: accepted for {name} are {', '.join(accepted)}.")
    return config.around(METHODS[inner].Config.preset(dimension, size))


def base_names() -> list[str]:
    """Methods that another can be put around: those that wrap none themselves."""
    every = METHODS.others("")  # a package that cannot be loaded must not stop the rest
    return [name for name, method in every.items() if "base" not in parsing.field_names(method.Config)]

"""The methods and the tasks by name: our own modules, other packages' entry points."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.core.contracts import MethodConfig
from foveate.core.plugins import MethodModule
from foveate.core.registry import ModuleRegistry
from foveate.core.tasks import TaskConfig, TaskModule
from foveate.core.types import Dimension, FoveateError, Size

METHODS: ModuleRegistry[MethodModule] = ModuleRegistry(
    "method", "foveate.methods", "foveate.methods", MethodConfig
)
TASKS: ModuleRegistry[TaskModule] = ModuleRegistry("task", "foveate.tasks", "foveate.tasks", TaskConfig)


def method_defaults(given: Mapping[str, Any], dimension: Dimension, size: Size) -> MethodConfig:
    """The Config of the method that was named, around that of its base where it wraps one."""
    name = str(given.get("method.name", "pcrlv2"))
    config = METHODS[name].Config.preset(dimension, size)
    if not config.default_base:
        return config
    inner = str(given.get("method.base.name", config.default_base))
    accepted = base_names()
    if inner not in accepted:
        raise FoveateError(f"--method.base {inner}: accepted for {name} are {', '.join(accepted)}.")
    return config.around(METHODS[inner].Config.preset(dimension, size))


def base_names() -> list[str]:
    """Methods that --method.base accepts: those that wrap no other."""
    every = METHODS.others("")  # a package that cannot be loaded must not stop the rest
    return [name for name, method in every.items() if not method.Config.default_base]


def described(name: str, method: MethodModule) -> list[str]:
    """Lines about a method: its summary, its views in 3D and what it exports."""
    first = (method.__doc__ or "not described").strip().splitlines()[0]
    preset = method_defaults({"method.name": name}, 3, "paper")
    needs = [f"{spec.count} {crop} of {list(spec.grid)}" for crop, spec in preset.crops.items()]
    exports = " and ".join(preset.exports)
    return [f"{name:<22}{first}", f"{'':<22}views in 3D: {', '.join(needs)}; exports: {exports}"]


def list_own_methods() -> list[str]:
    """The methods of this package."""
    return [line for name in sorted(METHODS.own) for line in described(name, METHODS[name])]


def list_foreign_methods() -> list[str]:
    """The methods of other packages, and why some of them cannot be used."""
    rows = []
    for name in (name for name in METHODS if name not in METHODS.own):
        try:
            rows += described(name, METHODS[name])
        except FoveateError as error:
            rows += [f"{name:<22}{error}"]
    return rows

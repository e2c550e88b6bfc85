"""The dataset layouts by name: our own modules, other packages' entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.core import config as parsing
from foveate.core.contracts import Source
from foveate.core.plugins import RecognisingModule, SourceConfig, SourceModule
from foveate.core.registry import ModuleRegistry

SOURCES: ModuleRegistry[SourceModule] = ModuleRegistry("source", "foveate.sources", "foveate.data.sources")


def source_config(given: Mapping[str, Any]) -> SourceConfig:
    """The layout that dotted keys describe."""
    keys = {k.removeprefix("source."): v for k, v in given.items() if k.startswith("source.")}
    defaults = SOURCES[str(keys.get("name", "folder"))].Config()
    known = parsing.field_names(type(defaults))  # a wrong key is named by the second pass
    flags = {k: v for k, v in keys.items() if isinstance(v, str) and k in known}
    values = {k: v for k, v in keys.items() if not isinstance(v, str) and k in known}
    return parsing.parse(defaults, values, flags)


def build_source(config: SourceConfig) -> Source:
    """The source that a configuration names."""
    return SOURCES[config.name].build(config)


def recognised(root: Path) -> list[str]:
    """Names of the special layouts that a tree looks like, judged by a few names and no pixel."""
    modules = {name: SOURCES[name] for name in SOURCES.own}
    knowing = {name: each for name, each in modules.items() if isinstance(each, RecognisingModule)}
    return sorted(name for name, each in knowing.items() if root.is_dir() and each.recognises(root))

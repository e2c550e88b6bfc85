"""The dataset layouts by name: our own modules, other packages' entry points."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from foveate.core import config as parsing
from foveate.core.contracts import Source
from foveate.core.registry import ModuleRegistry

SOURCES: ModuleRegistry[Any] = ModuleRegistry("source", "foveate.sources", "foveate.data.sources")


def source_config(given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - the Config of the named source
    """The layout that dotted keys describe."""
    keys = {k.removeprefix("source."): v for k, v in given.items() if k.startswith("source.")}
    defaults = SOURCES[str(keys.get("name", "folder"))].Config()
    known = parsing.field_names(type(defaults))  # a wrong key is named by the second pass
    flags = {k: v for k, v in keys.items() if isinstance(v, str) and k in known}
    values = {k: v for k, v in keys.items() if not isinstance(v, str) and k in known}
    return parsing.parse(defaults, values, flags)


def build_source(config: Any) -> Source:  # noqa: ANN401 - the Config of any source
    """The source that a configuration names."""
    source: Source = SOURCES[config.name].build(config)
    return source


def recognised(root: Path) -> list[str]:
    """Names of the special layouts that a tree looks like, judged by a few names and no pixel."""
    names = (name for name in SOURCES.own if hasattr(SOURCES[name], "recognises"))
    return sorted(name for name in names if root.is_dir() and SOURCES[name].recognises(root))

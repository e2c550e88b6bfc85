"""The dataset layouts by name: our own modules, other packages' entry points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.core.contracts import Source
from foveate.core.registry import ModuleRegistry

SOURCES = ModuleRegistry("source", "foveate.sources", "foveate.data.sources")


def build_source(config: Any) -> Source:  # noqa: ANN401 - the Config of any source
    """The source that a configuration names."""
    source: Source = SOURCES[config.name].build(config)
    return source


def recognised(root: Path) -> list[str]:
    """Names of the special layouts that a tree looks like, judged by a few names and no pixel."""
    names = (name for name in SOURCES.own if hasattr(SOURCES[name], "recognises"))
    return sorted(name for name in names if root.is_dir() and SOURCES[name].recognises(root))

"""`foveate methods`: what can be trained."""

from __future__ import annotations

from importlib.metadata import entry_points

from foveate.commands.methods.config import MethodsConfig
from foveate.core.types import Ending
from foveate.runtime.listing import OPEN, listing


def run_methods(_config: MethodsConfig) -> Ending:
    """Print the methods: ours from the listing that ships, and those of other packages."""
    print("\n".join(listing()["methods"]))
    if entry_points(group=OPEN["method"]):
        from foveate.runtime.registries import list_foreign_methods  # imports torch

        print("\n".join(list_foreign_methods()))
    return Ending.FINISHED

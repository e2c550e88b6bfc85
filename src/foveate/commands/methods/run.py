"""`foveate methods`: what can be trained."""

from __future__ import annotations

from dataclasses import fields

from foveate.core.types import CropSpec
from foveate.runtime.registries import METHODS, method_defaults


def list_methods() -> str:
    """Every method with the first line of its page, what it looks at and what it leaves behind."""
    rows = []
    for name, method in sorted(METHODS.others("").items()):
        first = (method.__doc__ or "not described").strip().splitlines()[0]
        preset = method_defaults({"method.name": name}, 3, "paper")
        looked = getattr(preset, "base", preset)
        specs = {f.name.removesuffix("_crops"): getattr(looked, f.name) for f in fields(looked)}
        needs = [f"{s.count} {k} of {list(s.grid)}" for k, s in specs.items() if isinstance(s, CropSpec)]
        exports = " and ".join(getattr(preset, "exports", ())) or "not said"
        rows += [f"{name:<22}{first}", f"{'':<22}views in 3D: {', '.join(needs)}; exports: {exports}"]
    broken = [name for name in METHODS if name not in METHODS.others("")]
    rows += [f"{name:<22}cannot be loaded; --method {name} says why" for name in broken]
    return "\n".join(rows)

"""The configuration of the list of methods: it has no keys."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class MethodsConfig:
    """Nothing can be set."""


SPEC = Spec(name="methods", defaults=lambda _given: MethodsConfig(), required={})

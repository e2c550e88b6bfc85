"""The configuration of the look at a machine."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Where to look.

    Attributes:
        folder: Where runs and caches will be written. The report has its free space, not its path.
    """

    folder: str = "."


SPEC = Spec(name="doctor", defaults=lambda _given: DoctorConfig(), required={})

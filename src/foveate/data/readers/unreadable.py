"""An image that cannot be used, with the reason: what decoding raises."""

from __future__ import annotations

from pathlib import Path
from typing import final

from foveate.core.types import FoveateError


@final
class UnreadableImageError(FoveateError):
    """An image that cannot be used; `reason` holds no name, path or header text."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path} cannot be used: {reason}.")
        self.path, self.reason = path, reason

    def __reduce__(self) -> tuple[type[UnreadableImageError], tuple[Path, str]]:
        return type(self), (self.path, self.reason)

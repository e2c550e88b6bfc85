"""The configuration of a live page."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.core.types import FoveateError
from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """One live page.

    Attributes:
        run: Folder that pretrain, finetune, evaluate, compare or embed writes or wrote.
        port: Port on 127.0.0.1; 0: any free one.
        with_images: Show pixels: previews, slices, pictures of cases.
    """

    run: str = ""
    port: int = 0
    with_images: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise FoveateError(f"--port {self.port}: accepted are 0 (any free one) to 65535.")


SPEC = Spec(
    name="watch",
    defaults=lambda _given: WatchConfig(),
    required={"run": "RUN"},
    examples=("foveate watch RUN",),
)

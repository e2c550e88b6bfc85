"""The configuration of a report."""

from __future__ import annotations

from dataclasses import dataclass

from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """One report.

    Attributes:
        run: Folders that pretrain, finetune, evaluate, compare or embed wrote, finished or not.
        out: The page, one HTML file.
        with_images: Show pixels: previews, slices, pictures of cases.
    """

    run: tuple[str, ...] | str = ()
    out: str = "report.html"
    with_images: bool = True

    @property
    def runs(self) -> tuple[str, ...]:
        """All of them."""
        return (self.run,) if isinstance(self.run, str) else self.run


SPEC = Spec(
    name="report",
    defaults=lambda _given: ReportConfig(),
    required={"run": "RUN"},
    examples=(
        "foveate report RUN --out report.html",
        "foveate report FIRST SECOND --out both.html",
    ),
)

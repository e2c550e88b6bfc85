"""Write the page of one folder or several."""

from __future__ import annotations

from pathlib import Path

from foveate.commands.report.config import ReportConfig
from foveate.core.types import Ending, FoveateError
from foveate.runtime.report.build import build_page
from foveate.train.logging import say


def run_report(config: ReportConfig) -> Ending:
    """Write the page, and say where it is."""
    out = Path(config.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise FoveateError(f"--out {out}: accepted is a file whose name ends in .html.")
    page = build_page([Path(each) for each in config.runs], images=config.with_images)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        page.write(out)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    say(f"report: {out} ({out.stat().st_size / 1e6:.1f} MB)")
    return Ending.FINISHED

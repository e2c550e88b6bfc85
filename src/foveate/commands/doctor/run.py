"""`foveate doctor`: a page to read, and to send with a report of a fault."""

from __future__ import annotations

import platform
from pathlib import Path

from foveate.commands.doctor.config import DoctorConfig
from foveate.commands.doctor.libraries import asked_for, core_lines, extra_lines, installed
from foveate.core.types import Ending


def run_doctor(config: DoctorConfig) -> Ending:
    """Print it; the exit code says whether a package is missing without which foveate does not run."""
    wanted = asked_for()
    missing = [name for name in wanted[""] if not installed(name)]
    system = f"{platform.system()} {platform.machine()}"
    print(f"foveate {installed('foveate')}, Python {platform.python_version()}, {system}")
    advice = [f"missing: {', '.join(missing)}; pip install foveate"] if missing else []
    if "torch" not in missing:
        advice += show_machine(Path(config.folder))
    show("packages", core_lines(wanted))
    show("extras", extra_lines(wanted))
    show("to do", advice or ["nothing that can be seen from here"])
    print("\nNo name, path, address or image is in this text: it can be sent with a report of a fault.")
    return Ending.INCOMPLETE if missing else Ending.FINISHED


def show_machine(folder: Path) -> list[str]:
    """Print what the machine has; what there is to do about it."""
    from foveate.commands.doctor import machine  # imports torch, which may be what is missing

    found = [machine.cpus(), machine.memory(), *machine.disks(folder), *machine.safely(machine.gpus, "GPU")]
    show("machine", [finding.line for finding in found])
    return [f"{finding.line}: {finding.advice}" for finding in found if finding.advice]


def show(title: str, lines: list[str]) -> None:
    """A section."""
    print(f"\n{title}")
    for line in lines:
        print(f"  {line}")

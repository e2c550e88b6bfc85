"""One of several processes: `python -m foveate.runtime.rank MODULE:FUNCTION FOLDER`, started by `launch`."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name

from foveate.core.files import refusals_explained
from foveate.core.types import Ending, FoveateError, LostPeerError
from foveate.runtime.launch import ExitMessage, write_exit_message
from foveate.runtime.processes import requeue_before_the_first_step

FIXABLE = 2


def main(entry: str, scratch: Path) -> int:
    """Do this process's share of the run in `scratch`, and write an error there for the starting process.

    Args:
        entry: "module:function" of the command; the function takes the file of the configuration.
        scratch: The folder that the starting process shares with all.
    """
    follow_starter()
    requeue_before_the_first_step()
    run: Callable[[Path], Ending] = resolve_name(entry)
    try:
        with refusals_explained("A process of this run"):
            return run(scratch / "config.yaml").value
    except FoveateError as error:
        message = ExitMessage(lost=isinstance(error, LostPeerError), text=str(error))
        write_exit_message(scratch, int(os.environ["LOCAL_RANK"]), message)
        return FIXABLE


def follow_starter() -> None:
    """Stop as on SIGTERM when the process that started this one is gone: its end of the pipe closes."""

    def follow() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock would still be held at the end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

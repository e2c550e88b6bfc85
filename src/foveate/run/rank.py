"""One of several processes: `python -m foveate.run.rank VERB FOLDER`, as `foveate.run.launch` starts it."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

from foveate.core.types import Ending, FoveateError, LostPeerError
from foveate.run.launch import Words, write_words
from foveate.run.processes import requeue_before_the_first_step

MENDABLE = 2


def main(verb: str, scratch: Path) -> int:
    """Run a verb with the configuration in `scratch`, and leave there what went wrong."""
    follow_starter()
    requeue_before_the_first_step()
    try:
        return run(verb, scratch / "config.yaml").value
    except FoveateError as error:
        words = Words(lost=isinstance(error, LostPeerError), text=str(error))
        write_words(scratch, int(os.environ["LOCAL_RANK"]), words)
        return MENDABLE


def run(verb: str, path: Path) -> Ending:
    """The verb on this process's share."""
    from foveate.core.config import read_yaml

    if verb == "pretrain":
        from foveate.run import settings
        from foveate.run.pretrain import pretrain

        return pretrain(settings.resolve(read_yaml(path), {}))
    from foveate.run import finetune_settings
    from foveate.run.finetune import finetune

    return finetune(finetune_settings.resolve(read_yaml(path), {}))


def follow_starter() -> None:
    """Stop as on SIGTERM when the process that started this one is gone: its end of the pipe closes."""

    def follow() -> None:
        os.read(0, 1)  # not sys.stdin, whose lock would still be held at the end
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))

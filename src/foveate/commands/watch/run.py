"""Serve the page of a folder on loopback until Ctrl-C; nothing is written."""

from __future__ import annotations

from pathlib import Path

from foveate.commands.watch.config import WatchConfig
from foveate.commands.watch.server import Server
from foveate.core.types import Ending, FoveateError
from foveate.runtime.report.build import build_page
from foveate.train.logging import say

HINT = (
    "From another machine: ssh -L {0}:127.0.0.1:{0} HOST, then open this address there. Whoever has the "
    "address sees the page; Ctrl-C ends it and leaves nothing behind."
)


def run_watch(config: WatchConfig) -> Ending:
    """Serve until Ctrl-C."""
    folder = Path(config.run)
    build_page([folder], images=config.with_images)  # what is no run is refused before anything is served
    try:
        server = Server(folder, config.port, images=config.with_images)
    except OSError as error:
        raise FoveateError(f"--port {config.port} cannot be used: {error.strerror}.") from None
    try:
        say(f"{server.address}\n{HINT.format(server.server_port)}", lines=True)
        server.serve_forever(poll_interval=0.2)
    except KeyboardInterrupt:
        say("ended")
    finally:
        server.server_close()
    return Ending.FINISHED

"""The server of a live page: loopback only, and only for who knows its token."""

from __future__ import annotations

import json
import secrets
from hashlib import blake2b
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import final

from foveate.core.types import FoveateError
from foveate.runtime.report.build import build_page

HOST = "127.0.0.1"
NAMES = (HOST, "localhost")  # by which a browser may ask, through a tunnel as well
LOOKED_AT = (".jsonl", ".json", ".csv", ".md", ".log", ".png", ".npz", ".yaml", ".npy")


@final
class Server(ThreadingHTTPServer):
    """Answers with the page of a folder, built anew when the folder has changed."""

    daemon_threads = True

    def __init__(self, folder: Path, port: int, *, images: bool) -> None:
        self.folder, self.images, self.token = folder, images, secrets.token_urlsafe(16)
        self.lock, self.known = Lock(), ("", b"")
        super().__init__((HOST, port), Handler)

    @property
    def address(self) -> str:
        """What a browser opens."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def page(self) -> bytes:
        """The page as the folder is now."""
        with self.lock:
            version = version_of(self.folder)
            if version != self.known[0]:
                page = build_page([self.folder], images=self.images, live=True)
                self.known = version, "".join(page.parts()).encode()
            return self.known[1]


@final
class Handler(BaseHTTPRequestHandler):
    """Three paths below the token; anything else is not found."""

    server: Server

    def do_GET(self) -> None:
        """Answer with the page, or with what tells whether it has changed."""
        name = (self.headers.get("Host") or "").rpartition(":")[0]
        _, token, what = [*self.path.split("/", 2), "", ""][:3]
        if name not in NAMES or not secrets.compare_digest(token.encode(), self.server.token.encode()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            if what == "state":
                self.answer(
                    "application/json", json.dumps({"version": version_of(self.server.folder)}).encode()
                )
            elif what in ("", "page"):
                self.answer("text/html; charset=utf-8", self.server.page())
            else:
                self.send_error(HTTPStatus.NOT_FOUND)
        except (FoveateError, OSError):  # the folder is being moved or removed
            self.send_error(HTTPStatus.SERVICE_UNAVAILABLE)

    def answer(self, kind: str, content: bytes) -> None:
        """Send a whole answer that nobody keeps or passes on."""
        self.send_response(HTTPStatus.OK)
        for header, value in {
            "Content-Type": kind,
            "Content-Length": str(len(content)),
            "Cache-Control": "no-store",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }.items():
            self.send_header(header, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing of requests: they hold the token."""


def version_of(folder: Path) -> str:
    """A word that changes when a file that the page shows does."""
    found = blake2b(digest_size=8)
    for path in sorted(folder.rglob("*")):
        if path.suffix in LOOKED_AT and "private" not in path.parts:
            try:
                said = path.stat()
            except OSError:  # replaced meanwhile
                continue
            found.update(f"{path} {said.st_size} {said.st_mtime_ns}\n".encode())
    return found.hexdigest()

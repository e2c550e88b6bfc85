"""Decodes images in a process of its own, which may die, hang or ask for all memory without harm to the run.

Decoders written in C read past buffers on damaged files, and a few bytes may ask for terabytes. So a child
process reads, under a limit of memory and of time; whatever ends it becomes a reason for that one image, and
the next image finds a new child. The array comes back through a pipe. A child that nobody asks for
`IDLE_SECONDS` ends by itself.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from io import FileIO
from pathlib import Path
from threading import Event, RLock, Timer
from typing import Any, final

import numpy as np

from foveate.core.types import FoveateError, Json, Reading, Record, Region, Volume
from foveate.data.decoding.messages import IDLE_EXIT, LENGTH, fill, write
from foveate.data.readers.unreadable import UnreadableImageError

SINGLE = Reading()  # one number per voxel
TIMEOUT_SECONDS = 600.0
LEAST_MEMORY = 2 << 30
START = "import sys; from foveate.data.decoding.child import serve; serve(*map(int, sys.argv[1:]))"


def memory_limit() -> int:
    """Half of the machine's memory, at least 2 GiB."""
    if os.name != "posix":
        return LEAST_MEMORY
    return max(LEAST_MEMORY, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@final
class FaultyReaderError(RuntimeError):
    """A package is missing or a reader is wrong: no file's fault."""


@final
class _DeadError(Exception):
    """The child ended before it answered."""


@final
class Decoder:
    """One child process, started when the first image is asked for and again whenever it died.

    Threads may share it: it answers one after the other.
    """

    def __init__(self, memory_bytes: int | None = None, timeout_s: float = TIMEOUT_SECONDS) -> None:
        self.memory_bytes, self.timeout_s = memory_bytes or memory_limit(), timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._turn = RLock()

    def read(
        self,
        files: tuple[Path, ...],
        *,
        as_map: bool = False,
        flat: bool = False,
        root: Path | None = None,
        reading: Reading = SINGLE,
    ) -> Volume:
        """What `formats.read_files` returns for these files.

        Raises:
            UnreadableImageError: with a reason, which may be the child's death.
            FoveateError: when no child can be started.
        """
        folder = os.fspath(root) if root else ""
        how: dict[str, Json] = {"as_map": as_map, "flat": flat, "root": folder, "reading": asdict(reading)}
        return self._answered(files, how)

    def paint(self, regions: Sequence[Region], image: Volume) -> Volume:
        """What `formats.read_regions` returns for these structures on the grid of an image.

        Raises:
            UnreadableImageError: with a reason, which may be the child's death.
            FoveateError: when no child can be started.
        """
        files = tuple(dict.fromkeys(region.file for region in regions))
        grid = {
            "shape": image.array.shape[1:],
            "affine": image.affine.tolist(),
            "orientation": image.orientation,
        }
        painted = [(value, files.index(file), number) for value, file, number in regions]
        return self._answered(files, {"regions": painted, "grid": grid})

    def _answered(self, files: tuple[Path, ...], asked: Mapping[str, Json]) -> Volume:
        """The answer to one request; one at a time."""
        names = [os.path.abspath(path) for path in files]  # noqa: PTH100 - the child may be in another folder
        request = json.dumps({"files": names, **asked}).encode()
        with self._turn:
            return self._read(request, files[0])

    def _read(self, request: bytes, path: Path) -> Volume:
        """The answer to one request, of the child that is there or of the next."""
        process = self._started()
        expired = Event()
        timer = Timer(self.timeout_s, _end, (process, expired))
        timer.start()
        try:
            return self._ask(process, request, path)
        except _DeadError:
            reason = self._epitaph(process, timed_out=expired.is_set())
        finally:
            timer.cancel()
        if not reason:  # it had just gone home
            return self._read(request, path)
        raise UnreadableImageError(path, reason)

    def close(self) -> None:
        """Ends the child, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is not None and self._process.poll() is None:
            return self._process
        self.close()
        self._process = _start(self.memory_bytes, int(2 * self.timeout_s) + 1)
        try:
            _receive(self._process)
        except _DeadError:
            code = self._process.wait()
            raise FoveateError(
                f"The process that decodes images does not start (exit code {code})."
            ) from None
        return self._process

    def _ask(self, process: subprocess.Popen[bytes], request: bytes, path: Path) -> Volume:
        try:
            _write_message(process, request)
        except OSError:
            raise _DeadError from None
        answer = _receive(process)
        if reason := answer.get("reason"):
            raise UnreadableImageError(path, reason)
        if fault := answer.get("fault"):
            raise FaultyReaderError(f"A reader is faulty: {fault}")
        return _volume(process, answer)

    def _epitaph(self, process: subprocess.Popen[bytes], *, timed_out: bool) -> str:
        """Why the child ended, "" where it only was idle."""
        code = process.wait()
        self.close()
        if timed_out:
            return f"it takes more than {self.timeout_s:g} s to decode"
        if code == IDLE_EXIT:
            return ""
        died = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"it ended the process that decodes it ({died})"


def _start(memory_bytes: int, alarm_s: int) -> subprocess.Popen[bytes]:
    package = str(Path(__file__).parents[3])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.Popen(
        [sys.executable, "-c", START, str(memory_bytes), str(alarm_s)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )


def _end(process: subprocess.Popen[bytes], expired: Event) -> None:
    expired.set()
    process.kill()


def _write_message(process: subprocess.Popen[bytes], message: bytes) -> None:
    """Sends one message, its length first."""
    assert isinstance(process.stdin, FileIO)  # opened as an unbuffered pipe
    write(process.stdin, memoryview(LENGTH.pack(len(message)) + message))


def _receive(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    (length,) = LENGTH.unpack(_bytes(process, LENGTH.size))
    answer: dict[str, Any] = json.loads(_bytes(process, length))
    return answer


def _bytes(process: subprocess.Popen[bytes], count: int) -> bytes:
    buffer = bytearray(count)
    _fill_or_die(process, memoryview(buffer))
    return bytes(buffer)


def _fill_or_die(process: subprocess.Popen[bytes], buffer: memoryview) -> None:
    assert isinstance(process.stdout, FileIO)  # opened as an unbuffered pipe
    if fill(process.stdout, buffer) < len(buffer):
        raise _DeadError


def _volume(process: subprocess.Popen[bytes], answer: dict[str, Any]) -> Volume:
    array = np.empty(answer["shape"], dtype=answer["dtype"])
    _fill_or_die(process, array.data.cast("B"))
    return Volume(
        array=array,
        affine=np.asarray(answer["affine"], dtype=np.float64),
        spacing_mm=tuple(answer["spacing_mm"]),
        bits=answer["bits"],
        orientation=tuple((int(axis), int(flip)) for axis, flip in answer["orientation"]),
        modality=answer["modality"],
        window=answer["window"] and (answer["window"][0], answer["window"][1]),
        colour=answer["colour"],
    )


_shared: dict[int, Decoder] = {}  # by process: a forked worker must not talk to its parent's child


def decode(record: Record, reading: Reading = SINGLE) -> Volume:
    """The image of a record, read by this process's own child; one with maps of its own is no label.

    Raises:
        UnreadableImageError: with a reason, for anything that pre-training could not learn from.
    """
    return _decoded(record, reading, flat=bool(record.maps))


def decode_flat(record: Record, reading: Reading = SINGLE) -> Volume:
    """The image of a record, whatever its values look like.

    Raises:
        UnreadableImageError: with a reason, for anything else that pre-training could not learn from.
    """
    return _decoded(record, reading, flat=True)


def _decoded(record: Record, reading: Reading, *, flat: bool) -> Volume:
    if record.point is not None:
        reading = replace(reading, fourth_axis="images", point=record.point)
    files = record.files or (record.path,)
    return shared_decoder().read(files, flat=flat, root=record.root, reading=reading)


def decode_map(path: Path, root: Path | None = None) -> Volume:
    """A map of labels, which may hold one value only.

    Raises:
        UnreadableImageError: with a reason.
    """
    return shared_decoder().read((path,), as_map=True, root=root)


def decode_regions(regions: Sequence[Region], image: Volume) -> Volume:
    """A map of labels painted from structures, on the grid of their image.

    Raises:
        UnreadableImageError: with a reason.
    """
    return shared_decoder().paint(regions, image)


def shared_decoder() -> Decoder:
    """The decoder of this process, made on first use and closed at its end."""
    pid = os.getpid()
    if pid not in _shared:
        _shared.clear()
        _shared[pid] = Decoder()
        atexit.register(_shared[pid].close)
    return _shared[pid]

"""The child process of `data.decoding`: reads what it is asked for or says why not, and ends when idle."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import traceback
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from foveate.core.processes.signals import STOPPING
from foveate.core.types import Array, Reading, Region, Volume
from foveate.data.decoding.messages import IDLE_EXIT, LENGTH, fill, send
from foveate.data.readers.formats import read_files, read_regions
from foveate.data.readers.unreadable import UnreadableImageError

IDLE_SECONDS = 60.0


def serve(memory_bytes: int, alarm_s: int) -> None:
    """Answers requests on the standard streams; `alarm_s` ends a child that hangs when its parent is gone."""
    requests = os.fdopen(0, "rb", buffering=0)
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # libraries that print do not reach the answers
    for number in STOPPING:  # the parent decides when to stop; a death would be laid at the file's door
        signal.signal(number, signal.SIG_IGN)
    limit_memory(memory_bytes)
    send(answers, {"ready": True})
    while (request := _request(requests)) is not None:
        _set_alarm(alarm_s)
        _answer(answers, request)
        _set_alarm(0)


def limit_memory(memory_bytes: int) -> None:
    """Makes allocations beyond a limit fail; counts memory of this process's own, not mapped libraries."""
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    soft = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _set_alarm(seconds: int) -> None:
    if os.name == "posix":
        signal.alarm(seconds)  # the default action ends the process, even inside a library


def _request(stream: FileIO) -> dict[str, Any] | None:
    if os.name == "posix" and not select.select([stream], [], [], IDLE_SECONDS)[0]:
        sys.exit(IDLE_EXIT)
    length = bytearray(LENGTH.size)
    if fill(stream, memoryview(length)) < LENGTH.size:
        return None
    message = bytearray(LENGTH.unpack(length)[0])
    fill(stream, memoryview(message))
    request: dict[str, Any] = json.loads(message)
    return request


def _answer(answers: BinaryIO, request: dict[str, Any]) -> None:
    try:
        volume = _read(request)
        array = np.ascontiguousarray(volume.array)
    except UnreadableImageError as error:
        send(answers, {"reason": error.reason})
    except MemoryError:
        send(answers, {"reason": "it does not fit into memory"})
    except (ImportError, NameError):  # ours, not the file's
        send(answers, {"fault": traceback.format_exc(limit=-3)})
    else:
        send(answers, _header(volume, array), array)


def _read(request: dict[str, Any]) -> Volume:
    """An image, or a map that is painted from structures."""
    files = tuple(Path(name) for name in request["files"])
    if "regions" in request:
        regions = [Region(value, files[k], number) for value, k, number in request["regions"]]
        return read_regions(files, regions, **request["grid"])
    root, reading = Path(request["root"]) if request["root"] else None, Reading(**request["reading"])
    return read_files(files, as_map=request["as_map"], flat=request["flat"], root=root, reading=reading)


def _header(volume: Volume, array: Array) -> dict[str, Any]:
    return {
        "shape": array.shape,
        "dtype": array.dtype.str,
        "affine": volume.affine.tolist(),
        "spacing_mm": volume.spacing_mm,
        "bits": volume.bits,
        "orientation": volume.orientation,
        "modality": volume.modality,
        "window": volume.window,
        "colour": volume.colour,
    }

"""Reads a hostile file in two places that differ in their canaries only, so that what is foreign shows.

Both places hold the same hostile file at the same relative path. Around it everything else differs: the
neighbouring images, the files in the folder next door, and what fresh memory of the decoding process holds
(on Linux `MALLOC_PERTURB_` fills it with another byte; a neighbour of the same kind is decoded in the same
process right before). A decoder that uses the file's own bytes and nothing else gives the same voxels in
both, however it turns, scales or loses them. A voxel that differs is therefore foreign, and no damage can
make one by chance. What the method does not see is foreign bytes that are equal in both places: zeros.
Opening a file next door is seen by itself, through inotify, even when no voxel comes of it.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Protocol

import numpy as np

from foveate.core.types import Record, Volume
from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource
from hostile_text import STEM, Case
from specimens import Specimen, drawn, encoded, specimens
from specimens_dicom import dicom_specimens

MEMORY_BYTES, TIMEOUT_SECONDS = 1 << 30, 10.0
SECRETS = ("secret", "Doe", "Jane", STEM, "outside", "near-", "Traceback")
NEAR = "near-"
OPENED = 0x20  # IN_OPEN
CONTAINED = ("takes more than", "ended the process", "fit into memory")  # may hit one of two readings alone


class Reads(Protocol):
    """What decodes; `Decoder`, or one that a test has spoiled."""

    def read(self, files: tuple[Path, ...], *, root: Path | None = None) -> Volume:
        """The image of some files."""

    def close(self) -> None:
        """Ends it."""


@dataclass(slots=True)
class Reading:
    """What became of one image in one place."""

    reason: str = ""  # why it was refused
    volume: Volume | None = None
    broken: str = ""  # the rule of reasons and values that it broke
    seconds: float = 0.0


class Watch:
    """Counts openings of the files in a folder; where there is no inotify it sees nothing."""

    def __init__(self, folder: Path) -> None:
        self._descriptor = -1
        if sys.platform == "linux":
            library = ctypes.CDLL(None)
            self._descriptor = library.inotify_init1(os.O_NONBLOCK)
            library.inotify_add_watch(self._descriptor, os.fsencode(folder), OPENED)

    def seen(self) -> bool:
        """Whether a file was opened since the last question."""
        try:
            return self._descriptor >= 0 and bool(os.read(self._descriptor, 1 << 16))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Ends the watch."""
        if self._descriptor >= 0:
            os.close(self._descriptor)


class Arena:
    """One of the two places: `data` with neighbours, `outside` next door, and a decoder."""

    def __init__(self, folder: Path, seed: int, decoder: Reads | None = None) -> None:
        self.data, self.outside, self._fill = folder / "data", folder / "outside", seed
        self.decoder: Reads = decoder or Decoder(memory_bytes=MEMORY_BYTES, timeout_s=TIMEOUT_SECONDS)
        self.near = {**specimens(NEAR, drawn(seed)), **dicom_specimens(drawn(seed))}
        for kind, specimen in self.near.items():
            write(self.data, f"{NEAR}{kind}", specimen.files)
        _write_outside(self.outside, seed + 1000)
        self.watch = Watch(self.outside)

    def close(self) -> None:
        """Ends the decoder."""
        self.decoder.close()
        self.watch.close()

    def valid_neighbour(self, kind: str) -> str:
        """Decodes the neighbour of a kind, so that memory holds its voxels; what was wrong with it."""
        with self._memory_filled():
            return wrong_voxels(self.decoder, self.near[kind], self.data, f"{NEAR}{kind}")

    def read(self, case: Case, *, is_series: bool) -> tuple[list[Reading], bool]:
        """What becomes of a hostile file, and whether a file next door was opened meanwhile."""
        folder = self.data / "series" if is_series else self.data
        self._place(case, folder)
        self.watch.seen()
        try:
            return self._readings(
                folder if is_series else folder / f"{STEM}{next(iter(case.files))}"
            ), self.watch.seen()
        finally:
            for path in folder.glob(f"{STEM}*"):
                path.unlink()

    def _place(self, case: Case, folder: Path) -> None:
        outside = os.fsencode(self.outside)
        write(folder, STEM, {end: data.replace(b"@OUTSIDE@", outside) for end, data in case.files.items()})
        for ending, target in case.links.items():
            (folder / f"{STEM}{ending}").symlink_to(target.replace("@OUTSIDE@", str(self.outside)))
        for ending in case.pipes:
            os.mkfifo(folder / f"{STEM}{ending}")

    def _readings(self, path: Path) -> list[Reading]:
        start = time.monotonic()
        try:
            with _alarm():
                records = list(FolderSource().records(path))
        except Exception as error:
            return [
                Reading(broken=f"listing: {type(error).__name__}: {error}", seconds=time.monotonic() - start)
            ]
        listing = time.monotonic() - start
        readings = [self._reading(record) for record in records]
        readings[0].seconds += listing
        return readings

    def _reading(self, record: Record) -> Reading:
        if record.role != "image":
            return Reading(record.evidence, broken=_fault_of(record.evidence))
        start = time.monotonic()
        found = Reading()
        try:
            with self._memory_filled():
                found.volume = self.decoder.read(record.files or (record.path,), root=self.data)
            found.broken = _fault_in(found.volume)
        except UnreadableImageError as error:
            found.reason, found.broken = error.reason, _fault_of(error.reason)
        except Exception as error:
            found.broken = f"{type(error).__name__}: {error}"
        found.seconds = time.monotonic() - start
        return found

    @contextmanager
    def _memory_filled(self) -> Iterator[None]:
        """The C library of a child that starts now fills what it allocates."""
        os.environ["MALLOC_PERTURB_"] = str(self._fill)
        try:
            yield
        finally:
            del os.environ["MALLOC_PERTURB_"]


def write(folder: Path, stem: str, files: dict[str, bytes]) -> None:
    """The files of an image."""
    folder.mkdir(parents=True, exist_ok=True)
    for ending, data in files.items():
        (folder / f"{stem}{ending}").write_bytes(data)


def wrong_voxels(decoder: Reads, specimen: Specimen, folder: Path, stem: str) -> str:
    """Why a valid image did not give its voxels; "" where it did, or where it may be refused."""
    endings = tuple(specimen.files) if specimen.is_series else (specimen.ending,)
    try:
        volume = decoder.read(tuple(folder / f"{stem}{ending}" for ending in endings), root=folder)
    except UnreadableImageError as error:
        return f"refused: {error.reason}" if specimen.must_be_read else ""
    return "" if np.array_equal(volume.array, specimen.voxels) else "other voxels"


def _write_outside(folder: Path, seed: int) -> None:
    """The same voxels in every form that a header may point to."""
    own = specimens("x", drawn(seed))
    raw = drawn(seed).volume.tobytes("F")
    packed = encoded(raw)
    write(
        folder,
        "x",
        {".raw": raw, **{f"{i}.raw": raw for i in range(1, 9)}, ".zraw": own["mhd-zlib"].files[".zraw"]},
    )
    write(
        folder,
        "x",
        {
            ".raw.gz": packed["gzip"],
            ".raw.bz2": packed["bzip2"],
            ".hex": packed["hex"],
            ".txt": packed["text"],
        },
    )
    write(folder, "x", own["mha"].files)


def _fault_of(text: str) -> str:
    """What is wrong with a reason: it is empty, of several lines, or says what it must not."""
    if not text or len(text.splitlines()) != 1 or any(word in text for word in SECRETS):
        return f"the reason {text!r}"
    return ""


def _fault_in(volume: Volume) -> str:
    if not (volume.array.ndim in {3, 4} and volume.array.size and np.isfinite(volume.array).all()):
        return f"shape {volume.array.shape}, or values that are not finite"
    if not (np.isfinite(volume.affine).all() and min(volume.spacing_mm) > 0):
        return f"spacing {volume.spacing_mm}, affine {volume.affine.tolist()}"
    return ""


def foreign_voxels(first: Reading, second: Reading) -> int:
    """How many voxels are not the same in both places."""
    if first.volume is None or second.volume is None:
        return 0
    one, other = first.volume.array, second.volume.array
    if one.shape != other.shape or one.dtype != other.dtype:
        return one.size
    return int(np.count_nonzero(one != other))


def disagreement(first: Reading, second: Reading) -> str:
    """How two readings differ otherwise: refused once, for another reason, or at another place in space."""
    if any(text in reading.reason for reading in (first, second) for text in CONTAINED):
        return ""
    if (first.volume is None) != (second.volume is None) or first.reason != second.reason:
        return f"{first.reason or 'an image'!r} here, {second.reason or 'an image'!r} there"
    if first.volume and second.volume and not np.array_equal(first.volume.affine, second.volume.affine):
        return "two affines"
    return ""


@contextmanager
def _alarm() -> Iterator[None]:
    """Ends what takes too long in this process."""

    def ring(_number: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"more than {TIMEOUT_SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(int(TIMEOUT_SECONDS) + 1)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)

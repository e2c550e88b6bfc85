"""Decodes every image once into a cache of memory-mapped arrays; interrupted, it goes on where it was."""

from __future__ import annotations

import errno
import io
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import numpy as np

from foveate.core.types import Array, FoveateError, Record, Volume
from foveate.data.cache import Cache, CachedVolume, Reject
from foveate.data.channels import image_files, read_image, voxel_hash
from foveate.data.decoding import decode
from foveate.data.encoding import Encoded, Histogram, encode, histogram
from foveate.data.formats import UnreadableImageError
from foveate.data.index import (
    VOLUMES,
    CacheEntry,
    MapEntry,
    append_entry,
    read_entries,
    read_salt,
    replace_file,
    salted_id,
    write_rejects,
)
from foveate.data.maps import UnusableMapError, places_of, read_map_of

FORMAT_VERSION = 2
PROFILE = "prepare.json"
STALE_SECONDS = 3600  # a temporary file this old belongs to a process that was killed

_Outcome = CacheEntry | str  # a cached volume, or the reason why there is none
_Work = Callable[[Record], _Outcome]


class _UnusableError(Exception):
    """Why a decoded image would teach nothing under this window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PrepareConfig:
    """How intensities are mapped to [0, 1] when a volume is read.

    Attributes:
        window: `percentiles` takes the ends of the window from each image's own values, which suits MR,
            radiographs and mixed data; `range` uses `intensity_range` for all, which suits CT.
        percentiles: The two percentiles of an image's voxels that become 0 and 1.
        intensity_range: The two source values that become 0 and 1 with `window: range`, for instance
            (-1000.0, 1000.0) in Hounsfield units.
    """

    window: Literal["percentiles", "range"] = "percentiles"
    percentiles: tuple[float, float] = (0.5, 99.5)
    intensity_range: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise FoveateError(
                f"prepare.percentiles is {self.percentiles}; it takes two rising numbers between 0 and 100."
            )
        if not self.intensity_range[0] < self.intensity_range[1]:
            raise FoveateError(f"prepare.intensity_range is {self.intensity_range}; its numbers must rise.")


def cache_folder(beside: Path, data: Path, config: PrepareConfig) -> Path:
    """Where the cache of `data` under `config` lives: `beside`/foveate-cache/<12 hex digits>."""
    text = f"{data.resolve().as_posix()}|{_profile(config)}"
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return beside / "foveate-cache" / digest


def _profile(config: PrepareConfig) -> str:
    return json.dumps({"format_version": FORMAT_VERSION, **asdict(config)}, sort_keys=True)


def prepare(
    records: Iterable[Record],
    cache: Path,
    config: PrepareConfig,
    on_progress: Callable[[int, int], None],
    num_workers: int = 0,
) -> Cache:
    """Brings the cache up to date with the records of role "image" and opens it.

    Args:
        records: What a source lists; labels and other files are left out.
        cache: The folder from `cache_folder`.
        config: The intensity window.
        on_progress: Called with (done, total) as volumes are finished.
        num_workers: Processes that decode beside this one; the result does not depend on it.

    Raises:
        FoveateError: no image is left, the disk is full, or the folder holds another cache.
    """
    images = [record for record in records if record.role == "image"]
    with _disk_errors(cache):
        (cache / VOLUMES).mkdir(parents=True, exist_ok=True)
        _claim(cache, config)
        _remove_stale(cache / VOLUMES)
        salt = read_salt(cache)
        work = partial(_prepare_one, cache=cache, salt=salt, config=config)
        outcomes = _outcomes(images, cache, salt, work, on_progress=on_progress, num_workers=num_workers)
        pairs = list(zip(images, outcomes, strict=True))
        rejects = [(record, outcome) for record, outcome in pairs if isinstance(outcome, str)]
        write_rejects(cache, ((salted_id(salt, record.relative), reason) for record, reason in rejects))
    volumes = [
        CachedVolume(cache, outcome, record.relative, record.labels, record.patient)
        for record, outcome in pairs
        if isinstance(outcome, CacheEntry)
    ]
    if not volumes:
        _refuse_empty(rejects)
    return Cache(volumes, [Reject(relative=record.relative, reason=reason) for record, reason in rejects])


def _refuse_empty(rejects: Sequence[tuple[Record, str]]) -> None:
    reasons = "; ".join(f"{record.path}: {reason}" for record, reason in rejects[:3])
    raise FoveateError(
        f"None of the {len(rejects)} images can be used. {reasons or 'No file has the role of an image'}."
    )


def _claim(cache: Path, config: PrepareConfig) -> None:
    """Writes down how this cache is made, or refuses one that was made otherwise."""
    path = cache / PROFILE
    if not path.exists():
        replace_file(path, lambda stream: stream.write(_profile(config).encode()))
    found = path.read_text()
    if found != _profile(config):
        raise FoveateError(
            f"{cache} holds a cache made with {found}, not with {_profile(config)}; use another folder."
        )


def _remove_stale(folder: Path) -> None:
    for path in folder.glob("*.tmp"):
        if time.time() - path.stat().st_mtime > STALE_SECONDS:
            path.unlink(missing_ok=True)


@contextmanager
def _disk_errors(cache: Path) -> Iterator[None]:
    """Turns a full or read-only disk into a paragraph; what was finished before stays usable."""
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            mib = shutil.disk_usage(cache).free >> 20
            raise FoveateError(
                f"The disk of the cache {cache} is full ({mib} MiB left, or your quota is used up); "
                "make room and start again: the volumes that are done are kept."
            ) from error
        if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS}:
            raise FoveateError(f"The cache {cache} cannot be written ({error.strerror}).") from error
        raise


def _outcomes(
    images: Sequence[Record],
    cache: Path,
    salt: bytes,
    work: _Work,
    *,
    on_progress: Callable[[int, int], None],
    num_workers: int,
) -> list[_Outcome]:
    """For every image its entry, or the reason why it has none."""
    outcomes = _unchanged(images, salt, read_entries(cache))
    pending = [record for record in images if record.relative not in outcomes]
    on_progress(len(outcomes), len(images))
    for record, outcome in zip(pending, _mapped(work, pending, num_workers), strict=True):
        if isinstance(outcome, CacheEntry):
            append_entry(cache, outcome)
        outcomes[record.relative] = outcome
        on_progress(len(outcomes), len(images))
    return [outcomes[record.relative] for record in images]


def _unchanged(images: Sequence[Record], salt: bytes, entries: dict[str, CacheEntry]) -> dict[str, _Outcome]:
    """The entries that still describe their source file, by relative path."""
    found: dict[str, _Outcome] = {}
    for record in images:
        entry = entries.get(salted_id(salt, record.relative))
        if entry and _is_current(record, entry):
            found[record.relative] = entry
    return found


def _is_current(record: Record, entry: CacheEntry) -> bool:
    """Whether the sources are as they were; maps that nobody asks for any more do no harm."""
    maps = {each.name: (each.source_bytes, each.source_mtime_ns) for each in entry.maps}
    own = image_files(record)
    sources = [(own, entry.fingerprint), *(((path,), maps.get(n)) for n, path in record.maps.items())]
    return all(
        all(path.exists() for path in paths) and _fingerprint(*paths) == known for paths, known in sources
    )


def _fingerprint(*paths: Path) -> tuple[int, int]:
    """The size of files together and the newest time of change."""
    stats = [path.stat() for path in paths]
    return sum(stat.st_size for stat in stats), max(stat.st_mtime_ns for stat in stats)


def _mapped(work: _Work, images: Sequence[Record], num_workers: int) -> Iterator[_Outcome]:
    if num_workers == 0:
        yield from map(work, images)
        return
    pool = ProcessPoolExecutor(num_workers)
    try:
        yield from pool.map(work, images)
    except BrokenProcessPool as error:
        raise FoveateError(
            "A process that decodes images was killed, most likely for want of memory; start again with "
            "fewer workers: the volumes that are done are kept."
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _prepare_one(record: Record, *, cache: Path, salt: bytes, config: PrepareConfig) -> _Outcome:
    try:
        fingerprint = _fingerprint(*image_files(record))
    except OSError as error:
        return f"the system could not read it ({error.strerror})"
    try:
        volume = read_image(record, decode)
    except UnreadableImageError as error:
        return error.reason
    decoded, key = voxel_hash(volume.array), salted_id(salt, record.relative)
    try:
        maps = tuple(_write_map(cache, key, name, path, volume) for name, path in sorted(record.maps.items()))
        entry = _write_volume(cache, key, fingerprint, volume, config, maps)
        return replace(entry, voxel_hash=decoded)
    except UnreadableImageError as error:
        return f"its map cannot be read: {error.reason}"
    except (_UnusableError, UnusableMapError) as error:
        return str(error)


def _write_map(cache: Path, key: str, name: str, path: Path, image: Volume) -> MapEntry:
    fingerprint = _fingerprint(path)
    try:
        array = read_map_of(path, image)
    except UnusableMapError as error:
        raise UnusableMapError(f"its map {name!r} does not fit it: {error}") from None
    file, places = f"{VOLUMES}/{key}.{name}.npy", f"{VOLUMES}/{key}.{name}.places.npy"
    _write_array(cache / places, places_of(array, name))  # the key has a salt
    return MapEntry(
        name=name,
        file=file,
        file_bytes=_write_array(cache / file, array),
        places=places,
        values=tuple(np.unique(array).tolist()),
        content_hash=blake2b(array.data, digest_size=16).hexdigest(),
        source_bytes=fingerprint[0],
        source_mtime_ns=fingerprint[1],
    )


def _write_array(path: Path, array: Array) -> int:
    """Writes a C-ordered array as .npy; the size of the file."""
    header = _npy_header(array)
    replace_file(path, lambda stream: stream.write(header) and stream.write(array.data))
    return len(header) + array.nbytes


def _write_volume(
    cache: Path,
    key: str,
    fingerprint: tuple[int, int],
    volume: Volume,
    config: PrepareConfig,
    maps: tuple[MapEntry, ...],
) -> CacheEntry:
    encoded = encode(volume.array)
    counts = histogram(encoded)
    low, high = _window(counts, config)
    file = f"{VOLUMES}/{key}.npy"
    return CacheEntry(
        id=key,
        file=file,
        file_bytes=_write_array(cache / file, encoded.codes),
        shape=encoded.codes.shape,
        spacing_mm=volume.spacing_mm,
        affine=tuple(tuple(row) for row in volume.affine.tolist()),
        dtype=encoded.codes.dtype.name,
        scale=encoded.scale,
        offset=encoded.offset,
        low=low,
        high=high,
        minimum=float(volume.array.min()),
        maximum=float(volume.array.max()),
        mean=counts.mean(),
        std=counts.std(),
        content_hash=_content_hash(volume, encoded),
        voxel_hash="",  # of what was read, which may be another array: the caller knows it
        source_bytes=fingerprint[0],
        source_mtime_ns=fingerprint[1],
        maps=maps,
    )


def _npy_header(array: Array) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, np.lib.format.header_data_from_array_1_0(array))
    return stream.getvalue()


def _window(counts: Histogram, config: PrepareConfig) -> tuple[float, float]:
    """The source values that read as 0 and 1; an image that would read as constant is refused."""
    ends = [counts.percentile(percent) for percent in (0.0, 100.0)]
    if config.window == "range":
        low, high = config.intensity_range
        if ends[1] <= low or ends[0] >= high:
            raise _UnusableError(f"all its values lie outside intensity_range {low}, {high}")
        return low, high
    low, high = (counts.percentile(percent) for percent in config.percentiles)
    if low == high:
        raise _UnusableError(
            f"its percentiles {config.percentiles} are both {low:g}: nearly all of it is background"
        )
    return low, high


def _content_hash(volume: Volume, encoded: Encoded) -> str:
    digest = blake2b(digest_size=16)
    shape = encoded.codes.shape
    digest.update(repr((shape, encoded.scale, encoded.offset, volume.spacing_mm)).encode())
    digest.update(encoded.codes.data)
    return digest.hexdigest()

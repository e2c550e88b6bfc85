"""Whether the files of a cache are as they were written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from hashlib import blake2b
from pathlib import Path

import numpy as np

from foveate.core.types import FoveateError
from foveate.data.cache.complete import complete_entries
from foveate.data.cache.encoding import Encoded
from foveate.data.cache.index import CacheEntry
from foveate.data.cache.store import checksum_of, open_array
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cache.writing import content_hash

SHOWN = 10  # damaged files that a message names

_File = tuple[str, int | None, str, Callable[[], str]]  # its name, its size, a hash, what computes the hash


def verify(folder: Path, on_progress: Callable[[int, int], None]) -> int:
    """Reads every file of a finished cache; how many there are.

    Entries of format 4 have no checksum of their files: their voxels are hashed instead, and the places of
    their maps are not checked.

    Raises:
        FoveateError: naming the damaged volumes by id, and what to do.
    """
    open_array.cache_clear()  # reading a map of a file that was cut since ends the process
    entries, damaged, files = complete_entries(folder), [], 0
    for done, entry in enumerate(entries, 1):
        for file, size, expected, found in _files(folder, entry):
            files += 1
            if why := _damage(folder / file, size, expected, found):
                damaged.append((entry.id, file, why))
        on_progress(done, len(entries))
    if damaged:
        raise FoveateError(_report(folder, damaged, len(entries)))
    return files


def _files(folder: Path, entry: CacheEntry) -> Iterator[_File]:
    volume = CachedVolume(folder, entry)
    content = partial(_voxels, volume)
    yield _file(folder, entry.file, entry.file_bytes, entry.checksum) or (
        entry.file,
        entry.file_bytes,
        entry.content_hash,
        content,
    )
    for each in entry.maps:
        content = partial(_map, volume, each.name)
        known = _file(folder, each.file, each.file_bytes, each.checksum)
        yield known or (each.file, each.file_bytes, each.content_hash, content)
        if places := _file(folder, each.places, None, each.places_checksum):
            yield places


def _file(folder: Path, file: str, size: int | None, checksum: str) -> _File | None:
    return (file, size, checksum, partial(checksum_of, folder / file)) if checksum else None


def _voxels(volume: CachedVolume) -> str:
    codes, entry = volume.codes([0] * len(volume.shape), volume.shape).array, volume.entry
    return content_hash(Encoded(codes=codes, scale=entry.scale, offset=entry.offset), entry.spacing_mm)


def _map(volume: CachedVolume, name: str) -> str:
    array = volume.read_map(name, [0] * len(volume.shape), volume.shape)
    return blake2b(np.ascontiguousarray(array).data, digest_size=16).hexdigest()


def _damage(path: Path, size: int | None, expected: str, found: Callable[[], str]) -> str:
    """What is wrong with a file; "" where nothing is."""
    if not path.exists():
        return "is missing"
    if size not in (None, path.stat().st_size):
        return "has another size than it was written with"
    try:
        return "" if found() == expected else "is not as it was written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except FoveateError:
        return "is not as it was written"


def _report(folder: Path, damaged: Sequence[tuple[str, str, str]], count: int) -> str:
    ids = {key for key, _, _ in damaged}
    shown = "; ".join(f"{key}: {file} {why}" for key, file, why in damaged[:SHOWN])
    more = f"; and {len(damaged) - SHOWN} more files" if len(damaged) > SHOWN else ""
    return (
        f"{folder}: {len(ids)} of {count} volumes are damaged ({shown}{more}). Delete these files and run "
        "`foveate prepare --data SCANS --out CACHE` as it was run first: they are decoded anew, the others "
        "are kept. Without the scans, copy them from another copy of this cache."
    )

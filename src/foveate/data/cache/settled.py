"""Which decoded images count, once all are decoded: families of files have one role (`data.roles`).

That a file with values like a label map's was taken for an image is written down in the cache, so that a
later preparation, or one that was interrupted, knows as much as the first and decides alike.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from foveate.core.types import Record
from foveate.data.cache.index import CacheEntry, append_entry, salted_id, stamped
from foveate.data.image_files import fingerprint_of, image_files
from foveate.data.readers.refusals import LOOKS_LIKE_LABELS, looks_like_labels
from foveate.data.roles.verdicts import verdicts

FLAT = "flat.jsonl"  # ids and fingerprints of images that were decoded although they look like label maps

Outcome = CacheEntry | str  # a cached volume, or the reason why there is none


def settle(
    images: Sequence[Record],
    outcomes: Sequence[Outcome],
    others: Iterable[str],
    *,
    cache: Path,
    salt: bytes,
    decode_anyway: Callable[[Record], Outcome],
) -> tuple[list[Outcome], tuple[str, ...]]:
    """The outcomes by the role of each family, and what the terminal should say of it.

    Args:
        images: What was decoded.
        outcomes: Of each, its entry or the reason why it has none.
        others: Relative paths of the other files, which show what names have in common.
        cache: The cache folder.
        salt: Of its ids.
        decode_anyway: Decodes an image whatever its values look like.
    """
    looks = _looks(images, outcomes, _flat_before(cache))
    found = verdicts(looks, others)
    by_name = {name: verdict for verdict in found for name in verdict.overruled}
    settled: list[Outcome] = []
    for record, outcome in zip(images, outcomes, strict=True):
        verdict = by_name.get(record.relative)
        if verdict is None:
            doubtful = looks.get(record.relative, False) and isinstance(outcome, CacheEntry)
            settled.append(LOOKS_LIKE_LABELS if doubtful else outcome)
        elif verdict.labels:
            settled.append(f"it counts as a label map: {verdict.reason}")
        else:
            settled.append(_taken_as_image(record, outcome, cache, salt, decode_anyway))
    return settled, tuple(verdict.note for verdict in found)


def _looks(
    images: Sequence[Record], outcomes: Sequence[Outcome], flat: Mapping[str, tuple[int, int]]
) -> dict[str, bool]:
    """Relative path -> whether it looks like a label map, for what could be read and comes without maps."""
    looks = {}
    for record, outcome in zip(images, outcomes, strict=True):
        if record.files or record.channels or record.maps:
            continue
        if isinstance(outcome, CacheEntry):
            looks[record.relative] = flat.get(outcome.id) == outcome.fingerprint
        elif looks_like_labels(outcome):
            looks[record.relative] = True
    return looks


def _taken_as_image(
    record: Record, outcome: Outcome, cache: Path, salt: bytes, decode_anyway: Callable[[Record], Outcome]
) -> Outcome:
    if isinstance(outcome, CacheEntry):
        return outcome
    with suppress(OSError):  # it has gone meanwhile: decoding says so
        stamp = stamped(salt, fingerprint_of(image_files(record)))
        line = [salted_id(salt, record.relative), *stamp]
        with (cache / FLAT).open("a") as stream:
            stream.write("\n" + json.dumps(line) + "\n")  # a line that a crash has cut off stays alone
    found = decode_anyway(record)
    if isinstance(found, CacheEntry):
        append_entry(cache, found)
    return found


def _flat_before(cache: Path) -> dict[str, tuple[int, int]]:
    """Id -> fingerprint of what earlier preparations have taken as images in spite of their values."""
    path = cache / FLAT
    found = {}
    for line in path.read_text().split("\n") if path.exists() else ():
        with suppress(ValueError):  # empty, or cut off
            key, size, changed = json.loads(line)
            found[str(key)] = (int(size), int(changed))
    return found

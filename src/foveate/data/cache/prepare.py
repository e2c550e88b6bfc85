"""Decodes every image once into a cache of memory-mapped arrays; interrupted, it goes on where it was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from pathlib import Path

from foveate.core.config import differences
from foveate.core.files import replace_text
from foveate.core.processes.pool import in_order
from foveate.core.types import Array, FoveateError, Record, Volume
from foveate.data.boxes.listing import listed_of
from foveate.data.boxes.painting import MisplacedError, painted, placed
from foveate.data.cache.complete import forget_complete, write_complete
from foveate.data.cache.encoding import encode, histogram
from foveate.data.cache.estimate import check_disk, estimated_bytes
from foveate.data.cache.index import (
    PROFILE,
    VOLUMES,
    CacheEntry,
    append_entry,
    patient_hash,
    read_entries,
    salted_id,
    stamped,
    write_rejects,
)
from foveate.data.cache.maps import UnusableMapError, as_integers, read_map_of
from foveate.data.cache.profiles import (
    EARLIER,
    PrepareConfig,
    Profile,
    UnusableError,
    as_json,
    earlier_note,
    parsed_profile,
    profile_of,
    window_values,
)
from foveate.data.cache.resample import crop_foreground, to_spacing
from foveate.data.cache.settled import Outcome as _Outcome, settle
from foveate.data.cache.store import check_format, disk_errors
from foveate.data.cache.volumes import Cache, CachedVolume, Reject
from foveate.data.cache.writing import Target, write_map, write_volume
from foveate.data.decoding.decoder import decode, decode_flat
from foveate.data.image_files import fingerprint_of, image_files, map_fingerprint
from foveate.data.readers.channels import read_image, voxel_hash
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.salts import CACHES, read_salt

STALE_SECONDS = 3600  # a temporary file this old belongs to a process that was killed

_Work = partial[_Outcome]


def cache_folder(beside: Path, data: Path, config: PrepareConfig) -> Path:
    """Where the cache of `data` under `config` lives: `beside`/foveate-cache/<12 hex digits>."""
    text = f"{data.resolve().as_posix()}|{as_json(config, EARLIER)}"  # the folders of before are found
    digest = blake2b(text.encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    return beside / CACHES / digest


def prepare(
    records: Iterable[Record],
    cache: Path,
    config: PrepareConfig,
    on_progress: Callable[[int, int], None],
    num_workers: int = 0,
) -> Cache:
    """Brings the cache up to date with the records of role "image" and opens it.

    Args:
        records: What a source lists; labels and other files are excluded.
        cache: The folder from `cache_folder`.
        config: Resampling, windows and the format.
        on_progress: Called with (done, total) as volumes are finished.
        num_workers: Processes that decode beside this one; the result does not depend on it.

    Raises:
        FoveateError: no image is left, the disk is full, or the folder holds another cache.
    """
    _refuse_unsettled(config)
    listed = list(records)
    images = [record for record in listed if record.role == "image"]
    check_format(config.format)
    with disk_errors(cache):
        (cache / VOLUMES).mkdir(parents=True, exist_ok=True)
        of_before = claim(cache, config)
        _remove_stale(cache)
        forget_complete(cache)
        salt = read_salt(cache)
        work = partial(_prepare_one, cache=cache, salt=salt, config=config)
        outcomes = _outcomes(images, cache, salt, work, on_progress=on_progress, num_workers=num_workers)
        others = [record.relative for record in listed if record.role != "image"]
        anyway = partial(work, flat=True)
        outcomes, notes = settle(images, outcomes, others, cache=cache, salt=salt, decode_anyway=anyway)
        pairs = list(zip(images, outcomes, strict=True))
        rejects = [(record, outcome) for record, outcome in pairs if isinstance(outcome, str)]
        write_rejects(cache, ((salted_id(salt, record.relative), reason) for record, reason in rejects))
        write_complete(cache, [entry for _, entry in pairs if isinstance(entry, CacheEntry)])
    volumes = [
        CachedVolume(cache, _asked_for(outcome, record), record.relative, record.labels, record.patient)
        for record, outcome in pairs
        if isinstance(outcome, CacheEntry)
    ]
    if not volumes:
        _refuse_empty(rejects)
    rejected = [Reject(relative=record.relative, reason=reason) for record, reason in rejects]
    return Cache(volumes, rejected, (*of_before, *notes))


def _refuse_unsettled(config: PrepareConfig) -> None:
    if config.window == "dataset":
        raise FoveateError(
            "prepare.window dataset: accepted in `finetune`, where labelled voxels say the window; elsewhere "
            "say `range` with prepare.intensity_range."
        )


def _refuse_empty(rejects: Sequence[tuple[Record, str]]) -> None:
    reasons = "; ".join(f"{record.path}: {reason}" for record, reason in rejects[:3])
    raise FoveateError(
        f"None of the {len(rejects)} images can be used. {reasons or 'No file has the role of an image'}."
    )


def claim(cache: Path, config: PrepareConfig) -> tuple[str, ...]:
    """Writes down how this cache is made, or refuses one that was made otherwise; what the terminal says.

    A cache of an earlier version gets the present one: that version must not misread what is added.
    """
    path = cache / PROFILE
    if not path.exists():
        replace_text(path, as_json(config))
    found = path.read_text()
    if found == as_json(config, EARLIER):
        replace_text(path, as_json(config))
        return (earlier_note(cache),)
    if found != as_json(config):
        there = parsed_profile(found, cache)
        wanted = {**json.loads(as_json(config)), "format_version": there["format_version"]}
        changed = "; ".join(differences(there, wanted, ())) or f"format {wanted['format_version']}"
        raise FoveateError(f"{cache} holds a cache made otherwise ({changed}); use another folder.")
    return ()


def _remove_stale(cache: Path) -> None:
    for path in [*cache.glob("*.tmp"), *(cache / VOLUMES).glob("*.tmp")]:
        with suppress(FileNotFoundError):  # another run that prepares the same cache has just finished it
            if time.time() - path.stat().st_mtime > STALE_SECONDS:
                path.unlink()


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
    entries = read_entries(cache)
    outcomes = _unchanged(images, salt, entries)
    for outcome in outcomes.values():
        if isinstance(outcome, CacheEntry) and outcome != entries[outcome.id]:  # of another patient now
            append_entry(cache, outcome)
    pending = [record for record in images if record.relative not in outcomes]
    check_disk(estimated_bytes(pending, work.keywords["config"]), cache)
    on_progress(len(outcomes), len(images))
    decoded = in_order(work, pending, num_workers, "the volumes that are done are kept")
    for record, outcome in zip(pending, decoded, strict=True):
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
        if entry and _is_current(record, entry, salt):
            found[record.relative] = replace(entry, patient=patient_hash(salt, record.patient))
    return found


def _asked_for(entry: CacheEntry, record: Record) -> CacheEntry:
    """The entry without maps that another run has left in it: views of unequal maps make no batch."""
    return replace(entry, maps=tuple(each for each in entry.maps if each.name in record.maps))


def _is_current(record: Record, entry: CacheEntry, salt: bytes) -> bool:
    """Whether the sources are as they were, those of the maps that are asked for included."""
    by_name = {each.name: (each.source_bytes, each.source_stamp) for each in entry.maps}
    try:
        found = [fingerprint_of(image_files(record)), *(map_fingerprint(record, n) for n in record.maps)]
    except OSError:
        return False
    pairs = zip(found, [entry.fingerprint, *(by_name.get(name) for name in record.maps)], strict=True)
    return all(before in (stamped(salt, now), now) for now, before in pairs)  # the second: a line of before


def _prepare_one(
    record: Record,
    *,
    cache: Path,
    salt: bytes,
    config: PrepareConfig,
    flat: bool = False,
) -> _Outcome:
    try:
        fingerprint = stamped(salt, fingerprint_of(image_files(record)))
    except OSError as error:
        return f"the system could not read it ({error.strerror})"
    try:
        volume = read_image(record, decode_flat if flat else decode, config.reading)
    except UnreadableImageError as error:
        return error.reason
    target = Target(cache=cache, key=salted_id(salt, record.relative), salt=salt, fingerprint=fingerprint)
    decoded, profile = voxel_hash(volume.array), profile_of(record.modality, config)
    try:
        boxes = _placed(record, volume)
        read = {name: _read_map(name, record, volume, boxes) for name in sorted(record.maps)}
        volume, maps = regridded(volume, read, profile, config)
        entries = tuple(
            write_map(target, name, map_fingerprint(record, name), array, volume, boxes)
            for name, array in maps.items()
        )
        entry = write_volume(target, volume, profile, config)
        patient = patient_hash(salt, record.patient)
        return replace(entry, maps=entries, voxel_hash=decoded, patient=patient)
    except UnreadableImageError as error:
        return f"its map cannot be read: {error.reason}"
    except (UnusableError, UnusableMapError) as error:
        return str(error)


def regridded(
    volume: Volume, maps: Mapping[str, Array], profile: Profile, config: PrepareConfig
) -> tuple[Volume, Mapping[str, Array]]:
    """The part and the voxel size that the configuration asks for."""
    if config.foreground == "crop":
        by_profile = replace(config, window="profile") if config.window == "foreground" else config
        window = window_values(histogram(encode(volume.array)), profile, by_profile)
        volume, maps = crop_foreground(volume, maps, window, config.foreground_threshold)
    if config.spacing_mm != "native":
        volume, maps = to_spacing(volume, maps, config.spacing_mm)
    return volume, maps


def _placed(record: Record, image: Volume) -> Array | None:
    """The boxes that a record lists, in millimetres; None where its maps are files."""
    listed = listed_of(record)
    try:
        return None if listed is None else placed(listed, image)
    except MisplacedError as error:
        raise UnusableMapError(f"its map of boxes cannot be painted: {error}") from None


def _read_map(name: str, record: Record, image: Volume, boxes: Array | None) -> Array:
    try:
        if boxes is not None:
            return as_integers(painted(boxes, image))
        return read_map_of(record.maps[name], image, record.root, record.regions)
    except UnusableMapError as error:
        raise UnusableMapError(f"its map {name!r} does not fit it: {error}") from None

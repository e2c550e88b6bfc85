"""The leakage guard: equal voxels in two parts of a split, and test images that pre-training has seen.

Images are compared by their decoded voxels in RAS+ order, so neither another name, format nor header hides
one. What a run has seen is written down as salted hashes only; the salt stays beside the runs, in the
project's folder, and without it the hashes can be compared with nothing.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from foveate.core.files import json_with, replace_text
from foveate.core.processes.pool import in_order
from foveate.core.types import FoveateError, Reading, Record
from foveate.data.cache.index import salted_id
from foveate.data.decoding.decoder import decode, decode_flat
from foveate.data.readers.channels import read_image, voxel_hash
from foveate.data.readers.refusals import looks_like_labels
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.roles.verdicts import verdicts
from foveate.data.salts import PROJECT, SALT, own_salt

SEEN = "seen.json"
WHOLE = Reading(fourth_axis="channels", missing_channels="zero")  # all that the files of an image hold
OnSeen = Literal["refuse", "mark"]


def hash_of(record: Record, reading: Reading = WHOLE) -> str | None:
    """The voxel hash of a record's image; None if unreadable, which is reported when it is prepared."""
    try:
        return voxel_hash(read_image(record, decode, reading).array)
    except UnreadableImageError:
        return None


def reason_of(record: Record) -> str:
    """Why an image cannot be read, "" where it can."""
    try:
        read_image(record, decode, WHOLE)
    except UnreadableImageError as error:
        return error.reason
    return ""


def by_role(records: Sequence[Record], hashes: dict[str, str | None]) -> list[str]:
    """Correct hashes by the role of most files of a family (`data.roles`); returns notes for the terminal."""
    single = [record for record in records if not (record.files or record.channels or record.maps)]
    looks = {record.relative: False for record in single if hashes[record.relative]}
    unread = [record for record in single if not hashes[record.relative]]
    looks |= {record.relative: True for record in unread if looks_like_labels(reason_of(record))}
    found, known = verdicts(looks), {record.relative: record for record in single}
    for verdict in found:
        for name in verdict.overruled:
            images = not verdict.labels
            hashes[name] = voxel_hash(read_image(known[name], decode_flat, WHOLE).array) if images else None
    return [verdict.note for verdict in found]


def hashes_of(
    records: Sequence[Record], num_workers: int = 0, reading: Reading = WHOLE
) -> Iterable[str | None]:
    """The voxel hashes of records in their order, as they are found; `reading`: as a cache has them."""
    return in_order(partial(hash_of, reading=reading), records, num_workers)


def twins(hashes: Mapping[str, str | None]) -> list[list[str]]:
    """Names of images with equal voxels, each set sorted."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, digest in sorted(hashes.items()):
        if digest:
            names[digest].append(name)
    return [found for found in names.values() if len(found) > 1]


def refuse_shared_voxels(parts: Mapping[str, Iterable[str]], hashes: Mapping[str, str | None]) -> None:
    """Refuse equal voxels in two parts.

    Args:
        parts: Part -> relative paths of its images.
        hashes: Relative path -> voxel hash.
    """
    seen: dict[str, tuple[str, str]] = {}
    for part, names in parts.items():
        for name in names:
            if digest := hashes.get(name):
                other_part, other = seen.setdefault(digest, (part, name))
                if other_part != part:
                    raise FoveateError(
                        f"{other} ({other_part}) and {name} ({part}) have equal voxels. Remove one, or put "
                        "both in the same part."
                    )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """Salted hashes of what a run was trained on."""

    images: frozenset[str]
    patients: frozenset[str]


NOTHING = Seen(images=frozenset(), patients=frozenset())


def project_salt(run: Path) -> bytes:
    """The salt of the project that a run folder is in, drawn when there is none."""
    folder = run.resolve().parent / PROJECT
    folder.mkdir(parents=True, exist_ok=True)
    return own_salt(folder / SALT)


def write_seen(
    run: Path, patients: Iterable[str], voxels: Iterable[str], earlier: Path | None = None
) -> None:
    """Write seen.json: patients and images that a run is trained on, as sorted salted hashes.

    Args:
        run: The run folder.
        patients: Names, "" for those without.
        voxels: Voxel hashes.
        earlier: The run of the same project whose weights it starts from: what that has seen counts as well.
    """
    salt = project_salt(run)
    before = read_seen(earlier) if earlier and project_salt(earlier) == salt else NOTHING
    content = {
        "images": sorted(before.images | {salted_id(salt, f"voxels {digest}") for digest in voxels}),
        "patients": sorted(before.patients | {salted_id(salt, f"patient {p}") for p in patients if p}),
    }
    replace_text(run / SEEN, json.dumps(content, indent=0))


def read_seen(run: Path) -> Seen:
    """Read the seen.json of a run.

    Raises:
        FoveateError: the run has no such file, or its project no salt.
    """
    path = run / SEEN
    if not path.is_file() or not (run.resolve().parent / PROJECT / SALT).is_file():
        raise FoveateError(
            f"{run} cannot say which images it was trained on: {path} and {PROJECT}/salt beside the run are "
            "needed, both from the folder where it was trained."
        )
    images, patients = (frozenset(json_with(key, path)[key]) for key in ("images", "patients"))
    return Seen(images=images, patients=patients)


def seen_before(run: Path, records: Sequence[Record], voxels: Sequence[str | None]) -> dict[str, str]:
    """Relative path -> why, for the images that `run` was trained on or whose patient it was.

    Args:
        run: The run folder of a pre-training.
        records: Images for a test.
        voxels: Their voxel hashes.
    """
    seen, salt = read_seen(run), project_salt(run)
    found = {}
    for record, digest in zip(records, voxels, strict=True):
        if digest and salted_id(salt, f"voxels {digest}") in seen.images:
            found[record.relative] = "its voxels were pre-trained on"
        elif record.patient and salted_id(salt, f"patient {record.patient}") in seen.patients:
            found[record.relative] = "its patient was pre-trained on"
    return found


def refuse_seen(run: Path, found: Mapping[str, str], policy: OnSeen) -> None:
    """Refuse test images that pre-training has seen, unless the policy is to mark them only."""
    if found and policy == "refuse":
        name, why = next(iter(sorted(found.items())))
        raise FoveateError(
            f"{len(found)} test images are no test of {run}: {name}: {why}. Take them out of the test or "
            "out of pre-training, or say --on_seen mark to go on and have them marked in every table."
        )

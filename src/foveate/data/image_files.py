"""Every file that an image is in, the voxels beside a header included; and whether they changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from pathlib import Path

from foveate.core.types import FoveateError, Record
from foveate.data.boxes.listing import listed_of
from foveate.data.layouts import Missing
from foveate.data.readers.itk.volume import data_file


def image_files(record: Record) -> tuple[Path, ...]:
    """Every file that the image of a record is in."""
    return with_data(record.channels or record.files or (record.path,), record.root)


def with_data(files: Sequence[Path], root: Path | None = None) -> tuple[Path, ...]:
    """Files and, of those that are headers alone (MHD, NHDR), the files with their voxels within `root`."""
    return (*files, *filter(None, (data_file(path, root) for path in files)))


def fingerprint_of(paths: Sequence[Path]) -> tuple[int, int]:
    """Size and time of change; of several files the sum of their sizes and a hash of both of each."""
    stats = [path.stat() for path in paths]
    if len(stats) == 1:
        return stats[0].st_size, stats[0].st_mtime_ns
    facts = repr([(stat.st_size, stat.st_mtime_ns) for stat in stats]).encode()
    return sum(stat.st_size for stat in stats), int.from_bytes(blake2b(facts, digest_size=7).digest(), "big")


def map_files(record: Record, name: str) -> tuple[Path, ...]:
    """Every file that a map of a record is in."""
    painted = tuple(dict.fromkeys(region.file for region in record.regions))
    return painted or with_data([record.maps[name]], record.root)


def map_fingerprint(record: Record, name: str) -> tuple[int, int]:
    """Size and time of change of a map's files, and which structures of them it is painted from.

    Of one that is painted from listed boxes, how many they are and a hash of them alone: another image's row
    of the same table changes nothing.
    """
    if (listed := listed_of(record)) is not None:
        return listed.fingerprint()
    files = map_files(record, name)
    size, stamp = fingerprint_of(files)
    if not record.regions:
        return size, stamp
    facts = repr((stamp, [(value, files.index(file), number) for value, file, number in record.regions]))
    return size, int.from_bytes(blake2b(facts.encode(), digest_size=7).digest(), "big")


def existing(records: Iterable[Record], missing: Missing, listed_in: str) -> Iterator[Record]:
    """The records whose files are all there; the others are refused, or excluded where asked."""
    for record in records:
        absent = [path for path in files_of(record) if not path.is_file()]
        if not absent:
            yield record
        elif missing == "skip":
            yield Record(path=record.path, relative=record.relative, role="other", evidence="it is not there")
        else:
            raise FoveateError(
                f"{listed_in} lists {absent[0]}, which is not there; complete the files, correct the list, "
                "or say --source.missing skip where the layout has it."
            )


def files_of(record: Record) -> tuple[Path, ...]:
    """Every file that a record stands for: image, series, channels and maps."""
    return (*image_files(record), *record.maps.values(), *(region.file for region in record.regions))

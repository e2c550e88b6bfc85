"""The files of a prediction: what they are called, and what is written into them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import numpy as np

from foveate.core.files import replace_file
from foveate.core.tasks import DenseTask
from foveate.core.types import Array, FoveateError, Record
from foveate.data.cache.volumes import CachedVolume
from foveate.data.readers.dicom.silence import unquoted
from foveate.data.readers.dicom.structures.contents import place_of
from foveate.data.readers.suffixes import SUFFIXES, dimension_of, suffix_of
from foveate.data.writers.dicom.origin import Origin, origin_of
from foveate.data.writers.dicom.segmentation import segmentation
from foveate.data.writers.dicom.structure_set import structure_set
from foveate.runtime.finetuned import Model
from foveate.scoring.files import mask_suffix, write_mask, write_probabilities
from foveate.scoring.grids import Grid, onto, source_grid
from foveate.scoring.inference import zeros
from foveate.scoring.members.shares import LEVELS
from foveate.scoring.segment import Segmentation

Writer = Callable[[Origin, Sequence[str], Callable[[int], Array], str], bytes]
NIFTI = "nifti"
ENDS = {"dicom-seg": ".seg.dcm", "rtstruct": ".rtstruct.dcm"}
WRITERS: dict[str, Writer] = {".seg.dcm": segmentation, ".rtstruct.dcm": structure_set}
UID = re.compile(r"[0-9.]{1,64}")


def refuse_format(images: Sequence[Record], model: Model, form: str) -> None:
    """DICOM objects are written for masks of volumes in DICOM alone."""
    if form == NIFTI:
        return
    if not model.dense:
        raise FoveateError(
            f"--format {form}: the run makes no masks, its answers are tables; accepted: --format {NIFTI}."
        )
    others = [r for r in images if suffix_of(r.path) in SUFFIXES or dimension_of(r) != 3]
    if others:
        raise FoveateError(
            f"--format {form}: {len(others)} of {len(images)} images are no volumes in DICOM, such as "
            f"{others[0].relative}; accepted for them: --format {NIFTI}."
        )


def result_names(images: Sequence[Record], dimension: Callable[[Record], int], form: str) -> dict[str, str]:
    """Relative path of an image -> that of its mask; two images with one mask are refused."""
    names: dict[str, str] = {}
    taken: dict[str, str] = {}
    stems = series_stems(images)
    for record in images:
        end = ENDS.get(form) or mask_suffix(dimension(record))
        name = stems.get(record.relative, stem_of(record)) + end
        if name in taken:
            raise FoveateError(
                f"{taken[name]} and {record.relative} would both be answered in {name}; rename one."
            )
        taken[name] = record.relative
        names[record.relative] = name
    return names


def series_stems(images: Sequence[Record]) -> dict[str, str]:
    """Names for series of slices: folder and SeriesInstanceUID, counted where one holds several volumes.

    The UID is text of a header: one that is none makes no path, and the first slice names such a series.
    """
    found: dict[str, str] = {}
    for record in images:
        uid = place_of(record.path)[0] if record.files else ""
        if UID.fullmatch(uid):
            found[record.relative] = (PurePosixPath(record.relative).parent / uid).as_posix()
    counts, seen = Counter(found.values()), Counter[str]()
    for relative, stem in found.items():
        seen[stem] += 1
        found[relative] = f"{stem}_{seen[stem]}" if counts[stem] > 1 else stem
    return found


def stem_of(record: Record) -> str:
    """The relative path without its suffix, and without the number of its first channel."""
    stem = record.relative[: len(record.relative) - len(suffix_of(record.path))]
    return stem.removesuffix("_0000") if record.channels else stem


def write_all(
    model: Model,
    task: DenseTask,
    found: Segmentation,
    volume: CachedVolume,
    record: Record,
    target: Path,
) -> None:
    """Probabilities first, masks last: a mask is the sign that an image is done."""
    seen = Grid(shape=volume.shape, affine=np.array(volume.entry.affine))
    grid = source_grid(record, seen, unchanged=model.same_grid)
    values, end = task.label_values, mask_suffix(len(volume.shape))
    dicom = next((each for each in WRITERS if target.name.endswith(each)), "")
    beside = str(target).removesuffix(dicom or end)
    if found.probabilities is not None:
        shares = zeros((*grid.shape, len(values)), np.uint16)
        for k in range(len(values)):
            shares[..., k] = onto(found.probabilities[k], seen, grid)
        if end == ".png":
            replace_file(Path(f"{beside}_probabilities.npz"), lambda stream: save_levels(stream, shares))
        else:
            write_probabilities(Path(f"{beside}_probabilities{end}"), shares, grid)
    if found.doubt and found.doubt.map is not None:
        write_uncertainty(Path(f"{beside}_uncertainty{end}"), onto(found.doubt.map, seen, grid), grid)
    if dicom:
        write_dicom(task, found, record, target, seen, grid, WRITERS[dicom])
        return
    if found.labels is not None:
        write_mask(target, own_labels(task, found.labels, seen, grid), grid)
        return
    total = np.zeros(grid.shape, dtype=np.uint8)
    for name, mask in own_masks(task, found, seen, grid):
        write_mask(Path(f"{beside}_{name.replace('/', '_')}{end}"), mask, grid)
        total |= mask
    write_mask(target, total, grid)


def write_uncertainty(path: Path, levels: Array, grid: Grid) -> None:
    """The entropy of every voxel, given as whole numbers up to `LEVELS`; of a picture in 8 bits."""
    if path.suffix == ".png":
        write_mask(path, (levels // (LEVELS // 255)).astype(np.uint8), grid)
    else:
        write_probabilities(path, levels, grid)


def own_labels(task: DenseTask, labels: Array, seen: Grid, grid: Grid) -> Array:
    """The label map on the grid of the file, with the values of the label files."""
    values = task.label_values
    dtype = np.uint8 if max(values) < 256 else np.int16
    return np.asarray(np.array(values, dtype=dtype)[onto(labels, seen, grid, classes=len(values))])


def own_masks(task: DenseTask, found: Segmentation, seen: Grid, grid: Grid) -> Iterator[tuple[str, Array]]:
    """The mask of every class on the grid of the file, one after the other."""
    assert found.masks is not None
    for k, name in enumerate(task.class_names):
        yield name, onto(found.masks[k].view(np.uint8), seen, grid, classes=2)


def save_levels(stream: BinaryIO, levels: Array) -> None:
    """Probabilities of a picture, (x, y, K) as whole numbers, with the number that stands for 1."""
    np.savez_compressed(stream, probabilities=levels, one=LEVELS)


def write_dicom(
    task: DenseTask, found: Segmentation, record: Record, target: Path, seen: Grid, grid: Grid, writer: Writer
) -> None:
    """One object with every class but the background; classes that overlap lie in it side by side."""
    with unquoted():
        content = dicom_of(task, found, origin_of(record), seen, grid, writer)
    replace_file(target, lambda stream: stream.write(content))


def dicom_of(
    task: DenseTask, found: Segmentation, origin: Origin, seen: Grid, grid: Grid, writer: Writer
) -> bytes:
    """The object itself."""
    names, ours = list(task.class_names), version("foveate")
    if found.labels is not None:
        labels = onto(found.labels, seen, grid, classes=len(names))
        return writer(origin, names[1:], lambda k: labels == k + 1, ours)
    masks = found.masks
    assert masks is not None
    return writer(origin, names, lambda k: onto(masks[k].view(np.uint8), seen, grid, classes=2) > 0, ours)

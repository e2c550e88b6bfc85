"""Images for the slice viewer in a file beside a run: written by commands, shown by its page."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np

from foveate.core.files import replace_file
from foveate.core.types import Array, Json
from foveate.pages.viewer import Box, Layer, Scene, coarser


def write_scenes(path: Path, scenes: Sequence[Scene]) -> None:
    """One file, whole or not at all; images with too many voxels are made coarser."""
    arrays, facts = dict[str, Array](), list[Json]()
    for i, scene in enumerate(map(coarser, scenes)):
        facts.append(
            {
                "name": scene.name,
                "spacing_mm": list(map(float, scene.spacing_mm)),
                "classes": list(scene.classes),
                "note": scene.note,
                "body": scene.body,
                "layers": [{"name": each.name, "outlined": each.outlined} for each in scene.layers],
                "boxes": [{"name": each.name, "corners": each.corners.tolist()} for each in scene.boxes],
            }
        )
        arrays[f"image{i}"] = scene.image
        arrays |= {f"layer{i}-{k}": as_bytes(each.regions) for k, each in enumerate(scene.layers)}
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, lambda stream: write_arrays(stream, arrays))


def write_arrays(stream: BinaryIO, arrays: Mapping[str, Array]) -> None:
    """An npz, the same bytes for the same arrays."""
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(deflated(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)


def deflated(name: str) -> zipfile.ZipInfo:
    """A member of an archive without the time at which it was written."""
    info = zipfile.ZipInfo(name)
    info.compress_type = zipfile.ZIP_DEFLATED
    return info


def read_scenes(path: Path) -> list[Scene]:
    """The images of a file; none where it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return list(scenes_in({name: found[name] for name in found.files}))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return []


def scenes_in(arrays: Mapping[str, Array]) -> Iterator[Scene]:
    """The images of a file's arrays."""
    for i, facts in enumerate(json.loads(arrays["facts"].tobytes())):
        yield Scene(
            name=str(facts["name"]),
            image=arrays[f"image{i}"],
            spacing_mm=facts["spacing_mm"],
            classes=facts["classes"],
            note=facts["note"],
            body=facts["body"],
            layers=[
                Layer(name=each["name"], regions=arrays[f"layer{i}-{k}"], outlined=each["outlined"])
                for k, each in enumerate(facts["layers"])
            ],
            boxes=[Box(name=each["name"], corners=np.array(each["corners"])) for each in facts["boxes"]],
        )


def corners_of(affines: Array, grid: Sequence[int]) -> Array:
    """Corners (V, 2 ** n, n) of views in voxels of their image, from affines (V, n, n+1) of their indices."""
    ends = np.array(list(product(*[(-0.5, n - 0.5) for n in reversed(grid)])))[:, ::-1]
    corners: Array = np.einsum("vij,cj->vci", affines[..., :-1], ends) + affines[:, None, :, -1]
    return corners


def as_bytes(numbers: Array) -> Array:
    """Whole numbers of any size in 8 bits, 0 staying what it is; of large ones the differences are seen."""
    small: Array = np.where(numbers > 0, (numbers.astype(np.int64) - 1) % 255 + 1, 0).astype(np.uint8)
    return small

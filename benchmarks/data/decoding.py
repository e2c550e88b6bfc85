"""What decoding in a child process costs, and NIfTI through nibabel against SimpleITK: `decoding.py FOLDER`.

FOLDER holds NIfTI volumes or PNG pictures. Values are compared before anything is timed; times are the least
of several alternated readings of one process, in milliseconds an image.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk  # noqa: N813

from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.canonical import to_source
from foveate.data.readers.formats import read_files
from foveate.data.sources.folder import FolderSource

REPEATS, FILES = 7, 12


def least(actions: dict[str, Callable[[], object]]) -> dict[str, float]:
    """The least time of each action, the actions taking turns."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(REPEATS):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(time.perf_counter() - start)
    return {name: min(found) for name, found in times.items()}


def child_against_here(decoder: Decoder, files: list[Path]) -> None:
    """Equal arrays, then both times."""
    for path in files:
        np.testing.assert_array_equal(read_files((path,)).array, decoder.read((path,)).array)
    found = least(
        {
            "here": lambda: [read_files((path,)) for path in files],
            "child": lambda: [decoder.read((path,)) for path in files],
        }
    )
    here, child = (1000 * found[name] / len(files) for name in ("here", "child"))
    what = f"{files[0].name} and {len(files) - 1} more"
    print(f"{what}: here {here:.2f} ms, child {child:.2f} ms, x {child / here:.2f}")


def nibabel_against_itk(files: list[Path]) -> None:
    """Equal voxels, then both times, uncompressed values in memory."""
    for path in files:
        volume = read_files((path,))
        itk = sitk.GetArrayFromImage(sitk.ReadImage(str(path))).T
        np.testing.assert_allclose(to_source(volume.array[0], volume.orientation), itk, rtol=1e-6)
    found = least(
        {
            "nibabel": lambda: [np.asarray(nib.load(path, mmap=False).dataobj) for path in files],
            "itk": lambda: [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in files],
        }
    )
    print(f"NIfTI: nibabel over SimpleITK x {found['nibabel'] / found['itk']:.2f}")


def main() -> None:
    """Prints the ratios."""
    root = Path(sys.argv[1])
    decoder = Decoder()
    images = [record.path for record in FolderSource().records(root) if record.role == "image"]
    for suffix in (".png", ".nii.gz"):
        files = [path for path in images if path.name.endswith(suffix)][:FILES]
        if files:
            child_against_here(decoder, files)
    if volumes := [path for path in images if path.name.endswith(".nii.gz")][:FILES]:
        nibabel_against_itk(volumes)
    decoder.close()


if __name__ == "__main__":
    main()

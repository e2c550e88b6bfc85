"""A small folder of volumes for the tests of the data layer."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import Cache
from foveate.data.sources.folder import FolderSource

PATIENT = "JaneDoe"


def write_volume(path: Path, seed: int, dtype: type = np.int16, shape: tuple[int, ...] = (9, 10, 11)) -> None:
    """A noise volume whose header carries the patient's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).normal(100, 300, shape).clip(-1000, 3000)
    image = nib.Nifti1Image(values.astype(dtype), np.diag([1.0, 1.0, 2.5, 1.0]))
    image.header["descrip"] = PATIENT.encode()
    nib.save(image, path)


def prepared(root: Path, cache: Path, config: PrepareConfig | None = None, num_workers: int = 0) -> Cache:
    """The cache of a folder, without progress."""
    records = FolderSource().records(root)
    return prepare(records, cache, config or PrepareConfig(), lambda *_: None, num_workers)


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """Five volumes of a patient, and one label."""
    root = tmp_path / PATIENT
    for number in range(5):
        write_volume(root / f"{PATIENT}_scan_{number}.nii.gz", number)
    write_volume(root / "labels" / f"{PATIENT}_scan_0.nii.gz", 99)
    return root


@pytest.fixture
def cache(scans: Path, tmp_path: Path) -> Cache:
    """The five volumes, prepared."""
    return prepared(scans, tmp_path / "cache")

"""Images that teach nothing but their intensities: the voxels of each are permuted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.rng import stream
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.data.cohort.draw import patient_of
from foveate.data.decoding.decoder import decode
from foveate.data.readers.channels import read_image
from foveate.runtime.selection import images_for_pretraining

SHUFFLED = "shuffled"
PATTERN = r"(p\d+)_"


def shuffled(config: PretrainConfig, folder: Path) -> PretrainConfig:
    """The same pre-training on permuted copies of its images, which are written into a folder.

    Copies are numbered, as are their patients: what the method is told of patients and places stays true.
    """
    import nibabel as nib

    records = images_for_pretraining(config.source, Path(config.data), config.split, config.patient_pattern)
    records = sorted(records, key=lambda record: record.relative)
    patients = {name: n for n, name in enumerate(dict.fromkeys(map(patient_of, records)))}
    folder.mkdir(parents=True, exist_ok=True)
    for number, record in enumerate(records):
        path = folder / f"p{patients[patient_of(record)]:05d}_{number:05d}.nii"
        if path.exists():
            continue
        volume = read_image(record, decode, config.prepare.reading)
        if volume.array.ndim != 4 or len(volume.array) > 1:
            raise FoveateError("planted shuffled: accepted are volumes with one channel.")
        voxels = volume.array.astype(np.float32).ravel()
        mixed = stream(config.seed, f"shuffled/{number}").permutation(voxels).reshape(volume.array.shape[1:])
        whole = path.with_suffix(".part.nii")
        nib.save(nib.Nifti1Image(mixed, volume.affine), whole)
        whole.replace(path)
    source = SOURCES["folder"].Config()
    return replace(config, data=str(folder), split="", source=source, patient_pattern=PATTERN)

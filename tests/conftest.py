"""Small cohorts and small configurations, in 2D and 3D."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from foveate.run import pretrain as run
from foveate.run import settings

torch.set_num_threads(1)  # equal bytes need equal thread counts; two test workers share two cores

SHAPES = {2: (72, 80), 3: (24, 26, 20)}
VIEWS = {2: ([64, 64], [32, 32]), 3: ([16, 16, 16], [8, 8, 8])}


def blobs(shape, seed):
    """A smooth random image with structure at several scales, 0 to 1000."""
    rng = np.random.default_rng(seed)
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    image = np.zeros(shape)
    for _ in range(8):
        centre, width = rng.uniform(-0.8, 0.8, len(shape)), rng.uniform(0.1, 0.4)
        squared = sum((a - c) ** 2 for a, c in zip(axes, centre, strict=True))
        image += rng.uniform(0.2, 1) * np.exp(-squared / width**2)
    return np.round(1000 * image / image.max())


def write_cohort(folder, dimension, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        image = blobs(SHAPES[dimension], i)
        if dimension == 3:
            nib.save(
                nib.Nifti1Image(image.astype(np.int16), np.diag([1.0, 1.0, 1.5, 1])), folder / f"v{i}.nii.gz"
            )
        else:
            Image.fromarray((image / 1000 * 255).astype(np.uint8).T).save(folder / f"p{i}.png")
    return folder


@pytest.fixture(scope="session")
def cohorts(tmp_path_factory):
    """dimension -> folder of six images."""
    root = tmp_path_factory.mktemp("cohorts")
    return {d: write_cohort(root / f"images{d}", d) for d in (2, 3)}


def adapt(keys, preset):
    """Leave out what a method does not have, so that any method runs on the same small views."""
    for name in [name for name in keys if not hasattr(preset, name)]:
        del keys[name]
    if not preset.global_crops.source_sizes:
        keys["global_crops"].pop("source_sizes", None)
    if not preset.global_appearance.swap_count:
        keys.pop("global_appearance", None)


def tiny_keys(dimension, data, out, **keys):
    """Keyword arguments of `foveate.pretrain` for a run of seconds."""
    view, crop = VIEWS[dimension]
    nested = {
        "data": str(data),
        "out": str(out),
        "dimension": dimension,
        "size": "small",
        "steps": 4,
        "batch_size": 2,
        "num_workers": 0,
        "log_every": 1,
        "encoder": {"width": 4},
        "method": {
            "global_crops": {"grid": view},
            "local_crops": {"grid": crop, "count": 2},
        },
    }
    if dimension == 3:
        nested["method"]["global_crops"]["source_sizes"] = [[20, 20, 16], [16, 16, 16]]
        nested["method"]["local_crops"]["source_sizes"] = [[8, 8, 8], [12, 12, 8]]
        nested["method"]["global_appearance"] = {"swap_count": 4}
    method = keys.pop("method", {})
    adapt(nested["method"], settings.METHODS[method.get("name", "pcrlv2")].Config.preset(dimension, "small"))
    for name, value in method.items():
        known = nested["method"].get(name)
        nested["method"][name] = {**known, **value} if isinstance(known, dict) else value
    return {**nested, **keys}


@pytest.fixture
def tiny(cohorts, tmp_path):
    """(dimension, **keys) -> a complete configuration on the session's cohort."""

    def build(dimension, out="run", **keys):
        return settings.from_keys(tiny_keys(dimension, cohorts[dimension], tmp_path / out, **keys))

    return build


def stop_at(config, step):
    """Leave a run as SIGTERM after `step` leaves it."""

    class Bomb(run.RunLog):
        def advance(self, done):
            super().advance(done)
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "RunLog", Bomb)
        assert not run.pretrain(config)

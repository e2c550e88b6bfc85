"""Small cohorts and small configurations, in 2D and 3D: those that foveate ships for other packages."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

from foveate.commands.pretrain import run
from foveate.testing.cohorts import SHAPES, blobs, write_cohort
from foveate.testing.runs import VIEWS, stop_at, tiny_keys

__all__ = ["SHAPES", "VIEWS", "blobs", "stop_at", "tiny_keys", "write_cohort"]
pytest_plugins = ("foveate.testing.plugin",)
torch.set_num_threads(1)  # equal bytes need equal thread counts; two test workers share two cores


@pytest.fixture(scope="session", autouse=True)
def one_batch_of_recalibration():
    """A run of two steps would otherwise end with sixteen batches more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "CALIBRATION_BATCHES", 1)
        yield

"""What a device does is timed when it is done."""

import time
from dataclasses import replace

import torch

from foveate.commands.pretrain import run
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from, first_step

BEHIND = 0.5  # seconds of work that the device has still to do when the host is done


def test_the_first_step_of_a_dry_run_is_over_when_the_device_is(tiny, cohorts, monkeypatch):
    config = tiny(2)
    fabric, method = build_fabric(config), run.build_method(config)
    source = batches_from(config, run.open_cache(config), method, fabric, 0)
    pending = [0.0, BEHIND]
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: time.sleep(pending.pop(0)))
    _, seconds = first_step(fabric, method, source, replace(config, accelerator="cuda"))
    assert pending == []
    assert seconds >= BEHIND

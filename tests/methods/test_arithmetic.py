"""Under bf16-mixed: what is drawn, compared or labelled stays float32; only networks compute in bfloat16."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import foveate
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.images import load_images
from foveate.commands.finetune.semi import source_of
from foveate.core.types import Progress
from foveate.runtime.processes import build_fabric
from foveate.runtime.registries import METHODS, TASKS
from foveate.runtime.steps import batches_from
from foveate.testing.test_method import first_batch

HOME, LAYER = str(Path(foveate.__file__).parent), str(torch.nn.modules.module.__file__)
MOVES = {"_to_copy", "_unsafe_view", "cat", "clone", "index", "stack"}  # no digit is lost in them


class Arithmetic(TorchDispatchMode):
    """The lines outside of networks that compute, and those of them that do in half precision."""

    def __init__(self):
        super().__init__()
        self.lines, self.half = set(), set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        name, line = func._schema.name.removeprefix("aten::"), line_of(sys._getframe(1))
        if line.startswith(("/losses", "/views", "/methods", "/tasks")) and not (
            func.is_view or name in MOVES
        ):
            self.lines.add(line)
            dtypes = {x.dtype for x in tree_leaves((args, found)) if isinstance(x, torch.Tensor)}
            self.half |= {f"{line} {name}"} if dtypes & {torch.bfloat16, torch.float16} else set()
        return found


def line_of(frame):
    """The innermost line of foveate, or nothing where it called a layer."""
    while frame and not frame.f_code.co_filename.startswith(HOME):
        frame = None if frame.f_code.co_filename == LAYER else frame.f_back
    return f"{frame.f_code.co_filename.removeprefix(HOME)}:{frame.f_lineno}" if frame else ""


def check_step(fabric, model, batch):
    """Digits arrive in `forward` as they were made, and are lost in networks alone."""
    seen, made = {}, dtypes_of(batch)
    model.register_forward_pre_hook(lambda _, args: seen.update(args[0]))
    net = fabric.setup_module(model)
    with Arithmetic() as looked:
        losses = net(batch, Progress(0, 4, 0))
    assert dtypes_of(seen) == made
    assert not {torch.bfloat16, torch.float16} & set(made.values())
    assert sorted(looked.half) == []
    assert any(line.startswith("/losses") or "methods" in line for line in looked.lines)  # it did look
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def dtypes_of(batch):
    """Where each tensor lies and what its numbers are; a copy lies elsewhere."""
    tensors = [x for x in tree_leaves(batch) if isinstance(x, torch.Tensor)]
    return {x.data_ptr(): x.dtype for x in tensors if x.numel()}


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("name", list(METHODS))
def test_of_a_method_only_networks_compute_in_bfloat16(tiny, dimension, name):
    check_step(*first_batch(tiny(dimension, method={"name": name}, precision="bf16-mixed")))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("name", list(TASKS))
def test_of_a_task_only_networks_compute_in_bfloat16(tiny_task, tmp_path, dimension, name):
    material = load_images(replace(tiny_task(name, dimension), precision="bf16-mixed"), tmp_path / "cache")
    task, fabric = build_task(material.config), build_fabric(material.config)
    source = source_of(material.config, material.train, material.unlabelled)
    check_step(fabric, task, next(batches_from(material.config, source, task, fabric, 0)))

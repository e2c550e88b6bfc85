"""The processes of a run: whether somebody started them already, and what Fabric makes of them."""

from __future__ import annotations

import atexit
import logging
import os
import signal
import sys
from collections.abc import Mapping
from typing import Literal, TypeVar, final

import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lsf import LSFEnvironment
from lightning_fabric.plugins.environments.mpi import MPIEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.plugins.precision.precision import Precision as FloatPrecision
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from foveate.core.types import Ending, FoveateError
from foveate.nets.compiled import compile_parts
from foveate.nets.layers import laid_out
from foveate.nets.onednn import sound_in_bfloat16
from foveate.nets.recompute import recompute_blocks
from foveate.runtime.config import RunConfig
from foveate.runtime.precision import Precision, check_precision, device_of, set_up_device
from foveate.runtime.resources.gpus import check_gpus
from foveate.train.logging import CONSOLE, say

T = TypeVar("T")
Starter = Literal["nobody", "foveate", "torchrun", "SLURM", "LSF", "MPI"]
STARTERS: dict[
    Starter, type[TorchElasticEnvironment | SLURMEnvironment | LSFEnvironment | MPIEnvironment]
] = {
    "torchrun": TorchElasticEnvironment,
    "SLURM": SLURMEnvironment,
    "LSF": LSFEnvironment,
    "MPI": MPIEnvironment,
}
COUNTS = {"torchrun": "WORLD_SIZE", "SLURM": "SLURM_STEP_NUM_TASKS", "foveate": "WORLD_SIZE"}


def starter() -> Starter:
    """Who started this process as one of several."""
    found: list[Starter] = [name for name, environment in STARTERS.items() if environment.detect()]
    return found[0] if found else "foveate" if "LOCAL_RANK" in os.environ else "nobody"


def check_processes(config: RunConfig, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse what cannot be computed, before anything is started."""
    for key, value in (
        ("devices", config.devices),
        ("num_nodes", config.num_nodes),
        ("batch_size", config.batch_size),
        ("accumulate", config.accumulate),
    ):
        if value < 1:
            raise FoveateError(f"--{key} {value}: accepted are whole numbers from 1.")
    check_gpus(config)
    world, who = config.devices * config.num_nodes, starter()
    started = environment.get(COUNTS.get(who, ""), str(world))
    if int(started) != world:
        raise FoveateError(
            f"{who} started {started} processes, and --devices {config.devices} x --num_nodes "
            f"{config.num_nodes} says {world}; accepted: the same number."
        )
    if config.strategy == "fsdp":
        raise FoveateError(
            "--strategy fsdp is not there yet: torch has it on accelerators only, and none was at hand to "
            "try previews and exports of sharded weights on. Accepted: ddp. For a network that does not fit: "
            "--activation_checkpointing true, --precision bf16-mixed, more --accumulate for a smaller "
            "--batch_size."
        )
    if config.compile and config.activation_checkpointing:
        raise FoveateError(
            "--compile true with --activation_checkpointing true: torch cannot compile blocks whose maps are "
            "computed twice; accepted: one of the two."
        )
    if config.sync_batchnorm and config.accelerator != "cuda":
        raise FoveateError(
            f"--sync_batchnorm true with --accelerator {config.accelerator}: torch has it on GPUs only; "
            "accepted here: false, or --encoder.norm group, which needs no agreement."
        )


@final
class Autocast(MixedPrecision):
    """Mixed precision that leaves the batch alone.

    Fabric's own casts every floating tensor that goes into `forward` to bfloat16. Images may lose digits, and
    autocast sees to them; affines, labels and restoration targets may not.
    """

    def convert_input(self, data: T) -> T:
        """The batch as it is."""
        return data

    def convert_output(self, data: T) -> T:
        """The losses as they are: in float32, which the tests of the methods check."""
        return data


def plugin_of(precision: Precision, accelerator: str) -> FloatPrecision:
    """What Fabric is handed for a precision."""
    return Autocast(precision, accelerator) if precision == "bf16-mixed" else FloatPrecision()


def build_fabric(config: RunConfig) -> Fabric:
    """Devices, precision and this process among its peers; only the first one speaks."""
    check_processes(config)
    many = config.devices * config.num_nodes > 1
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    device_of(config.accelerator)
    set_up_device(
        config.accelerator, float32_matmul=config.float32_matmul, deterministic=config.deterministic
    )
    try:
        fabric = Fabric(
            accelerator=config.accelerator,
            devices=list(config.gpus) or config.devices,
            num_nodes=config.num_nodes,
            plugins=[plugin_of(config.precision, config.accelerator)],
            strategy=data_parallel() if many else "auto",
        )
        fabric.launch()
    except Exception as error:  # Fabric's own kinds of refusal have no common parent
        raise FoveateError(
            f"--accelerator {config.accelerator} --devices {config.devices} --num_nodes {config.num_nodes} "
            f"cannot be set up: {' '.join(str(error).split())}"
        ) from error
    if many:
        atexit.register(leave_peers)
    if not fabric.is_global_zero:  # and where somebody has quietened the console, it stays so
        CONSOLE.quiet = True
    if words := check_precision(config.precision, config.accelerator):
        say(words)
    return fabric


def data_parallel() -> DDPStrategy:
    """Every process has the whole network; gradients lie in the memory that is sent, instead of a copy of it.

    Not `static_graph`, although the graph is static (`nets.layers.anchored`): it spares the search for unused
    weights, which is off anyway, and torch 2.13 fails with it where the first of a step's micro-batches is
    not sent. Buffers are those of process 0 at every step: running statistics and the queue of MoCo come
    from other samples on every process, and a target network follows them.
    """
    return DDPStrategy(gradient_as_bucket_view=True)


def leave_peers() -> None:
    """End the process group while Python still runs: its threads abort a process that is taken down first."""
    if dist.is_initialized():
        dist.destroy_process_group()


def settle(model: nn.Module, config: RunConfig) -> None:
    """Change a network in place as the configuration asks: memory, time, shared statistics.

    Networks are built in the layout for a CPU; here it is known where they go.
    """
    if config.accelerator == "cuda":
        laid_out(model, config.dimension, "cuda")
    else:
        sound = config.precision == "32-true" or sound_in_bfloat16(model)
        torch.backends.mkldnn.set_flags(sound)  # type: ignore[no-untyped-call]
        if not sound:
            say(
                "--precision bf16-mixed on a CPU: oneDNN computes strided convolutions wrongly in bfloat16: "
                "this network goes without it, many times slower. Faster here: --precision 32-true, or an "
                "encoder without strides: unet2d, unet3d."
            )
    if config.activation_checkpointing:
        recompute_blocks(model)
    if config.sync_batchnorm and config.devices * config.num_nodes > 1:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]
    if config.compile:
        compile_parts(model, say)


def requeue_before_the_first_step() -> None:
    """Until the loop takes over, SIGUSR1 ends the process with the code that means to go on later."""
    signal.signal(signal.SIGUSR1, lambda _number, _frame: sys.exit(Ending.REQUEUE.value))

"""What arithmetic a device computes in: the one place that says it, for training and for answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any, Literal, cast, final

import torch
from lightning_fabric.plugins.precision.amp import MixedPrecision
from lightning_fabric.plugins.precision.precision import Precision as FloatPrecision

from foveate.core.types import FoveateError
from foveate.runtime.memory import found_accelerator

Precision = Literal["32-true", "bf16-mixed"]
Accelerator = Literal["cpu", "cuda"]
Matmul = Literal["highest", "high"]
BFLOAT16_FROM = (8, 0)  # compute capability of the A100; older GPUs emulate bfloat16, very slowly


def accelerator_of(given: Mapping[str, Any]) -> Accelerator:
    """Where to compute, as the given keys say; else on a GPU where there is one."""
    return cast(Accelerator, str(given["accelerator"])) if "accelerator" in given else found_accelerator()


def usual_precision(accelerator: str) -> Precision:
    """What a run computes in where nothing is said: bfloat16 on GPUs that have it, float32 elsewhere."""
    return "bf16-mixed" if accelerator == "cuda" and has_bfloat16() else "32-true"


def precision_here(trained: str, accelerator: str) -> Precision:
    """What the weights of a run answer in: its own precision where this device has it, else float32."""
    return usual_precision(accelerator) if trained == "bf16-mixed" else "32-true"


def has_bfloat16() -> bool:
    """Whether there is a GPU and its arithmetic knows bfloat16."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= BFLOAT16_FROM


def autocast_for(precision: str, device_type: str) -> AbstractContextManager[Any]:
    """The context that a network computes in: what may be bfloat16 is, what must not stays float32."""
    return torch.autocast(device_type, dtype=torch.bfloat16, enabled=precision == "bf16-mixed")


@final
class Autocast(MixedPrecision):
    """Mixed precision that leaves the batch alone.

    Fabric's own casts every floating tensor that goes into `forward` to bfloat16. Images may lose digits, and
    autocast sees to them; affines, labels and restoration targets may not.
    """

    def convert_input(self, data: Any) -> Any:  # noqa: ANN401 - Fabric's signature
        """The batch as it is."""
        return data

    def convert_output(self, data: Any) -> Any:  # noqa: ANN401 - Fabric's signature
        """The losses as they are: in float32, which the tests of the methods check."""
        return data


def plugin_of(precision: Precision, accelerator: str) -> FloatPrecision:
    """What Fabric is handed for a precision."""
    return Autocast(precision, accelerator) if precision == "bf16-mixed" else FloatPrecision()


def device_of(accelerator: str) -> torch.device:
    """The device of a name; an error where it is not there."""
    if accelerator == "cuda" and not torch.cuda.is_available():
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        why = "" if visible is None else f", and CUDA_VISIBLE_DEVICES is {visible!r}"
        raise FoveateError(
            f"--accelerator cuda: no GPU was found by torch {torch.__version__}{why}; accepted here: "
            "--accelerator cpu."
        )
    return torch.device(accelerator)


def set_up_device(accelerator: str, *, matmul: Matmul = "highest") -> None:
    """Torch's switches for a whole process, on GPUs only: CPUs compute as they always do.

    Args:
        accelerator: "cpu" or "cuda".
        matmul: "highest" computes what is float32 in float32, "high" in TF32, convolutions included: torch
            would take TF32 for convolutions and float32 for matrices.
    """
    if accelerator != "cuda":
        return
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = matmul == "high"
    torch.backends.cudnn.benchmark = True  # views and windows have few shapes, which do not change

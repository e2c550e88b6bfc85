"""What arithmetic a device computes in: the one place that says it, for training and for answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Literal, cast

import torch

from foveate.core.types import FoveateError
from foveate.runtime.memory import found_accelerator

Precision = Literal["32-true", "bf16-mixed"]
Answering = Literal["auto", "32-true", "bf16-mixed"]  # of predict and evaluate
Accelerator = Literal["cpu", "cuda"]
Matmul = Literal["highest", "high"]
BFLOAT16_FROM = (8, 0)  # compute capability of the A100; older GPUs emulate bfloat16, very slowly


def accelerator_of(given: Mapping[str, Any]) -> Accelerator:
    """Where to compute, as the given keys say; else on a GPU where there is one."""
    return cast(Accelerator, str(given["accelerator"])) if "accelerator" in given else found_accelerator()


def devices_of(given: Mapping[str, Any]) -> int:
    """The devices of each machine, as the given keys say."""
    said = str(given.get("devices", 1))
    return int(said) if said.isdigit() else 1  # anything else is refused when it is parsed


def usual_precision(accelerator: str) -> Precision:
    """What a run computes in where nothing is said: bfloat16 on GPUs that have it, float32 elsewhere."""
    return "bf16-mixed" if accelerator == "cuda" and has_bfloat16() else "32-true"


def has_bfloat16() -> bool:
    """Whether there is a GPU and its arithmetic knows bfloat16."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= BFLOAT16_FROM


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


def check_precision(precision: Precision, accelerator: str) -> str:
    """What to say of a precision on this GPU, if anything; an error where it cannot be meant."""
    if accelerator != "cuda" or has_bfloat16():
        return ""
    gpu = f"{torch.cuda.get_device_name()} has no bfloat16 arithmetic (compute capability below 8.0)"
    if precision == "bf16-mixed":
        raise FoveateError(f"--precision bf16-mixed: {gpu}; accepted here: --precision 32-true.")
    return f"{gpu}: it computes in float32"


def answering_precision(said: Answering, card: Mapping[str, Any], accelerator: str) -> tuple[Precision, str]:
    """What a trained network answers in, and what to say of it, if anything.

    As it was trained, so that the numbers are those that chose its weights; on a CPU, where bfloat16 is slow,
    and on GPUs without it in float32.

    Args:
        said: What was asked for; "auto" is the above.
        card: The card of the weights.
        accelerator: Where they compute.
    """
    if said != "auto":
        return said, check_precision(said, accelerator)
    trained = cast(Precision, card.get("precision", "32-true"))
    if accelerator != "cuda" or trained == "32-true":
        return "32-true", ""
    return ("bf16-mixed", "") if has_bfloat16() else ("32-true", check_precision("32-true", accelerator))


def set_up_device(
    accelerator: str, *, float32_matmul: Matmul = "highest", deterministic: bool = False
) -> None:
    """Torch's switches, for the whole process.

    Args:
        accelerator: "cpu", where none of this changes what is computed, or "cuda".
        float32_matmul: "highest" computes in float32, "high" in TF32, convolutions included: of its own torch
            takes TF32 for convolutions and float32 for matrices.
        deterministic: Whether operations that give the same bits every time are chosen where there are some.
    """
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when cuBLAS starts
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if accelerator == "cuda":
        torch.set_float32_matmul_precision(float32_matmul)
        torch.backends.cudnn.allow_tf32 = float32_matmul == "high"
        torch.backends.cudnn.benchmark = (
            not deterministic
        )  # views and windows have few shapes, always the same

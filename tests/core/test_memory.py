"""Whether an error says that memory ran out."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import torch

from foveate.core.memory import is_out_of_memory

TOO_MUCH = 2**52  # elements


def test_what_allocators_raise_is_recognised() -> None:
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(TOO_MUCH)
    with pytest.raises(MemoryError) as of_numpy:
        np.empty(TOO_MUCH)
    assert is_out_of_memory(of_torch.value)
    assert is_out_of_memory(of_numpy.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("NCCL error in: ... Cuda failure 2 'out of memory'"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
)
def test_words_of_gpus_and_of_the_system_are_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed."),
        ValueError("out of memory"),
        OSError(errno.ENOSPC, "No space left on device"),
    ],
)
def test_other_errors_are_not(error: Exception) -> None:
    assert not is_out_of_memory(error)

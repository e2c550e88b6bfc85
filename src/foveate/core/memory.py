"""Whether an error says that memory ran out: torch, CUDA and NumPy each have words of their own."""

from __future__ import annotations

import errno

SIGNS = ("out of memory", "can't allocate memory", "cannot allocate memory", "_status_alloc_failed")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, that of a GPU or that of the machine.

    By the text where torch raises a plain RuntimeError: its allocator for CPUs, cuDNN, cuBLAS and NCCL.

    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried 4 bytes."))
    True
    >>> is_out_of_memory(RuntimeError("shapes differ"))
    False
    """
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(sign in text for sign in SIGNS)

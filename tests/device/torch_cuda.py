"""`torch.cuda` and Fabric as they are on a machine with one GPU, for the pretended device."""

import threading
import time
from contextlib import contextmanager

import lightning_fabric.accelerators.cuda as fabric_cuda
import torch
from ledger import LEDGER, WAIT
from pretended import MODE, Functions, Generator, Tagged, is_pinned, pin
from torch.optim import optimizer

MEMORY = 1 << 36


class Stream:
    """Everything happens at once, so every stream is the same."""

    def __init__(self, *_, **__):
        self.device = torch.device("cuda", 0)

    def synchronize(self):
        LEDGER.note(WAIT, "Stream.synchronize")

    def wait_stream(self, stream):
        pass

    def wait_event(self, event):
        pass

    def record_event(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def query(self):
        return True

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


class Event:
    """A point in time, reached at once."""

    def __init__(self, *_, **__):
        self.when = 0.0

    def record(self, _stream=None):
        self.when = time.perf_counter()

    def wait(self, _stream=None):
        pass

    def query(self):
        return True

    def synchronize(self):
        LEDGER.note(WAIT, "Event.synchronize")

    def elapsed_time(self, end):
        return 1000 * (end.when - self.when)


STREAM = Stream()
SAID = {  # what torch.cuda answers
    "is_available": True,
    "is_initialized": False,
    "device_count": 1,
    "current_device": 0,
    "get_device_capability": (9, 0),
    "get_device_name": "pretended",
    "is_bf16_supported": True,
    "max_memory_reserved": 1 << 30,
    "memory_reserved": 1 << 30,
    "max_memory_allocated": 1 << 29,
    "memory_allocated": 1 << 29,
    "mem_get_info": (MEMORY, MEMORY),
    "current_stream": STREAM,
    "default_stream": STREAM,
    "_is_in_bad_fork": False,
}
IGNORED = (
    "_lazy_init",
    "set_device",
    "empty_cache",
    "manual_seed",
    "manual_seed_all",
    "reset_peak_memory_stats",
    "set_rng_state",
)


def answer(value):
    """A function that takes anything and says this."""
    return lambda *_args, **_kwargs: value


def pinned(tensor, *_args, **_kwargs):
    """A copy in memory that counts as page-locked."""
    if isinstance(tensor, Tagged):
        LEDGER.refuse("cannot pin a tensor of cuda:0, only dense CPU tensors can be pinned")
    return pin(tensor.clone())


def believe():
    """Make torch and Fabric see one GPU, for the rest of the process."""
    torch.autograd.set_multithreading_enabled(False)
    # oneDNN's bfloat16 gradient of small 3D convolutions reads unwritten memory: a fault of the CPU, no GPU's
    torch.backends.mkldnn.set_flags(False)
    torch.backends.mkldnn.set_flags = answer((False,))
    for name, value in SAID.items():
        setattr(torch.cuda, name, answer(value))
    for name in IGNORED:
        setattr(torch.cuda, name, answer(None))
    torch.cuda.synchronize = lambda *_: LEDGER.note(WAIT, "torch.cuda.synchronize")
    torch.cuda.get_rng_state = lambda *_: torch.empty(16, dtype=torch.uint8)
    torch.cuda.stream = lambda stream: stream or STREAM
    torch.cuda.Stream, torch.cuda.Event = Stream, Event
    torch.cuda.amp.common.amp_definitely_not_available = answer(False)
    fabric_cuda.num_cuda_devices = answer(1)
    fabric_cuda.CUDAAccelerator.is_available = staticmethod(answer(True))
    fabric_cuda.CUDAAccelerator.auto_device_count = staticmethod(answer(1))
    fabric_cuda.find_usable_cuda_devices = answer([0])
    fabric_cuda._get_all_visible_cuda_devices = answer([0])
    torch.Generator = Generator
    torch.Tensor.pin_memory, torch.Tensor.is_pinned = pinned, lambda self, *_: is_pinned(self)
    torch.Tensor.record_stream = answer(None)
    optimizer._foreach_supported_types.append(Tagged)


def in_every_thread():
    """Modes belong to a thread; a GPU does not."""
    run = threading.Thread.run

    def with_modes(self):
        with Functions(), MODE:
            run(self)

    threading.Thread.run = with_modes


@contextmanager
def pretended_cuda():
    """Inside it torch, Fabric and foveate believe in one GPU. Once per process: nothing is taken back."""
    believe()
    in_every_thread()
    with Functions(), MODE:
        yield LEDGER

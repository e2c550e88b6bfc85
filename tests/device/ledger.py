"""What happened on the pretended device, and which line of foveate asked for it."""

import sys
from collections import Counter

WAIT = "wait"  # the host stands still until the device has done all that was asked of it
BLOCKING = "blocking copy"  # to the device, in a way that waits as well
COPY = "copy"  # in either direction, without waiting
SCALAR = "CPU scalar"  # a 0-dimensional CPU tensor in a pointwise operation: allowed, the value is read
WIDER = "computed in float32"  # for want of a bfloat16 kernel on the CPU: CUDA's own list has to be looked at
CPU_INDEX = "index by a CPU tensor"  # allowed as well, and copied

OURS, OUTSIDE = "/foveate/", ("/tests/device/", "/torch/utils/_", "_dynamo", "/torch/_compile")


class MismatchError(RuntimeError):
    """A GPU would refuse this call."""


def place():
    """file:line of the innermost frame of foveate, and of the frame outside it that it called."""
    frame, inner = sys._getframe(1), ""
    while frame is not None:
        name = frame.f_code.co_filename
        if OURS in name and "/site-packages/" not in name and "/tests/" not in name:
            return f"{name.rpartition(OURS)[2]}:{frame.f_lineno}{inner}"
        if not inner and not any(part in name for part in OUTSIDE):
            inner = f" <- {'/'.join(name.split('/')[-2:])}:{frame.f_lineno}"
        frame = frame.f_back
    return f"(autograd or library){inner}"


class Ledger:
    """Counts of events by kind, place and operation; and what was refused."""

    def __init__(self):
        self.events = Counter()
        self.refused = {}

    def note(self, kind, what):
        self.events[(kind, place(), what)] += 1

    def refuse(self, why, error=MismatchError):
        where = place()
        self.refused.setdefault(where, why)
        raise error(f"{where}: {why}")

    def clear(self):
        self.events.clear()
        self.refused.clear()

    def copy(self):
        return Counter(self.events)


LEDGER = Ledger()


def total(events, *kinds):
    """How many events of these kinds."""
    return sum(n for (kind, _, _), n in events.items() if kind in kinds)

"""How long a device waits for data, on a device that works behind the host's back."""

import pytest
import torch

from foveate.train.waiting import Waiting, waiting_of


class Device:
    """A clock of the host and of a device that takes work in turn."""

    def __init__(self):
        self.now = self.free = 0.0

    def work(self, seconds):
        self.free = max(self.free, self.now) + seconds

    def mark(self):
        return Mark(self)


class Mark:
    def __init__(self, device):
        self.device = device

    def record(self):
        self.when = max(self.device.now, self.device.free)

    def synchronize(self):
        self.device.now = max(self.device.now, self.when)

    def elapsed_time(self, end):
        assert end.when <= self.device.now, "the device has not come to it"
        return 1000 * (end.when - self.when)


def waited(load, step, steps=10):
    """The share of the time that a device waits, where loading and computing a batch take so long."""
    device = Device()
    waiting = Waiting(new_mark=device.mark)
    ready = 0.0  # when the worker has the next batch
    for _ in range(steps):
        ready += load
        before, device.now = device.now, max(device.now, ready)
        waiting.came(device.now - before)
        device.work(step)
        waiting.worked()
    total = waiting.total()
    return total / max(device.now, device.free)


@pytest.mark.parametrize(("load", "step", "share"), [(1.0, 4.0, 0.025), (2.2, 2.0, 0.17), (4.0, 1.0, 0.77)])
def test_only_what_the_device_had_nothing_to_do_for_counts(load, step, share):
    """A loader a little slower than the device keeps the host waiting nearly always, the device hardly."""
    assert waited(load, step) == pytest.approx(share, abs=0.02)


def test_it_never_counts_more_than_the_host_waited():
    """What else the host does between steps, such as a validation, is not want of data."""
    device = Device()
    waiting = Waiting(new_mark=device.mark)
    waiting.came(3.0)  # the first batch: nothing was to be done before
    device.work(1.0)
    waiting.worked()
    device.now = 60.0
    waiting.came(0.5)
    assert waiting.total() == 3.5
    assert waiting.total() == 0.0


def test_on_a_cpu_the_hosts_wait_is_the_devices():
    waiting = waiting_of(torch.device("cpu"))
    waiting.worked()
    waiting.came(1.25)
    assert waiting.total() == 1.25

"""The rules on single tensors, and faults that a GPU would show, planted into the steps of a method."""

from contextlib import contextmanager

import steps
import torch
from ledger import BLOCKING, COPY, CPU_INDEX, LEDGER, SCALAR, WAIT, MismatchError, place, total

from foveate.methods.simsiam import SimSiam

BIG = 1 << 20
REFUSED = {
    "a CPU tensor beside a device tensor": lambda x: x * torch.ones(2),
    "a CPU generator for a draw on the device": lambda x: torch.rand(
        3, device=x.device, generator=torch.Generator()
    ),
    "numpy of a device tensor": lambda x: x.detach().numpy(),
    "a device generator for a draw on the CPU": lambda x: torch.rand(3, generator=torch.Generator(x.device)),
    "a device index of a CPU tensor": lambda x: torch.ones(3)[x.detach().reshape(1).long()],
    "values of the CPU for a part of a device tensor": lambda x: (
        x.detach().reshape(1).index_put_((torch.zeros(1, dtype=torch.long),), torch.ones(1))
    ),
    "a CPU vector in an operation in place": lambda x: x.detach().repeat(2).add_(torch.ones(2)),
    "pinning a device tensor": lambda x: x.detach().pin_memory(),
}
NOTED = {
    "one item": (WAIT, lambda x: x.item()),
    "a float": (WAIT, lambda x: float(x.detach())),
    "a list": (WAIT, lambda x: x.tolist()),
    "a condition": (WAIT, lambda x: bool(x > 0)),
    "a shape that depends on numbers": (WAIT, lambda x: x.detach().reshape(1).nonzero()),
    "a mask as an index": (WAIT, lambda x: x.detach().reshape(1)[torch.ones(1, device=x.device) > 0]),
    "a copy to the CPU": (WAIT, lambda x: x.cpu()),
    "a copy to memory that is not pinned": (
        WAIT,
        lambda x: torch.zeros(()).copy_(x.detach(), non_blocking=True),
    ),
    "synchronize": (WAIT, lambda _: torch.cuda.synchronize()),
    "numbers made on the device": (BLOCKING, lambda x: torch.tensor([1.0, 2.0], device=x.device)),
    "a scalar made on the device": (BLOCKING, lambda x: x.new_tensor(1.0)),
    "a copy to the device": (BLOCKING, lambda x: torch.ones(BIG).pin_memory().to(x.device)),
    "much from memory that is not pinned": (
        BLOCKING,
        lambda x: torch.ones(BIG).to(x.device, non_blocking=True),
    ),
    "a CPU index": (BLOCKING, lambda x: x.detach().reshape(1)[torch.zeros(1, dtype=torch.long)]),
    "a CPU scalar": (SCALAR, lambda x: x * torch.tensor(2.0)),
    "pinned memory": (COPY, lambda x: torch.ones(BIG).pin_memory().to(x.device, non_blocking=True)),
    "a part of it": (COPY, lambda x: torch.ones(BIG).pin_memory()[8:].to(x.device, non_blocking=True)),
    "a few numbers": (COPY, lambda x: torch.ones(2).to(x.device, non_blocking=True)),
    "a copy to the CPU for later": (COPY, lambda x: x.detach().to("cpu", non_blocking=True)),
}


def rules():
    """What a GPU refuses, and what makes the host wait, one by one."""
    x = torch.zeros((), device="cuda", requires_grad=True)
    for name, fault in REFUSED.items():
        LEDGER.clear()
        try:
            fault(x)
        except (MismatchError, TypeError):
            assert LEDGER.refused, name
        else:
            raise AssertionError(f"not refused: {name}")
    for name, (kind, use) in NOTED.items():
        LEDGER.clear()
        use(x)
        kinds = [found for (found, _, _), n in LEDGER.events.items() for _ in range(n)]
        assert kinds == [kind], f"{name}: {kinds}"
    LEDGER.clear()
    before = torch.zeros(2, device=x.device)
    with torch.inference_mode():
        there = torch.ones(2).to(dtype=torch.float16, device=x.device)
        assert [len(part) for part in before.split(1)] == [1, 1]
    assert (there.device.type, total(LEDGER.events, BLOCKING)) == ("cuda", 1)
    (x + 1).square().sum().backward()
    assert (x.grad.device.type, x.grad.item()) == ("cuda", 2.0)


@contextmanager
def planted(fault):
    """Every forward pass of SimSiam commits `fault` with its loss."""
    forward = SimSiam.forward

    def faulty(self, batch, progress):
        losses = forward(self, batch, progress)
        fault(losses["siamese"])
        return losses

    SimSiam.forward = faulty
    try:
        yield
    finally:
        SimSiam.forward = forward


def refused(config):
    """What a step is refused for; empty where it is not."""
    LEDGER.clear()
    try:
        steps.counted(config)
    except (MismatchError, TypeError):
        assert LEDGER.refused
    except RuntimeError as error:  # a convolution with a bias looks at its input by itself
        if "Input type" not in str(error):
            raise
        return {"convolution": str(error)}
    return LEDGER.refused


def planted_faults():
    """A step is refused for each of them, or has one wait more."""
    config = steps.method_config(2, "simsiam")
    clean = steps.counted(config)
    for name in list(REFUSED)[:3]:
        with planted(REFUSED[name]):
            assert refused(config), f"not refused: {name}"
    with planted(torch.Tensor.item):
        found = steps.counted(config)
    assert (found.waits, found.blocking) == (clean.waits + 1, clean.blocking)


@contextmanager
def moves(forgotten=""):
    """Calls of `to` that bring a CPU tensor to the device, by place; one place forgets to."""
    to, seen = torch.Tensor.to, []

    def watched(self, *args, **kwargs):
        moved = to(self, *args, **kwargs)
        if not self.ndim or self.device == moved.device or moved.device.type != "cuda":
            return moved  # a GPU takes a single number from the CPU
        where = place()
        seen.append(where)
        return to(self, moved.dtype) if where == forgotten else moved

    torch.Tensor.to = watched
    try:
        yield seen
    finally:
        torch.Tensor.to = to


def forgotten_moves(name, dimension):
    """No call of `to` in the steps of a method can be left out: refused, or an index that is copied."""
    config = steps.method_config(dimension, name)
    with moves() as seen:
        steps.counted(config)
    places = list(dict.fromkeys(seen))
    assert places, f"no step of {name} moves anything"
    for where in places:
        with moves(forgotten=where):
            found = refused(config) or [what for _, _, what in LEDGER.events if what == CPU_INDEX]
            assert found, f"{where}: the tensor stayed on the CPU, and nothing was refused"
    return places

"""What the main process does for the views of a step, apart from the network.

    OMP_NUM_THREADS=1 python benchmarks/step/host_time.py [--only NAME] [--dimensions 2,3]

At the published sizes, batches of 64 (2D) and 32 (3D). "drawn" is what the main process did in every step
while the device waited, and what a worker does now while it computes. "asked" is what the main process still
does: it finds the numbers in the batch and asks the device for operations, as its own milliseconds + the
number of operations. They go to torch's meta device, where nothing is computed but shapes. Of many operations
that is written in Python and takes 50 to 600 microseconds, none of which a GPU's host spends: each operation
is asked for once more by itself, and what it takes is not counted. In its place stand the 10 microseconds of
LAUNCH, which no one measured here. "MB" is what was drawn for a batch. Processor time of the thread, which
others at work do not change, the least of several turns, in ms.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC
from foveate.core.contracts import Method
from foveate.core.rng import torch_streams
from foveate.core.types import Batch
from foveate.methods.region_contrast import RegionContrast
from foveate.runtime.registries import METHODS
from foveate.views import intensity, pipeline
from foveate.views.alignment import Sites
from foveate.views.drawn import draw_ahead, drawn

BATCH = {2: 64, 3: 32}
SEED, TURNS, MORE_TURNS = 0, 15, 100
LAUNCH = 0.01  # ms of the host for an operation on a GPU: dispatch and start of a kernel, at the upper end
META = torch.device("meta")


def built(dimension: int, name: str) -> Method:
    """A method with the published views on a narrow network of the same strides."""
    keys = {"dimension": str(dimension), "size": "paper", "method.name": name, "encoder.width": "4"}
    return build_method(SPEC.resolve({}, {"data": "none", "out": "none", **keys}))


def batch_of(method: Method, dimension: int) -> Batch:
    """Shapes as the loader gives them, and regions of 12 voxels a side, about as super-pixels are."""
    count, crops, affines = BATCH[dimension], {}, {}
    for crop, spec in method.crops.items():
        crops[crop] = torch.zeros(()).expand(count, spec.count, 1, *spec.grid)
        eye = torch.eye(dimension, dimension + 1).expand(count, spec.count, -1, -1).clone()
        eye[:, 1:, :, -1] += 3
        affines[crop] = eye
    regions = {f"{name}/global": tiles(crops["global"].shape) for name in method.derived}
    return {
        "crops": crops,
        "affines": affines,
        "regions": regions,
        "labels": {},
        "extent": torch.full((count, dimension), 256.0),
        "spacing": torch.ones(count, dimension),
        "index": tuple(range(count)),
    }


def tiles(shape: torch.Size) -> Tensor:
    """Regions 1, 2, 3 ... of every view, the second of a pair shifted by half of one."""
    views = []
    for view in range(shape[1]):
        number = torch.zeros((1,) * len(shape[3:]), dtype=torch.long)
        for axis, size in enumerate(shape[3:]):
            line = (torch.arange(size) + 6 * view) // 12
            number = number * 40 + line.reshape([-1 if i == axis else 1 for i in range(len(shape[3:]))])
        views.append(number + 1)
    return torch.stack(views).expand(shape[0], *[-1] * (len(shape) - 2)).contiguous()


def ask(method: Method, batch: Batch) -> None:
    """Everything of a step that comes before the network."""
    if isinstance(method, RegionContrast):
        if method.base:
            ask(method.base, batch)
        method.views(batch, SEED)
        drawn(batch, method.cells, SEED, META)
        return
    looks = getattr(method, "looks", method.views)
    looks(batch, SEED)
    for sites in (each for each in method.draws if isinstance(each, Sites)):
        drawn(batch, sites, SEED, META)
    if overlap := getattr(method, "overlap", None):
        cells = next(draw.cells for draw in method.draws if hasattr(draw, "cells"))
        overlap(batch, torch.empty(1, 1, *cells, device=META), SEED)


def milliseconds(work: Callable[[], object], turns: int = TURNS) -> float:
    """The least of some turns after a first."""
    work()
    times = []
    for _ in range(turns):
        started = time.thread_time()
        work()
        times.append(1000 * (time.thread_time() - started))
    return min(times)


class Asked(TorchDispatchMode):
    """Keeps operations."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Callable[[], object]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN204
        """One more, unless it only looks at numbers another way."""
        operation = partial(func, *args, **(kwargs or {}))
        self.operations += [] if func.is_view else [operation]
        return operation()


def row(dimension: int, name: str) -> str:
    """Drawn, asked, megabytes."""
    method = built(dimension, name)
    batch = batch_of(method, dimension)
    made = draw_ahead(batch, method.draws, SEED)
    found = made["drawn"]
    size = found.numbers.nbytes + sum(x.nbytes for maps in found.maps.values() for x in maps.values())
    there: Batch = {**made, "crops": {k: x.to(META) for k, x in batch["crops"].items()}}
    there["drawn"] = found._replace(
        numbers=found.numbers.to(META),
        maps={draw: {k: x.to(META) for k, x in maps.items()} for draw, maps in found.maps.items()},
    )
    drawing = milliseconds(lambda: draw_ahead(batch, method.draws, SEED))
    with Asked() as asked:
        ask(method, there)
    own = milliseconds(lambda: ask(method, there), MORE_TURNS) - sum(map(milliseconds, asked.operations))
    total = own + LAUNCH * len(asked.operations)
    return f"{drawing:.1f} | {total:.1f} ({own:.1f} + {len(asked.operations)}) | {size / 1e6:.1f}"


def stand_in() -> None:
    """What the meta device lacks: autocast, and generators. As many numbers are drawn as a GPU has draws."""
    torch.autocast = lambda *_, **__: nullcontext()

    def rows(
        _bulk: Tensor, seed: int, purpose: str, counters: Sequence[int], together: int
    ) -> Iterator[tuple[Tensor, torch.Generator]]:
        ones = torch.empty(len(counters) // together, 1)
        streams = torch_streams(ones.device, seed, purpose, counters[::together])
        return zip(ones.split(1), streams, strict=True)

    intensity.rows_to_draw = pipeline.rows_to_draw = rows


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="a part of the name")
    parser.add_argument("--dimensions", default="2,3")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    stand_in()
    dimensions = [int(d) for d in chosen.dimensions.split(",")]
    head = "".join(f" {d}D drawn | asked | MB |" for d in dimensions)
    print(f"| |{head}\n|---|{'---|---|---|' * len(dimensions)}")
    for name in METHODS.names():
        if chosen.only in name:
            cells = [row(d, name) for d in dimensions]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

"""What measuring health costs, against a training step, alternated in one process.

    python benchmarks/step/health_cost.py --data FOLDER --out DIR [--rounds 7] [--KEY VALUE ...]

Each round times some training steps and one measurement, in CPU seconds of this process (one thread, as the
machine may be shared). Prints the ratio of the rounds and its share of a run at the default interval. Before
that it checks that a measurement leaves the state of the method bit-equal. Other keys: `foveate pretrain`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import torch

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.commands.pretrain.run import build_fabric
from foveate.core import config as parsing
from foveate.core.contracts import Method
from foveate.core.types import Batch, Progress
from foveate.runtime.steps import batches_from
from foveate.train import health
from foveate.train.optim import build_optimizer

STEPS = 4  # of a round: their draws of scales differ


def seconds(work: Callable[[], object]) -> float:
    """CPU seconds."""
    before = time.process_time()
    work()
    return time.process_time() - before


def check_unchanged(method: Method, batch: Batch, progress: Progress) -> None:
    """Refuse to time something that changes the method."""
    before = {name: x.clone() for name, x in method.state_dict().items()}
    health.measure(method, batch, progress)
    if not all(torch.equal(before[name], x) for name, x in method.state_dict().items()):
        sys.exit("a measurement changed the method")


def rounds(config: PretrainConfig, count: int) -> list[tuple[float, float]]:
    """(seconds of a step, seconds of a measurement) of every round."""
    method, fabric = build_method(config), build_fabric(config)
    cache = open_cache(config)
    source = batches_from(config, cache, method, fabric, 0)
    some = [next(source) for _ in range(max(STEPS, health.SAMPLES // config.batch_size))]
    fixed: Batch = {**some[0], "index": [i for x in some for i in x["index"]][: health.SAMPLES]}
    for part in ("crops", "affines"):
        fixed[part] = {n: torch.cat([x[part][n] for x in some])[: health.SAMPLES] for n in some[0][part]}
    optimizer = build_optimizer(method, config.optim)

    def train(first: int) -> None:
        for step, batch in enumerate(some[:STEPS], start=first):
            torch.stack(list(method(batch, Progress(step, config.steps)).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    check_unchanged(method, fixed, Progress(0, config.steps))
    train(0)
    found = []
    for i in range(count):
        step = seconds(lambda i=i: train(STEPS * i)) / STEPS
        progress = Progress(STEPS * i, config.steps)
        found.append((step, seconds(lambda p=progress: health.measure(method, fixed, p))))
    return found


def main() -> None:
    """Measure and print."""
    flags, _ = parsing.read_flags(sys.argv[1:], ())
    if not {"data", "out"} <= set(flags):
        sys.exit(__doc__)
    count = int(flags.pop("rounds", "7"))
    torch.set_num_threads(1)
    config = SPEC.resolve(
        {}, {"size": "small", "accelerator": "cpu", "precision": "32-true", "num_workers": "0", **flags}
    )
    pairs = rounds(config, count)
    ratios = sorted(measured / step for step, measured in pairs)
    middle = statistics.median(ratios)
    step, measured = (min(column) for column in zip(*pairs, strict=True))
    print(f"{config.dimension}D: step {step:.3f} s, measurement {measured:.3f} s")
    print(f"measurement over step: median {middle:.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}")
    print(f"every {config.health_every} steps: {middle / config.health_every:.2%} of the steps' time")


if __name__ == "__main__":
    main()

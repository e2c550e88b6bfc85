"""What a training step of one method costs against another's, by turns in one process.

    OMP_NUM_THREADS=1 python benchmarks/step/method_cost.py --data FOLDER --out DIR
        [--methods foveate,pcrlv2] [--rounds 7] [--KEY VALUE ...]

Each round times some steps of every method, forward, backward and optimizer, in CPU seconds of this process,
on batches that were made before: loading and draws are not in it. Prints the ratio to the last method of each
round: median, smallest, largest. Encoder, batch and views' grid are equal; the decoder is what each method
needs, with skips or without. Other keys: `foveate pretrain`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.images import open_cache
from foveate.commands.pretrain.run import build_fabric
from foveate.core import config as parsing
from foveate.core.types import Progress
from foveate.runtime.steps import batches_from
from foveate.train.optim import build_optimizer

STEPS = 4  # of a round: their draws of scales differ


def training(config: PretrainConfig) -> Callable[[int], None]:
    """A function that makes `STEPS` training steps, the first of which has the given number."""
    method, fabric = build_method(config), build_fabric(config)
    cache = open_cache(config)
    source = batches_from(config, cache, method, fabric, 0)
    some = [next(source) for _ in range(STEPS)]
    optimizer = build_optimizer(method, config.optim)

    def train(first: int) -> None:
        for step, batch in enumerate(some, start=first):
            torch.stack(list(method(batch, Progress(step, config.steps)).values())).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    return train


def main() -> None:
    """Measure and print."""
    flags, _ = parsing.read_flags(sys.argv[1:], ())
    if not {"data", "out"} <= set(flags):
        sys.exit(__doc__)
    names = flags.pop("methods", "foveate,pcrlv2").split(",")
    count = int(flags.pop("rounds", "7"))
    torch.set_num_threads(1)
    fixed = {"size": "small", "accelerator": "cpu", "precision": "32-true", "num_workers": "0", **flags}
    configs = [SPEC.resolve({}, {**fixed, "method.name": name}) for name in names]
    grid = configs[-1].method.crops["global"].grid
    if any(config.method.crops["global"].grid != grid for config in configs):
        sys.exit("the global views of these methods differ in their grid: set --method.global_crops.grid")
    ways = [training(replace(config, out=str(Path(config.out) / config.method.name))) for config in configs]
    rows = []
    for turn in range(count + 1):
        row = []
        for train in ways:
            before = time.process_time()
            train(STEPS * turn)
            row.append((time.process_time() - before) / STEPS)
        rows.append(row)
    for name, *seconds in zip(names, *rows[1:], strict=True):  # the first round warms up
        ratios = sorted(mine / row[-1] for mine, row in zip(seconds, rows[1:], strict=True))
        middle, fastest = statistics.median(ratios), min(seconds)
        print(
            f"{name:<22}{fastest:.3f} s a step; {middle:.2f} x {names[-1]} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        )


if __name__ == "__main__":
    main()

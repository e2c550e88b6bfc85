"""A training step of PCRLv2 here against a plain transcription of the published one.

    OMP_NUM_THREADS=2 python benchmarks/methods/pcrlv2_step.py --dimension 2 --grid 128 128 --crop 64 64

Both take the same views, weights and scales, and one SGD step each. Time is measured in one process, the two
in turn: the ratio of the sums over all steps, because a step costs what its scales cost, and the quartiles of
the ratios of neighbours; `shared` takes every scale equally often. Peak memory is measured in a process of
its own for each, above what is resident before the first step. Equal losses are asserted in float64 first.
Views are not drawn here. Ours has its weights as `build_pyramid` lays them out.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

import parity
import pcrlv2_transcription as transcription
from foveate.core.types import Progress
from foveate.methods.pcrlv2 import PCRLv2, Scales
from foveate.nets.layers import laid_out

SEED = 5
Step = Callable[[int], Tensor]
NAMES = ("plain", "ours", "shared")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--dimension", type=int, choices=(2, 3), default=3)
    parser.add_argument("--width", type=int, default=16)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--grid", type=int, nargs="+", default=[32, 32, 32])
    parser.add_argument("--crop", type=int, nargs="+", default=[16, 16, 16])
    parser.add_argument("--contiguous", action="store_true", help="also ours in that memory format")
    parser.add_argument("--only", choices=NAMES, help="run only this one and print its peak memory in MB")
    return parser.parse_args()


def our_method(plain: nn.Module, dimension: int, sampling: str) -> PCRLv2:
    """The method with the transcription's weights, as it is by default: `compat: fixed`."""
    weights = plain.state_dict()
    method = parity.published_method(dimension, list(weights[parity.STEM[dimension]].shape))
    config = replace(method.config, compat="fixed", scale_sampling=sampling)
    method = PCRLv2(method.net, config).double()
    method.load_state_dict({parity.translate(name, dimension): x for name, x in weights.items()})
    return laid_out(method, dimension).train()


def our_loss(method: PCRLv2, x: dict[str, Tensor], scales: Scales) -> Tensor:
    """The total of one step."""
    crops = x["locals"].transpose(0, 1)
    terms = method.terms([x["target"]], [x["x1"], x["x2"]], crops, scales, transcription.BETA)
    return torch.stack(list(terms.values())).sum()


def plain_loss(net: nn.Module, x: dict[str, Tensor], scales: Scales) -> Tensor:
    """The same of the transcription."""
    terms = transcription.published_losses(net, x, scales[0][0], list(scales[1]))
    return transcription.published_total(terms, transcription.BETA)


def assert_equal_loss(dimension: int) -> float:
    """In float64 on a small case, over some draws; the largest difference."""
    grids = {2: ([64, 64], [32, 32]), 3: ([16, 16, 8], [8, 8, 8])}[dimension]
    plain = transcription.hashed_network(dimension, 4, SEED)
    method = our_method(plain, dimension, "per_pair")
    x = transcription.hashed_inputs(SEED, dimension, 4, *grids)
    with torch.no_grad():
        draws = [method.draw(6, Progress(step, 9, 0)) for step in range(5)]
        worst = max(abs(plain_loss(plain, x, d) - our_loss(method, x, d)).item() for d in draws)
    if worst > 1e-9:
        raise SystemExit(f"The losses differ by {worst:.1e} in float64: nothing to compare.")
    return worst


def build(name: str, options: argparse.Namespace, *, contiguous: bool = False) -> Step:
    """One training step in float32 as a function of the step's number."""
    plain = transcription.hashed_network(options.dimension, options.width, SEED)
    x = transcription.hashed_inputs(SEED, options.dimension, options.batch, options.grid, options.crop)
    x = {key: value.float() for key, value in x.items()}
    sampling = "shared" if name == "shared" else "per_pair"
    method = our_method(plain, options.dimension, sampling)
    trained, loss_of = (plain.float(), plain_loss) if name == "plain" else (method.float(), our_loss)
    if contiguous:
        trained = trained.to(memory_format=torch.contiguous_format)
    optimizer = torch.optim.SGD(trained.parameters(), lr=1e-3, momentum=0.9, weight_decay=1e-4)

    def scales_of(number: int) -> Scales:
        if name != "shared":
            return method.draw(6, Progress(number, 1000, 0))
        scale = method.scales[number % len(method.scales)]
        return [scale], [(k, j, scale) for k in range(6) for j in (0, 1)]

    def step(number: int) -> Tensor:
        optimizer.zero_grad()
        loss = loss_of(trained, x, scales_of(number))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def peak_mb(name: str, options: argparse.Namespace) -> float:
    """Peak resident memory of three steps above what was resident before, in a process of its own."""
    flags = [f"--{key}={getattr(options, key)}" for key in ("dimension", "width", "batch")]
    for key in ("grid", "crop"):
        flags += [f"--{key}", *map(str, getattr(options, key))]
    command = [sys.executable, __file__, *flags, "--only", name]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def measure_peak(step: Step) -> float:
    """Its own, on Linux: the peak of building it is forgotten first, what it holds subtracted."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # resets VmHWM
    before = status_mb("VmRSS")
    for number in range(3):
        step(number)
    return status_mb("VmHWM") - before


def status_mb(field: str) -> float:
    """One size of /proc/self/status; unlike ru_maxrss it does not begin with the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) / 1024


def seconds(step: Step, number: int) -> float:
    """Of one step."""
    start = time.perf_counter()
    step(number)
    return time.perf_counter() - start


def ratios(steps: dict[str, Step], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, all in turn, in an order that alternates."""
    found: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step(0)
    for number in range(1, repeats + 1):
        for name in list(steps)[:: 1 if number % 2 else -1]:
            found[name].append(seconds(steps[name], number))
    return found


def compare(options: argparse.Namespace) -> None:
    """Print everything."""
    worst = assert_equal_loss(options.dimension)
    print(
        f"{options.dimension}D, width {options.width}, batch {options.batch}, views {options.grid}, ", end=""
    )
    print(f"6 sub-crops {options.crop}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"  float64 losses equal within {worst:.1e}")
    steps = {name: build(name, options) for name in NAMES}
    if options.contiguous:
        steps["contiguous"] = build("ours", options, contiguous=True)
    found = ratios(steps, options.repeats)
    for name, times in found.items():
        peak = f", peak {peak_mb(name, options):.0f} MB" if name in NAMES else ""
        print(f"  {name:<14}{statistics.mean(times):7.3f} s a step{peak}")
    for a, b in [("plain", "ours"), ("plain", "shared"), ("ours", "shared"), ("contiguous", "ours")]:
        if a in found:
            each = sorted(x / y for x, y in zip(found[a], found[b], strict=True))
            low, high = each[len(each) // 4], each[-1 - len(each) // 4]
            print(
                f"  {b} is {sum(found[a]) / sum(found[b]):.2f} x as fast as {a} "
                f"(quartiles of neighbours {low:.2f} to {high:.2f})"
            )


if __name__ == "__main__":
    chosen = arguments()
    if chosen.only:
        print(measure_peak(build(chosen.only, chosen)))
    else:
        compare(chosen)

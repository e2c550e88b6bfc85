"""Sliding window over a volume that is read, answered and handed on piece by piece.

Windows are visited from one end of an axis to the other; what no later window can reach is finished and
leaves as a slab. The device holds one slab of sums, not the volume's; on the host, over a limit even that is
a file. Sums are running weighted means, so that equal answers give exactly that answer, whatever the overlap.
"""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple, final

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from foveate.core.contracts import Windowed
from foveate.core.files import reserve
from foveate.core.memory import is_out_of_memory
from foveate.core.types import Array, FoveateError

Corner = tuple[int, ...]
Answer = Callable[[Tensor], Tensor]  # clean images (B, C, *patch) on the device to logits (B, K, *patch)
HOST = torch.device("cpu")
USUAL_BATCH = {"cpu": 1, "cuda": 4}  # windows at once: one keeps a CPU busy and no GPU
SIGMA_SHARE = 1 / 8  # of the patch: the Gaussian that trusts the middle of a window
SMALLEST_WEIGHT = 1e-3  # relative to the middle, so that corners count where nothing else reaches
MEMORY_LIMIT = 256 << 20  # bytes of an array above which it lives in a file


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowConfig:
    """How a volume is covered by windows.

    Attributes:
        overlap: Share of a window that overlaps with the next one, 0 to below 1.
        batch_size: Windows that the network answers at once; 0 is 1 on a CPU and 4 on a GPU. Fewer where
            memory runs out.
        blend: Where windows overlap, "gaussian" trusts their middles, "flat" all of them alike, as the
            validation while training does.
        skip_background: Do not compute windows in which no voxel is above the low end of the image's
            intensity window; what no other window covers is answered as background.
    """

    overlap: float = 0.5
    batch_size: int = 0
    blend: Literal["gaussian", "flat"] = "gaussian"
    skip_background: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise FoveateError(f"window.overlap {self.overlap}: accepted are numbers from 0 to below 1.")
        if self.batch_size < 0:
            raise FoveateError(
                f"window.batch_size {self.batch_size}: accepted are numbers from 1, and 0 for the usual one."
            )


class Slab(NamedTuple):
    """Finished logits (K, *S) of the volume from `start` on along the swept axis, where the sums are."""

    start: int
    logits: Tensor
    weights: Tensor  # (*S), 0 where no window was computed

    def filled(self, unseen: Tensor) -> Slab:
        """With these logits (K,) where no window was computed."""
        each = to_device(unseen, self.logits.device).reshape(-1, *[1] * self.weights.ndim)
        return self._replace(logits=torch.where(self.weights == 0, each, self.logits))


@final
class Pace:
    """How much a device is asked to do at once: less from the moment when its memory ran out."""

    def __init__(self, device: torch.device = HOST, tell: Callable[[str], None] = warnings.warn) -> None:
        self.device, self.tell = device, tell
        self.sums, self.most = device, 0  # where sums are; the most windows at once, 0: no limit is known
        self.windows = self.skipped = 0  # until now

    def batch(self, config: WindowConfig) -> int:
        """Windows at once."""
        usual = config.batch_size or USUAL_BATCH.get(self.device.type, 1)
        return min(usual, self.most or usual)

    def ease(self, windows: int) -> bool:
        """Ask for less after memory ran out with so many windows; whether there was less to ask for."""
        if windows > 1:
            if not self.most:
                self.tell(
                    f"out of memory on {self.device.type} with {windows} windows at once: fewer are computed "
                    "at once from here on (--window.batch_size says how many)"
                )
            self.most = windows // 2
            return True
        if self.sums.type == HOST.type:
            return False
        self.sums = HOST
        self.tell(
            f"the weighted sums of the windows do not fit {self.device.type}: they are kept on the host"
        )
        return True


def sweep_axis(shape: Sequence[int], patch: Sequence[int]) -> int:
    """The axis along which the slab of sums is thinnest."""
    return int(np.argmax(np.divide(shape, np.minimum(shape, patch))))


def starts(size: int, patch: int, overlap: float) -> list[int]:
    """Evenly spread window starts that cover an axis; 0 alone where the window is longer.

    >>> starts(10, 4, 0.5), starts(3, 4, 0.5), starts(8, 4, 0.0)
    ([0, 2, 4, 6], [0], [0, 4])
    """
    room = max(0, size - patch)
    count = 1 + -(-room // max(1, int(patch * (1 - overlap) + 1e-9)))
    return [round(i * room / max(1, count - 1)) for i in range(count)]


def gaussian_window(patch: Sequence[int]) -> Array:
    """Weights of a window's voxels, 1 in the middle, never below `SMALLEST_WEIGHT`."""
    weights = np.ones((), dtype=np.float64)
    for size in patch:
        along = (np.arange(size) - (size - 1) / 2) / (size * SIGMA_SHARE)
        weights = weights[..., None] * np.exp(-(along**2) / 2)
    return np.asarray(np.maximum(weights / weights.max(), SMALLEST_WEIGHT), dtype=np.float32)


def sliding_window(
    volume: Windowed,
    answer: Answer,
    patch: Sequence[int],
    classes: int,
    config: WindowConfig,
    pace: Pace | None = None,
    unseen: Tensor | None = None,
) -> Iterator[Slab]:
    """Logits of a whole volume as slabs along `sweep_axis`, in order and without gaps.

    Args:
        volume: Read by windows; windows that stick out of a small volume see 0 there, as in training.
        answer: The network on clean windows in [0, 1], which lie on the device of `pace`.
        patch: Shape of the windows.
        classes: K, what `answer` gives per voxel.
        config: Overlap, batch, and whether windows of background are skipped.
        pace: The device, and how much it takes at once; the CPU where nothing is said.
        unseen: Logits (K,) of voxels that only skipped windows cover; 0 where nothing is said.
    """
    shape, pace = volume.shape, pace or Pace()
    check_window(shape, patch)
    axis = sweep_axis(shape, patch)
    lines = [starts(size, p, config.overlap) for size, p in zip(shape, patch, strict=True)]
    weights = gaussian_window(patch) if config.blend == "gaussian" else np.ones(tuple(patch), np.float32)
    sums = _Sums(shape, patch, classes, axis, weights, pace)
    along = lines[axis]
    ends = dict(zip(along, [*along[1:], shape[axis]], strict=True))
    corners = [c for low in along for c in product(*([low] if a == axis else x for a, x in enumerate(lines)))]
    last = {corner[axis]: corner for corner in corners}  # the last window of each start along the axis
    for corner, logits in answers(volume, answer, corners, patch, config, sums):
        if logits is not None:
            sums.add(corner, logits)
        if last[corner[axis]] == corner:
            slab = sums.finish(ends[corner[axis]])
            yield slab if unseen is None or not config.skip_background else slab.filled(unseen)


def answers(
    volume: Windowed,
    answer: Answer,
    corners: Sequence[Corner],
    patch: Sequence[int],
    config: WindowConfig,
    sums: _Sums,
) -> Iterator[tuple[Corner, Tensor | None]]:
    """Windows and their logits (K, *patch), in order and computed in batches; None for a skipped window."""
    held: list[tuple[Corner, Tensor | None]] = []
    for corner in corners:
        window = read_window(volume, corner, patch)
        held.append((corner, None if config.skip_background and not window.any() else window))
        if sum(each is not None for _, each in held) >= sums.pace.batch(config):
            yield from answered(held, answer, config, sums)
            held = []
    yield from answered(held, answer, config, sums)


def answered(
    held: Sequence[tuple[Corner, Tensor | None]], answer: Answer, config: WindowConfig, sums: _Sums
) -> Iterator[tuple[Corner, Tensor | None]]:
    """The same of windows that were read; of fewer at once where memory runs out."""
    windows, pace = [window for _, window in held if window is not None], sums.pace
    found: list[Tensor] = []
    while len(found) < len(windows):
        some = windows[len(found) : len(found) + pace.batch(config)]
        try:
            images = to_device(torch.stack(some), pace.device)
            found += logits_of(answer, images).unbind()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if not pace.ease(len(some)):
                raise FoveateError(out_of_memory(one_window(some[0].shape[1:]), pace.device)) from error
            sums.settle()
    pace.windows, pace.skipped = pace.windows + len(held), pace.skipped + len(held) - len(windows)
    rest = iter(found)
    for corner, window in held:
        yield corner, None if window is None else next(rest)


def one_window(patch: Sequence[int]) -> str:
    """That even this was too much, in words."""
    return f"with one window of {' x '.join(map(str, patch))} at a time"


def out_of_memory(doing: str, device: torch.device) -> str:
    """What to do where memory ran out and nothing less can be asked for; `doing`: with or while what."""
    if device.type == HOST.type:
        return (
            f"Memory ran out on {HOST.type} {doing}: end other programs, or use a machine with more memory."
        )
    return (
        f"Memory ran out on {device.type} {doing}: end what else uses the GPU (nvidia-smi lists it), take "
        "another one with --gpu N, set --precision bf16-mixed, which takes about half, or --accelerator cpu."
    )


def to_device(images: Tensor, device: torch.device) -> Tensor:
    """Without waiting: while a GPU computes, the host reads the next windows."""
    return images if device.type == HOST.type else images.pin_memory().to(device, non_blocking=True)


def check_window(shape: Sequence[int], patch: Sequence[int]) -> None:
    """Refuse a volume of another dimension."""
    if len(patch) != len(shape):
        raise FoveateError(f"The network sees {len(patch)}D windows; this volume has shape {tuple(shape)}.")


def read_window(volume: Windowed, corner: Corner, patch: Sequence[int]) -> Tensor:
    """A window (C, *patch); a volume shorter than the patch lies in its middle, between zeros."""
    shape = volume.shape
    high = [min(c + p, n) for c, p, n in zip(corner, patch, shape, strict=True)]
    values = volume.read(corner, high)
    before = padding(shape, patch)
    room = [(b, p - b - (h - c)) for b, p, c, h in zip(before, patch, corner, high, strict=True)]
    return torch.from_numpy(np.pad(values, [(0, 0), *room]) if any(map(any, room)) else values)


def padding(shape: Sequence[int], patch: Sequence[int]) -> list[int]:
    """Voxels before the volume in a window, per axis."""
    return [max(0, p - n) // 2 for n, p in zip(shape, patch, strict=True)]


@torch.inference_mode()
def logits_of(answer: Answer, images: Tensor) -> Tensor:
    """The answers as 32-bit numbers, without what a training would keep."""
    return answer(images).float()


@final
class _Sums:
    """Running weighted means of the slab that windows still reach, on the device or else on the host."""

    def __init__(
        self,
        shape: Sequence[int],
        patch: Sequence[int],
        classes: int,
        axis: int,
        weights: Array,
        pace: Pace,
    ) -> None:
        self.shape, self.axis, self.low, self.pace = tuple(shape), axis, 0, pace
        self.patch, self.before = tuple(patch), padding(shape, patch)
        depth = min(patch[axis], shape[axis])
        slab = (*shape[:axis], depth, *shape[axis + 1 :])
        try:
            self.means, self.weights = self.zeros((classes, *slab)), self.zeros(slab)
        except RuntimeError as error:
            if not is_out_of_memory(error) or not pace.ease(windows=1):
                raise
            self.means, self.weights = self.zeros((classes, *slab)), self.zeros(slab)
        self.window = to_device(torch.from_numpy(weights), pace.sums)

    def zeros(self, shape: Sequence[int]) -> Tensor:
        """Zeros where the sums are."""
        if self.pace.sums.type == HOST.type:
            return torch.from_numpy(zeros(shape, np.float32))
        return torch.zeros(tuple(shape), device=self.pace.sums)

    def settle(self) -> None:
        """Follow the pace to where the sums are now."""
        if self.means.device.type != self.pace.sums.type:
            self.means, self.weights = self.means.to(self.pace.sums), self.weights.to(self.pace.sums)
            self.window = self.window.to(self.pace.sums)

    def add(self, corner: Sequence[int], logits: Tensor) -> None:
        """Enter the answer (K, *patch) of one window."""
        inner = tuple(
            slice(b, b + min(p, n - c))
            for b, p, n, c in zip(self.before, self.patch, self.shape, corner, strict=True)
        )
        size = [part.stop - part.start for part in inner]
        low = [c - self.low if a == self.axis else c for a, c in enumerate(corner)]
        there = tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))
        weight, total = self.window[inner], self.weights[there]
        total += weight
        part = self.means[(slice(None), *there)]
        step = logits[(slice(None), *inner)].to(part.device) - part
        part += step.mul_(weight / total)

    def finish(self, end: int) -> Slab:
        """Take out what lies before `end` on the swept axis and move the rest up."""
        done = end - self.low
        logits, weights = self.means.narrow(self.axis + 1, 0, done), self.weights.narrow(self.axis, 0, done)
        finished = Slab(self.low, logits.clone(), weights.clone())
        for array, axis in ((self.weights, self.axis), (self.means, self.axis + 1)):
            rest = array.shape[axis] - done
            for first in range(0, rest, done):  # piece by piece, none over itself: no second copy of the slab
                some = min(done, rest - first)
                array.narrow(axis, first, some).copy_(array.narrow(axis, first + done, some))
            array.narrow(axis, rest, done).zero_()
        self.low = end
        return finished


def zeros(shape: Sequence[int], dtype: DTypeLike) -> Array:
    """Zeros, in a file without a name where they are large."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    if size <= MEMORY_LIMIT:
        return np.zeros(tuple(shape), dtype=dtype)
    with tempfile.TemporaryFile() as stream:
        reserve(stream.fileno(), size)
        return np.memmap(stream, dtype=dtype, mode="w+", shape=tuple(shape))

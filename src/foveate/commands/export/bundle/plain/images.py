"""How this bundle reads an image, covers it with windows, and writes the answer on the image's own grid.

Every step is what the network was trained and checked with; other steps give other answers.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

LEVELS = 65536  # of values that are not whole numbers of 16 bits
BULK, SHOWN = (0.5, 99.5), (0.05, 99.95)  # percentiles that the levels cover
FEWEST_LEVELS, MOST_WIDTHS = 4096, 100
SIGMA_SHARE, SMALLEST_WEIGHT = 1 / 8, 1e-3
IMAGE, ANSWER = "image", "pred"
Data = dict[Hashable, Any]
Values = np.ndarray[Any, Any]


class Windowed:
    """Values between two ends as 0 to 1, what lies beyond is clipped.

    Args:
        kind: "range": the ends are values; "percentiles": of the image's own voxels.
        ends: The two.
    """

    def __init__(self, kind: str, ends: Sequence[float]) -> None:
        self.kind, self.ends = kind, tuple(ends)

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The same data with the image in [0, 1]."""
        image = data[IMAGE]
        codes, scale, offset = stored(np.asarray(image))
        low, high = self.ends
        if self.kind == "percentiles":
            low, high = (np.percentile(codes, end, method="lower") * scale + offset for end in self.ends)
        if not high > low:
            raise ValueError(f"The percentiles {self.ends} of the image are equal: it is background alone.")
        zero, one = (low - offset) / scale, (high - offset) / scale
        values = (codes - np.float32(zero)) * np.float32(1 / (one - zero))
        made = image.clone().to(torch.float32)  # with its place and its history
        made[...] = torch.from_numpy(values.clip(0, 1))
        return {**data, IMAGE: made}


def stored(values: Values) -> tuple[Values, float, float]:
    """Codes, scale and offset: whole numbers of 16 bits as they are, others rounded to levels."""
    low, high = float(values.min()), float(values.max())
    if high - low < LEVELS and np.array_equal(values, np.rint(values)):
        return (values - low).astype(np.float32), 1.0, low
    exact = values.astype(np.float32)
    own = exact if np.array_equal(exact, values) else values
    first, last, *shown = map(float, np.percentile(own, (*BULK, *SHOWN)))
    width = last - first
    if 0 < width < (high - low) * FEWEST_LEVELS / LEVELS:
        low = max(low, min([first - width, *[x for x in shown if first - x <= MOST_WIDTHS * width]]))
        high = min(high, max([last + width, *[x for x in shown if x - last <= MOST_WIDTHS * width]]))
    scale, half = (high - low) / (LEVELS - 1), LEVELS // 2
    steps = own.clip(low, high)
    steps -= low
    steps /= scale
    codes = np.clip(np.rint(steps) - half, -half, half - 1).astype(np.float32)
    return codes, scale, low + half * scale


class Windows:
    """Covers an image with windows of which the middles count most.

    Args:
        patch: Size of a window.
        overlap: Share of a window that the next one sees again.
        slices: For a network of slices: the axis they lie across, "x", "y", "z" or "auto" (the longest
            side of a voxel), and how many neighbours on either side are seen with each.
    """

    def __init__(
        self, patch: Sequence[int], overlap: float = 0.5, slices: Mapping[str, Any] | None = None
    ) -> None:
        self.patch, self.overlap, self.slices = tuple(patch), overlap, slices

    def __call__(self, inputs: Tensor, network: Callable[..., Tensor]) -> Tensor:
        """Images (B, C, *S) to the network's numbers (B, K, *S)."""
        return torch.stack([self.one(image, network) for image in inputs])

    def one(self, image: MetaTensor, network: Callable[..., Tensor]) -> Tensor:
        """One image (C, *S) to (K, *S)."""
        values = torch.as_tensor(np.asarray(image.cpu())).to(image.device)
        axis = None if self.slices is None else cut_axis(self.slices["axis"], image)
        patch = self.patch if axis is None else (*self.patch[:axis], 1, *self.patch[axis:])
        shape = tuple(values.shape[1:])
        before = [max(0, p - n) // 2 for n, p in zip(shape, patch, strict=True)]
        weights = torch.from_numpy(gaussian(patch)).to(values.device)
        means, total = torch.zeros(0), torch.zeros(shape, device=values.device)
        for corner in corners(shape, patch, self.overlap):
            window = self.read(values, corner, patch, before, axis)
            logits = network(window if axis is None else window.squeeze(axis + 2)).float()
            answer = (logits if axis is None else logits.unsqueeze(axis + 2))[0]
            if not len(means):
                means = torch.zeros(len(answer), *shape, device=values.device)
            sizes = [min(p, n - c) for p, n, c in zip(patch, shape, corner, strict=True)]
            inner = tuple(slice(b, b + n) for b, n in zip(before, sizes, strict=True))
            there = tuple(slice(c, c + n) for c, n in zip(corner, sizes, strict=True))
            weight, every = weights[inner], slice(None)
            total[there] += weight
            part = means[(every, *there)]
            part += (answer[(every, *inner)] - part).mul_(weight / total[there])
        return means

    def read(
        self,
        values: Tensor,
        corner: Sequence[int],
        patch: Sequence[int],
        before: Sequence[int],
        axis: int | None,
    ) -> Tensor:
        """A window (1, C, *patch), zeros around a small image; of a slice its neighbours are channels."""
        picked = values
        if axis is not None and self.slices is not None:
            beside, last = self.slices["neighbours"], values.shape[axis + 1] - 1
            places = [min(max(corner[axis] + j, 0), last) for j in range(-beside, beside + 1)]
            found = values.movedim(axis + 1, 1)[:, places]
            picked = found.reshape(-1, *found.shape[2:]).unsqueeze(axis + 1)
        low = [0 if a == axis else c for a, c in enumerate(corner)]
        cut = tuple(slice(c, c + p) for c, p in zip(low, patch, strict=True))
        part = picked[(slice(None), *cut)]
        window = part.new_zeros(len(part), *patch)
        inside = tuple(slice(b, b + n) for b, n in zip(before, part.shape[1:], strict=True))
        window[(slice(None), *inside)] = part
        return window[None]


def cut_axis(axis: str, image: MetaTensor) -> int:
    """The axis that slices lie across."""
    if axis != "auto":
        return "xyz".index(axis)
    affine = np.asarray(image.affine)
    sizes = np.linalg.norm(affine[:3, :3], axis=0)
    return int(np.flatnonzero(sizes >= 0.99 * sizes.max())[-1])


def starts(size: int, patch: int, overlap: float) -> list[int]:
    """Evenly spread starts of windows that cover an axis."""
    room = max(0, size - patch)
    count = 1 + -(-room // max(1, int(patch * (1 - overlap) + 1e-9)))
    return [round(i * room / max(1, count - 1)) for i in range(count)]


def corners(shape: Sequence[int], patch: Sequence[int], overlap: float) -> Iterator[tuple[int, ...]]:
    """All windows, from one end of the axis with the most of them to the other."""
    lines = [starts(size, p, overlap) for size, p in zip(shape, patch, strict=True)]
    axis = int(np.argmax(np.divide(shape, np.minimum(shape, patch))))
    for low in lines[axis]:
        yield from product(*([low] if a == axis else line for a, line in enumerate(lines)))


def gaussian(patch: Sequence[int]) -> Values:
    """How much the voxels of a window count."""
    weights = np.ones((), dtype=np.float64)
    for size in patch:
        along = (np.arange(size) - (size - 1) / 2) / (size * SIGMA_SHARE)
        weights = weights[..., None] * np.exp(-(along**2) / 2)
    return np.asarray(np.maximum(weights / weights.max(), SMALLEST_WEIGHT), dtype=np.float32)


class Decided:
    """The likeliest class as its value in the label files; or of classes that overlap a mask each.

    Args:
        values: The value of every class.
        exclusive: Whether one class excludes the others.
    """

    def __init__(self, values: Sequence[int], exclusive: bool) -> None:
        self.values, self.exclusive = torch.tensor(values), exclusive

    def __call__(self, data: Mapping[Hashable, Any]) -> Data:
        """The same data with label values (1, *S), or masks (K, *S)."""
        answer = data[ANSWER]
        labels = self.values.to(answer.device)[answer.argmax(0)][None] if self.exclusive else answer > 0
        return {**data, ANSWER: MetaTensor(labels.to(torch.float32), meta=data[IMAGE].meta)}


class Predictor:
    """Every image of a list, one after the other.

    Args:
        images: Files.
        network: With its weights, in evaluation mode.
        device: Of the network.
        preprocessing: From a file to values in [0, 1].
        inferer: Covers an image.
        postprocessing: Writes the answer.
    """

    def __init__(
        self,
        images: Sequence[str],
        network: torch.nn.Module,
        device: torch.device,
        preprocessing: Callable[[Data], Data],
        inferer: Callable[..., Tensor],
        postprocessing: Callable[[Data], Data],
    ) -> None:
        self.images, self.network, self.device = images, network, device
        self.preprocessing, self.inferer, self.postprocessing = preprocessing, inferer, postprocessing

    @torch.no_grad()
    def run(self) -> None:
        """Predict and write."""
        if not self.images:
            raise ValueError("No image was found: --dataset_dir is the folder, --pattern the names.")
        for number, path in enumerate(self.images, 1):
            data = self.preprocessing({IMAGE: path})
            answer = self.inferer(data[IMAGE][None].to(self.device), self.network)[0].cpu()
            self.postprocessing({**data, ANSWER: answer})
            print(f"{number} of {len(self.images)}")

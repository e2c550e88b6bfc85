"""Small volumes under names that no list of words could know: cases and ends are drawn for every test."""

from __future__ import annotations

import random
import secrets
import string
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

SHAPE = (10, 11, 12)


class Names:
    """Draws words; the seed stands in the report of a test that fails."""

    def __init__(self) -> None:
        self.seed = secrets.randbits(32)
        self.random = random.Random(self.seed)

    def word(self) -> str:
        """Letters that no earlier pattern of ours knows as a label."""
        return "q" + "".join(self.random.choices(string.ascii_lowercase, k=self.random.randint(3, 6))) + "x"

    def words(self, count: int) -> list[str]:
        """Different ones, none the beginning of another."""
        found: list[str] = []
        while len(found) < count:
            word = self.word()
            if not any(word.startswith(f) or f.startswith(word) for f in found):
                found.append(word)
        return found

    def cases(self, count: int) -> list[str]:
        """Different names of cases, some with parts."""
        sign = self.random.choice("_-.")
        return [f"{word}{sign}{n}" if n % 2 else word for n, word in enumerate(self.words(count))]


@pytest.fixture
def names():
    """A drawer of words with a new seed for every test."""
    drawn = Names()
    print(f"seed of the names: {drawn.seed}")
    return drawn


def save(path: Path, array, affine=None) -> Path:
    """NIfTI."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def image(path: Path, seed: int = 0, affine=None) -> Path:
    """Noise as a scanner has it."""
    values = np.random.default_rng(seed).normal(300, 90, SHAPE)
    return save(path, values.astype(np.int16), affine)


def label_map(path: Path, seed: int = 0, affine=None) -> Path:
    """Two boxes with the values 1 and 2."""
    array = np.zeros(SHAPE, np.uint8)
    at = seed % 3
    array[at : at + 6, 1:9, 1:6], array[at : at + 6, 1:9, 6:11] = 1, 2
    return save(path, array, affine)


def scattered(path: Path, seed: int = 0) -> Path:
    """A label map whose regions are so small that its values alone pass for an image's."""
    return save(path, np.random.default_rng(seed).integers(0, 4, SHAPE).astype(np.uint8))

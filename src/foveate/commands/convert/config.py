"""The configuration of a conversion of weights."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.nets.weights.families import families
from foveate.runtime.command import Spec


@dataclass(frozen=True, kw_only=True)
class ConvertConfig:
    """One conversion.

    Attributes:
        file: FILE: the weights of others, a file of ours, or a run folder.
        out: The safetensors file to write; a card and a report are written beside it.
        family: Whose file it is; empty: found from its names and shapes.
        prefix: Only names that start so are read, for files that hold two networks.
        in_channels: Image channels of the result; 0: those of the file. 1 -> n and n -> 1.
        inflate: A 2D ResNet becomes 3D: "mean" spreads its kernels, "centre" puts them in the middle slice.
        window: Attention window of the result (swin); 0: that of the file.
        min_transfer: Least share of the encoder's weights that must fit.
    """

    file: str = ""
    out: str = ""
    family: str = ""
    prefix: str = ""
    in_channels: int = 0
    inflate: Literal["no", "mean", "centre"] = "no"
    window: int = 0
    min_transfer: float = 1.0


def note(_config: ConvertConfig) -> str:
    """The families that are recognised."""
    known = "\n".join(f"  {name:<16}{family.title}" for name, family in families().items())
    return f"families:\n{known}"


SPEC = Spec(
    name="convert",
    defaults=lambda _given: ConvertConfig(),
    required={"file": "FILE", "out": "NEW.safetensors"},
    note=note,
)

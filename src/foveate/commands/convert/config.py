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
        file: FILE: weights of another project or of foveate, or a run folder.
        out: The safetensors file to write; a card and a report are written beside it.
        family: Which project the file is from; empty: detected from its names and shapes.
        prefix: Read only the names that start with this, for files that hold two networks.
        in_channels: Input channels of the result, converted from 1 to n or from n to 1; 0: those of the file.
        inflate: Turn a 2D ResNet into a 3D one: "mean" repeats its kernels along the new axis, divided by its
            size; "centre" puts them into the middle slice.
        window: Attention window of the result (swin); 0: that of the file.
        min_transfer: Smallest share of the encoder's weights that must fit.
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
    examples=(
        "foveate convert resnet_50.pth --out resnet50.safetensors",
        "foveate convert RUN --out inflated.safetensors --inflate mean",
    ),
)

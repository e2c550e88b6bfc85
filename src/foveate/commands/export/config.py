"""The configuration of an export."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from foveate.runtime.command import Spec

Format = Literal["huggingface", "torchvision", "monai", "monai-bundle", "nnunet", "onnx", "torch-export"]


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """One export.

    Attributes:
        run: RUN: folder of a run, or its weights file.
        format: What to write: "huggingface" is a folder with the weights, their card and a README;
            "torchvision" a state dict under the names of its 2D ResNets; "monai" one of its ResNet or the
            transformer of its SwinUNETR; "monai-bundle" a folder with which `monai.bundle run` segments;
            "nnunet" a folder with the files of its two ways to start from weights; "onnx" and
            "torch-export" are graphs of any batch and image size.
        out: What is written: a new folder for "huggingface", "monai-bundle" and "nnunet", else a new file.
        force: Replace what is there.
        licence: Licence of the weights, such as "CC-BY-4.0", for the card and the README; empty: what the
            card of the run says.
        data_licence: Licence of the images, and where they are from, for the same; empty: what the card says.
        evaluation: Folder that `foveate evaluate` wrote for this run, whose figures go into the README.
        image_channels: Channels that the exported ResNet reads ("torchvision"); an encoder of grey images is
            adapted.
    """

    run: str = ""
    format: Format = "huggingface"
    out: str = ""
    force: bool = False
    licence: str = ""
    data_licence: str = ""
    evaluation: str = ""
    image_channels: int = 3


SPEC = Spec(
    name="export",
    defaults=lambda _given: ExportConfig(),
    required={"run": "RUN", "format": "FORMAT", "out": "PATH"},
    examples=(
        "foveate export RUN --format nnunet --out WEIGHTS",
        "foveate export RUN2 --format onnx --out model.onnx",
    ),
)

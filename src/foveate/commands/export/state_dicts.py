"""State dicts under the names of other libraries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import UNIT, Source
from foveate.core.types import FoveateError
from foveate.nets.encoders.resnet import RESNET_BLOCKS, ResNetConfig
from foveate.nets.encoders.swin import SwinConfig
from foveate.nets.weights.adapt import change_channels, reversed_axes
from foveate.nets.weights.card import encoder_config

TORCHVISION = ("resnet18", "resnet34", "resnet50", "resnet101")
WIDTH = 64  # of torchvision's stem


def write_torchvision(source: Source, config: ExportConfig, path: Path) -> list[str]:
    """The encoder as torchvision's ResNet of the same name, which reads (rows, columns)."""
    found = resnet_of(source, "torchvision")
    differs = {
        f"{source.dimension}D": not source.is_flat,
        found.name: found.name not in TORCHVISION,
        f"width {found.width}": found.width != WIDTH,
        f"norm {found.norm}": found.norm != "batch",
        f"shortcut {found.shortcut}": found.shortcut != "conv",
        "dilated": found.dilated,
    }
    if wrong := [what for what, is_so in differs.items() if is_so]:
        raise FoveateError(
            f"--format torchvision: the encoder is {found.name} ({', '.join(wrong)}); accepted: 2D "
            f"{', '.join(TORCHVISION)} of width {WIDTH} with batch norm, shortcut conv, not dilated."
        )
    tensors = {name: reversed_axes(tensor) for name, tensor in source.encoder.state_dict().items()}
    kernel = change_channels(tensors["conv1.weight"], config.image_channels)
    if found.in_channels == config.image_channels:
        kernel = tensors["conv1.weight"]
    if kernel is None:
        raise FoveateError(
            f"--image_channels {config.image_channels}: the encoder reads {found.in_channels} channels; "
            f"accepted: {found.in_channels} or 1."
        )
    said = {
        "input": f"float32 (batch, {config.image_channels}, rows, columns), {UNIT}, then normalised",
        "normalisation": source.normalisation,
        "intensity": source.card.get("intensity"),
        "weights_licence": source.card.get("weights_licence"),
    }
    save_state({**tensors, "conv1.weight": kernel}, said, path)
    missing = '["fc.weight", "fc.bias"]'
    return [
        f"{found.name} under torchvision's names; it reads {said['input']} ({source.normalisation})",
        f"Next: net = torchvision.models.{found.name}(); missing, unexpected = net.load_state_dict("
        f"{loader(path)}, strict=False); assert missing == {missing} and not unexpected",
    ]


def resnet_of(source: Source, target: str) -> ResNetConfig:
    """The configuration of the encoder, which must be a ResNet."""
    found = encoder_config(source.card)
    if not isinstance(found, ResNetConfig):
        raise FoveateError(f"--format {target}: the encoder is {found.name}; accepted are ResNets.")
    return found


def write_monai(source: Source, _config: ExportConfig, path: Path) -> list[str]:
    """The encoder as MONAI's ResNet, or as the transformer of its SwinUNETR; the axes are the same."""
    found = encoder_config(source.card)
    state = source.encoder.state_dict()
    if isinstance(found, SwinConfig):
        network, part, arguments = "SwinUNETR", "swinViT", swin_arguments(found, source.dimension)
        state = {name.removeprefix("swin."): tensor for name, tensor in state.items()}
    else:
        network, part, arguments = (
            "ResNet",
            "",
            resnet_arguments(resnet_of(source, "monai"), source.dimension),
        )
    said = {
        "network": network,
        "part": part,
        "arguments": arguments,
        "input": f"float32 (batch, {found.in_channels}, {', '.join(source.axes)}), {UNIT}, then normalised",
        "axis_order": source.card["axis_order"],
        "normalisation": source.normalisation,
        "intensity": source.card.get("intensity"),
        "spacing_mm": source.card.get("spacing_mm"),
        "weights_licence": source.card.get("weights_licence"),
    }
    save_state(state, said, path)
    spelled = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
    where = f"net.{part}" if part else "net"
    return [
        f"{found.name} as MONAI has it; it reads {said['input']} ({source.normalisation})",
        f"Next: net = monai.networks.nets.{network}({spelled}); "
        f"{where}.load_state_dict({loader(path)}, strict=True)",
    ]


def resnet_arguments(found: ResNetConfig, dimension: int) -> dict[str, Any]:
    """Of MONAI's ResNet; refuses what it cannot be: its `norm` reaches the stem alone."""
    if found.dilated or found.norm != "batch":
        raise FoveateError(
            f"--format monai: the encoder is {found.name}, dilated: {found.dilated}, norm {found.norm}; "
            "accepted: ResNets with batch norm that are not dilated."
        )
    block, layers = RESNET_BLOCKS[found.name]
    return {
        "block": "bottleneck" if block.expansion > 1 else "basic",
        "layers": layers,
        "block_inplanes": [found.width * 2**i for i in range(4)],
        "spatial_dims": dimension,
        "n_input_channels": found.in_channels,
        "conv1_t_stride": 2,
        "shortcut_type": "A" if found.shortcut == "pad" else "B",
        "bias_downsample": False,
        "feed_forward": False,
    }


def swin_arguments(found: SwinConfig, dimension: int) -> dict[str, Any]:
    """Of MONAI's SwinUNETR; the number of outputs is the user's."""
    return {
        "in_channels": found.in_channels,
        "out_channels": 2,
        "depths": list(found.depths),
        "num_heads": [found.heads * 2**i for i in range(4)],
        "window_size": found.window,
        "feature_size": found.width,
        "spatial_dims": dimension,
        "use_v2": found.residual_blocks,
    }


def save_state(tensors: Mapping[str, Tensor], said: Mapping[str, Any], path: Path) -> None:
    """A state dict; what is said of it is inside where the format has a place for it."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    if path.suffix == ".safetensors":
        inside = {"format": "pt", "export": json.dumps(said, sort_keys=True)}
        path.write_bytes(save(own, metadata=inside))
    else:
        torch.save(own, path)


def loader(path: Path) -> str:
    """The Python that reads it."""
    if path.suffix == ".safetensors":
        return f'safetensors.torch.load_file("{path.name}")'
    return f'torch.load("{path.name}", weights_only=True)'

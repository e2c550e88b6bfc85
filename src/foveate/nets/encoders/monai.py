"""MONAI's networks as encoders: what of them gives feature maps."""

from __future__ import annotations

from typing import final

from torch import Tensor, nn

from foveate.core.types import FoveateError


@final
class MonaiEncoder(nn.Module):
    """The contracting half of one of MONAI's networks, for `foveate.pretrain(encoder=...)`.

    Takes a `SegResNet`, a `ResNet` or a `SwinUNETR` (whose forward needs einops). The parts are the network's
    own: what is trained here is trained there.

    Args:
        net: The network.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        parts = dict(net.named_children())
        found = next((kind for kind, needed in PARTS.items() if needed <= set(parts)), "")
        if not found:
            raise FoveateError(
                f"MonaiEncoder: {type(net).__name__} is not known; accepted: {', '.join(PARTS)} of MONAI, "
                "or any module that gives feature maps itself."
            )
        self.kind = found
        self.parts = nn.ModuleDict({name: parts[name] for name in sorted(PARTS[found])})

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps, fine to coarse."""
        parts = self.parts
        if self.kind == "SwinUNETR":
            found: list[Tensor] = parts["swinViT"](x)
            return found
        if self.kind == "ResNet":
            maps = [parts["act"](parts["bn1"](parts["conv1"](x)))]
            x = parts["maxpool"](maps[0])
            layers = [parts[f"layer{i}"] for i in range(1, 5)]
        else:
            maps, x = [], parts["convInit"](x)
            layers = list(parts["down_layers"].children())
        for layer in layers:
            x = layer(x)
            maps.append(x)
        return maps


PARTS = {
    "SegResNet": {"convInit", "down_layers"},
    "SwinUNETR": {"swinViT"},
    "ResNet": {"conv1", "bn1", "act", "maxpool", "layer1", "layer2", "layer3", "layer4"},
}

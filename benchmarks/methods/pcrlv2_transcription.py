"""The published PCRLv2 step written down plainly, to compare this package's with.

Nothing here is shared with `src`: plain torch modules with the authors' parameter names, every head computed
for every view, the losses as printed. `record` writes what `parity.py` reads, so that the package
can be held against it at any width and seed; only the authors' own recordings say that this file is theirs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from parity import recorded_weights, uniform

BETA = 0.5 * (1 + np.cos(np.pi * 60 / 240))


class Seen(NamedTuple):
    """All outputs for one view; lists run over the scales, coarse to fine."""

    z: list[Tensor]
    p: list[Tensor]
    masks: list[Tensor]
    restored: Tensor | None


def embedding(channels: int) -> tuple[nn.Module, nn.Module]:
    """Projector and predictor of one scale."""
    predictor = nn.Sequential(
        nn.Linear(channels, 2 * channels),
        nn.BatchNorm1d(2 * channels),
        nn.ReLU(inplace=True),
        nn.Linear(2 * channels, channels),
    )
    return nn.BatchNorm1d(channels), predictor


class Conv3(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(inputs, outputs, 3, padding=1), nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Same grid."""
        return self.relu(self.bn1(self.conv1(x)))


class Down3(nn.Module):
    """One level of the encoder."""

    def __init__(self, inputs: int, half: int) -> None:
        super().__init__()
        self.ops = nn.Sequential(Conv3(inputs, half), Conv3(half, 2 * half))

    def forward(self, x: Tensor) -> Tensor:
        """Same grid."""
        return self.ops(x)


class Mask3(nn.Module):
    """The restoration head of one scale."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv3d(inputs, 1, 3, padding=1), nn.BatchNorm3d(1)

    def forward(self, x: Tensor) -> Tensor:
        """One channel in [0, 1]."""
        return torch.sigmoid(self.bn1(self.conv1(x)))


class Up3(nn.Module):
    """One level of the decoder, with the heads of its scale."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up_conv = nn.ConvTranspose3d(inputs, inputs, 2, stride=2)
        self.ops = nn.Sequential(Conv3(inputs, outputs), Conv3(outputs, outputs))
        self.bn, self.predictor_head = embedding(outputs)
        self.deep_supervision_head = Mask3(outputs)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features, z, p and the mask."""
        x = self.ops(self.up_conv(x))
        z = self.bn(F.adaptive_avg_pool3d(x, 1).flatten(1))
        return x, z, self.predictor_head(z), self.deep_supervision_head(x)


class Out3(nn.Module):
    """The last convolution."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.final_conv = nn.Conv3d(inputs, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        """One channel in [0, 1]."""
        return torch.sigmoid(self.final_conv(x))


class Published3D(nn.Module):
    """The 3D network; `width` is 32 as published."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        w = width
        self.down_tr64, self.down_tr128 = Down3(1, w), Down3(2 * w, 2 * w)
        self.down_tr256, self.down_tr512 = Down3(4 * w, 4 * w), Down3(8 * w, 8 * w)
        self.up_tr256, self.up_tr128 = Up3(16 * w, 8 * w), Up3(8 * w, 4 * w)
        self.up_tr64, self.out_tr = Up3(4 * w, 2 * w), Out3(2 * w)
        self.scales = 3

    def forward(self, x: Tensor, local: bool = False) -> Seen:
        """Every head; sub-crops only save the up-sampling of the masks."""
        x = self.down_tr64(x)
        for level in (self.down_tr128, self.down_tr256, self.down_tr512):
            x = level(F.max_pool3d(x, 2))
        seen = Seen([], [], [], None)
        for block, factor in ((self.up_tr256, 4), (self.up_tr128, 2), (self.up_tr64, 1)):
            x, z, p, mask = block(x)
            if not local:
                mask = F.interpolate(mask, scale_factor=float(factor), mode="trilinear")
            for kept, value in ((seen.z, z), (seen.p, p), (seen.masks, mask)):
                kept.append(value)
        return seen._replace(restored=self.out_tr(x))


class Residual2(nn.Module):
    """The basic block of a ResNet."""

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(outputs), nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        shortcut = (nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))
        self.downsample = nn.Sequential(*shortcut) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        """Half the grid where the stride is 2."""
        shortcut = x if self.downsample is None else self.downsample(x)
        x = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(x + shortcut)


class ResNet18(nn.Module):
    """The 2D encoder."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.conv1, self.bn1 = nn.Conv2d(3, w, 7, 2, 3, bias=False), nn.BatchNorm2d(w)
        self.layer1 = nn.Sequential(Residual2(w, w, 1), Residual2(w, w, 1))
        self.layer2 = nn.Sequential(Residual2(w, 2 * w, 2), Residual2(2 * w, 2 * w, 1))
        self.layer3 = nn.Sequential(Residual2(2 * w, 4 * w, 2), Residual2(4 * w, 4 * w, 1))
        self.layer4 = nn.Sequential(Residual2(4 * w, 8 * w, 2), Residual2(8 * w, 8 * w, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The map at stride 32."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))


def conv2(inputs: int, outputs: int, bias: bool) -> list[nn.Module]:
    """Convolution, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, padding=1, bias=bias)
    return [conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)]


class Up2(nn.Module):
    """One level of the decoder, with the heads of its scale."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(*conv2(inputs, outputs, bias=False))
        self.conv2 = nn.Sequential(*conv2(outputs, outputs, bias=False))
        self.bn, self.predictor_head = embedding(outputs)
        head = (*conv2(outputs, outputs, bias=True), nn.Conv2d(outputs, 3, 1))
        self.deep_supervision_head = nn.Sequential(*head)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Features, z, p and the mask."""
        x = self.conv2(self.conv1(F.interpolate(x, scale_factor=2.0, mode="nearest")))
        z = self.bn(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return x, z, self.predictor_head(z), self.deep_supervision_head(x)


class Published2D(nn.Module):
    """The 2D network; `width` is 64 as published. Narrow decoders keep 8 channels, as in this package."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        channels = [8 * width] + [max(8, 4 * width >> i) for i in range(5)]
        self.model = nn.Module()
        self.model.encoder, self.model.decoder = ResNet18(width), nn.Module()
        self.model.decoder.blocks = nn.ModuleList(Up2(*channels[i : i + 2]) for i in range(5))
        self.model.segmentation_head = nn.Conv2d(channels[-1], 3, 3, padding=1)
        self.scales = 5

    def forward(self, x: Tensor, local: bool = False) -> Seen:
        """Every head; sub-crops only save the final one, their masks are up-sampled and thrown away."""
        x = self.model.encoder(x)
        seen = Seen([], [], [], None)
        for i, block in enumerate(self.model.decoder.blocks):
            x, z, p, mask = block(x)
            mask = F.interpolate(mask, scale_factor=float(2 ** (4 - i)), mode="bilinear")
            for kept, value in ((seen.z, z), (seen.p, p), (seen.masks, mask)):
                kept.append(value)
        return seen if local else seen._replace(restored=self.model.segmentation_head(x))


PUBLISHED: dict[int, Any] = {2: Published2D, 3: Published3D}
PICTURES = {2: 3, 3: 1}  # channels of the published input
Pairs = list[tuple[int, int, int]]  # (sub-crop, global view, scale)


def compare(a: Seen, b: Seen, scale: int, rows: slice = slice(None)) -> Tensor:
    """C_s(a, b), with b's rows of one sub-crop."""
    p, z = b.p[scale][rows], b.z[scale][rows].detach()
    first = F.cosine_similarity(a.p[scale], z, dim=1).mean()
    return -0.5 * (first + F.cosine_similarity(p, a.z[scale].detach(), dim=1).mean())


def published_losses(net: nn.Module, x: dict[str, Tensor], scale: int, local: Pairs) -> dict[str, Tensor]:
    """The unweighted terms of one step; `x` holds x1, x2, locals (K, B, C, *S) and target."""
    batch = len(x["x1"])
    first, second = net(x["x1"]), net(x["x2"])
    crops = net(x["locals"].flatten(0, 1), local=True)
    pairs = [compare((first, second)[j], crops, s, slice(k * batch, (k + 1) * batch)) for k, j, s in local]
    return {
        "pixel": F.mse_loss(first.restored, x["target"]),
        "global": compare(first, second, scale),
        "local": sum(pairs) / len(pairs),
        "mid": F.mse_loss(first.masks[scale], x["target"]),
    }


def published_total(terms: dict[str, Tensor], beta: float) -> Tensor:
    """L = L_pix + L_sia + L_loc + beta L_mid."""
    return terms["pixel"] + terms["global"] + terms["local"] + beta * terms["mid"]


def recorded_pairs(crops: int, scale: int, scales: int) -> Pairs:
    """The choice of scales of the recordings."""
    return [(k, j, (scale + k + j) % scales) for k in range(crops) for j in (0, 1)]


def hashed_inputs(
    seed: int, dimension: int, batch: int, grid: list[int], crop: list[int]
) -> dict[str, Tensor]:
    """Views of unit variance and a target in [0, 1]: the hash of the weights, streams from 1000 on."""
    images = PICTURES[dimension]
    shapes = {"x1": [batch, images, *grid], "x2": [batch, images, *grid]}
    shapes |= {"locals": [6, batch, images, *crop], "target": [batch, images, *grid]}
    inputs = {}
    for stream, (name, shape) in enumerate(shapes.items(), start=1000):
        u = torch.from_numpy(uniform(seed, stream, int(np.prod(shape)))).reshape(shape)
        inputs[name] = u if name == "target" else (2 * u - 1) * 3**0.5
    return inputs


def hashed_network(dimension: int, width: int, seed: int) -> nn.Module:
    """The published network at a width, with hashed weights, in float64."""
    net = PUBLISHED[dimension](width).double()
    shapes = {name: list(tensor.shape) for name, tensor in net.state_dict().items()}
    net.load_state_dict(recorded_weights(shapes, seed))
    return net.train()


def outputs(net: nn.Module, x: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """What a recording keeps of the two global views."""
    found: dict[str, Tensor] = {}
    first, second = net.train()(x["x1"]), net(x["x2"])
    for s in range(net.scales):
        found |= {f"z1_{s}": first.z[s], f"p1_{s}": first.p[s], f"mid_{s}": first.masks[s]}
        found |= {f"z2_{s}": second.z[s], f"p2_{s}": second.p[s]}
    return {name: tensor.detach().numpy() for name, tensor in (found | {"restored": first.restored}).items()}


def evaluated(net: nn.Module, x: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """The same weights in eval mode."""
    seen = net.eval()(x["x1"])
    found = {f"eval_z1_{s}": z for s, z in enumerate(seen.z)} | {"eval_restored": seen.restored}
    return {name: tensor.detach().numpy() for name, tensor in found.items()}


def record(folder: Path, dimension: int, width: int, seed: int, inputs: dict[str, Tensor]) -> dict[str, Any]:
    """Write a folder of the fixtures' form and return its facts."""
    net = hashed_network(dimension, width, seed)
    weights = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    facts: dict[str, Any] = {"seed": seed, "scales": net.scales, "beta": BETA, "loss": {}, "grad_norm": {}}
    facts["state_dict"] = {name: list(tensor.shape) for name, tensor in weights.items()}
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()} | outputs(net, inputs)
    net.load_state_dict(weights)
    arrays |= evaluated(net, inputs)
    for s in range(net.scales):
        net.load_state_dict(weights)
        net.train().zero_grad()
        terms = published_losses(net, inputs, s, recorded_pairs(len(inputs["locals"]), s, net.scales))
        total = published_total(terms, BETA)
        total.backward()
        facts["loss"][str(s)] = {n: t.item() for n, t in terms.items()} | {"total": total.item()}
        facts["grad_norm"][str(s)] = gradients = {n: norm_of(p.grad) for n, p in net.named_parameters()}
        if s == 1:
            torch.optim.SGD(net.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-4).step()
            changes = {n: norm_of(p.detach() - weights[n]) for n, p in net.named_parameters()}
            facts["sgd_update_norm_scale1"] = changes
    assert gradients
    np.savez(folder / f"pcrlv2_{dimension}d.npz", **arrays)
    (folder / f"pcrlv2_{dimension}d.json").write_text(json.dumps(facts), encoding="utf-8")
    return facts


def norm_of(tensor: Tensor | None) -> float:
    """0 where nothing reached."""
    return 0.0 if tensor is None else float(tensor.norm())

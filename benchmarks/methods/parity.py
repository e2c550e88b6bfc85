"""Parity with numbers recorded from the authors' PCRLv2.

    python benchmarks/methods/parity.py FOLDER

FOLDER holds `pcrlv2_2d.{npz,json}` and `pcrlv2_3d.{npz,json}`: inputs, outputs, loss terms at every scale,
gradient norms and one SGD update of the published network (at any width) in float64, whose weights are a hash
of a seed. The same weights enter this package's network under its own names, and every recorded quantity is
computed again. Prints the largest error of each and exits with 1 where one is over the bound.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.core.types import Dimension
from foveate.methods import pcrlv2
from foveate.nets.encoders.resnet import ResNetConfig
from foveate.nets.encoders.unet import UNetConfig
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from reference_names import translate

BOUND = 1e-6


def uniform(seed: int, stream: int, count: int) -> NDArray[np.float64]:
    """The recorded hash: `count` values in [0, 1)."""
    with np.errstate(over="ignore"):
        z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z += np.uint64(seed) * np.uint64(0xD1B54A32D192ED03) + np.uint64(stream) * np.uint64(
            0x8CB92BA72F3D8DD7
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
    return (z >> np.uint64(11)) / 2.0**53


def recorded_weights(shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
    """The published network's state dict, made from its names, shapes and the seed."""
    state: dict[str, Tensor] = {}
    for stream, name in enumerate(sorted(shapes)):
        shape = shapes[name]
        count = int(np.prod(shape))
        u = uniform(seed, stream, count)
        if name.endswith("num_batches_tracked"):
            values = np.zeros(count)
        elif name.endswith("running_var") or (len(shape) == 1 and name.endswith(".weight")):
            values = 0.75 + 0.5 * u
        elif len(shape) == 1:
            values = 0.2 * u - 0.1
        else:
            values = (2 * u - 1) * np.sqrt(3) * np.sqrt(2 / (count / shape[0]))
        state[name] = torch.from_numpy(values.reshape(shape))
    return state


STEM = {2: "model.encoder.conv1.weight", 3: "down_tr64.ops.0.conv1.weight"}


def published_method(dimension: Dimension, stem: list[int]) -> pcrlv2.PCRLv2:
    """PCRLv2 as published, in float64, with a first convolution of this shape."""
    family: Any = UNetConfig if dimension == 3 else ResNetConfig
    encoder = family(width=stem[0], in_channels=stem[1])
    decoder = DecoderConfig(upsample="transpose" if dimension == 3 else "nearest")
    config = pcrlv2.Config.preset(dimension, "paper")
    net = build_pyramid(encoder, decoder, dimension)
    return pcrlv2.PCRLv2(net, pcrlv2.replace(config, compat="reference")).double()


class Parity:
    """One recording, and the largest relative error of every quantity."""

    def __init__(self, folder: Path, dimension: Dimension, accelerator: str = "cpu") -> None:
        self.facts = json.loads((folder / f"pcrlv2_{dimension}d.json").read_text(encoding="utf-8"))
        with np.load(folder / f"pcrlv2_{dimension}d.npz") as arrays:
            self.arrays = {name: torch.from_numpy(arrays[name]).to(accelerator) for name in arrays.files}
        self.method = published_method(dimension, self.facts["state_dict"][STEM[dimension]])
        self.method.to(accelerator)
        weights = recorded_weights(self.facts["state_dict"], self.facts["seed"])
        self.names = {name: translate(name, dimension) for name in weights}
        self.weights = {self.names[name]: tensor for name, tensor in weights.items()}
        self.worst: dict[str, float] = {}

    def run(self) -> None:
        """Compare everything."""
        self.outputs()
        for scale in range(self.facts["scales"]):
            self.losses(scale)
        self.update()

    def fresh(self) -> pcrlv2.PCRLv2:
        """The method with the recorded weights and no gradients."""
        self.method.load_state_dict(self.weights, strict=True)
        self.method.zero_grad()
        return self.method.train()

    def outputs(self) -> None:
        """Embeddings and restorations in train mode, and in eval mode."""
        method, recorded = self.fresh(), self.arrays
        scales = set(range(self.facts["scales"]))
        with torch.no_grad():
            maps = method.net(recorded["x1"])
            self.tensor("restored", method.restore(maps), recorded["restored"])
            for s, (p, z) in method.embed(maps, scales).items():
                self.tensor("projection", z, recorded[f"z1_{s}"])
                self.tensor("prediction", p, recorded[f"p1_{s}"])
                self.tensor("middle restoration", method.restore.middle(maps, s), recorded[f"mid_{s}"])
            for s, (p, z) in method.embed(method.net(recorded["x2"]), scales).items():
                self.tensor("projection", z, recorded[f"z2_{s}"])
                self.tensor("prediction", p, recorded[f"p2_{s}"])
            method = self.fresh().eval()
            maps = method.net(recorded["x1"])
            self.tensor("restored (eval)", method.restore(maps), recorded["eval_restored"])
            for s, (_, z) in method.embed(maps, scales).items():
                self.tensor("projection (eval)", z, recorded[f"eval_z1_{s}"])

    def terms(self, method: pcrlv2.PCRLv2, scale: int) -> dict[str, Tensor]:
        """The four terms at the recorded choice of scales."""
        x, count = self.arrays, self.facts["scales"]
        crops = x["locals"].transpose(0, 1)  # (B, K, C, *s)
        local = [(k, j, (scale + k + j) % count) for k in range(crops.shape[1]) for j in (0, 1)]
        return method.terms([x["target"]], [x["x1"], x["x2"]], crops, ([scale], local), self.facts["beta"])

    def losses(self, scale: int) -> None:
        """Every term and every gradient norm at one scale."""
        method, recorded = self.fresh(), self.facts["loss"][str(scale)]
        losses = self.terms(method, scale)
        total = torch.stack(list(losses.values())).sum()
        self.scalar("loss: pixel", losses["pixel"], recorded["pixel"])
        self.scalar("loss: global", losses["siamese"], recorded["global"], absolute=True)
        self.scalar("loss: local", losses["local"], recorded["local"], absolute=True)
        self.scalar("loss: middle", losses["middle"], recorded["mid"] * self.facts["beta"])
        self.scalar("loss: total", total, recorded["total"])
        total.backward()
        norms = {name: grad_norm(p) for name, p in method.named_parameters()}
        self.norms("gradient norms", norms, self.facts["grad_norm"][str(scale)])

    def update(self) -> None:
        """The change of every parameter by one SGD step at scale 1."""
        method = self.fresh()
        before = {name: p.detach().clone() for name, p in method.named_parameters()}
        optimizer = torch.optim.SGD(method.parameters(), lr=1e-2, momentum=0.9, weight_decay=1e-4)
        torch.stack(list(self.terms(method, 1).values())).sum().backward()
        optimizer.step()
        norms = {name: float((p.detach() - before[name]).norm()) for name, p in method.named_parameters()}
        self.norms("SGD update", norms, self.facts["sgd_update_norm_scale1"])

    def tensor(self, quantity: str, ours: Tensor, theirs: Tensor) -> None:
        """|a - b| <= 1e-6 max|b|."""
        self.note(quantity, float((ours - theirs).abs().max() / theirs.abs().max()))

    def scalar(self, quantity: str, ours: Tensor, theirs: float, *, absolute: bool = False) -> None:
        """The same for one number; cosine losses absolutely."""
        self.note(quantity, abs(ours.item() - theirs) / (1.0 if absolute else abs(theirs)))

    def norms(self, quantity: str, ours: dict[str, float], theirs: dict[str, float]) -> None:
        """|a - b| <= 1e-6 max(|b|, 1e-6 of the largest norm): an idle bias has a norm of rounding."""
        if {self.names[name] for name in theirs} != set(ours):
            raise SystemExit(f"{quantity}: the parameters differ from the recorded ones.")
        floor = 1e-6 * max(theirs.values())
        for name, norm in theirs.items():
            self.note(quantity, abs(ours[self.names[name]] - norm) / max(norm, floor))

    def note(self, quantity: str, error: float) -> None:
        """Keep the largest; NaN is infinitely wrong."""
        error = error if np.isfinite(error) else float("inf")
        self.worst[quantity] = max(self.worst.get(quantity, 0.0), error)


def grad_norm(parameter: Tensor) -> float:
    """0 where nothing was drawn."""
    return 0.0 if parameter.grad is None else float(parameter.grad.norm())


def main(folder: Path) -> int:
    """Both dimensions; 1 where a bound is broken."""
    failed = False
    for dimension in (2, 3):
        parity = Parity(folder, dimension)
        parity.run()
        print(f"{dimension}D, seed {parity.facts['seed']}, float64")
        for quantity, error in parity.worst.items():
            failed |= error > BOUND
            print(f"  {quantity:<22}{error:10.2e}  {'ok' if error <= BOUND else f'OVER {BOUND:g}'}")
    return int(failed)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit((__doc__ or "").strip())
    sys.exit(main(Path(sys.argv[1])))

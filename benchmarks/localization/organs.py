"""Localisation of organs against a mean box: both in millimetres.

    python benchmarks/localization/organs.py --data patients.csv --out DIR [--part val] [--head pooled]
        [--seed 0] [--KEY VALUE of foveate finetune ...]

A small network is trained from random weights (what is in DIR is taken up again), and scored beside the mean
box: for every organ the mean over the training images of its walls as shares of the image, always said to be
there. Intervals resample patients; so does that of the difference, which is paired. `--head pooled` trains
another network with the same encoder: a linear layer on its pooled map gives the walls, for ADR 84.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from foveate.cli import main as foveate
from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.cohort import load_cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.run import with_intervals
from foveate.core.boxes.geometry import HALF, Boxes
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.types import Array, Batch, Progress
from foveate.nets.heads import pooled
from foveate.nets.pyramid import Pyramid
from foveate.runtime.finetuned import Model, open_model
from foveate.tasks import localization
from foveate.tasks.localization import Config, Localization, boxes_in
from foveate.views.pipeline import normalise, with_channels

KEYS = {
    "task": "localization",
    "init": "none",
    "size": "small",
    "steps": 1500,
    "batch_size": 8,
    "task.crops.grid": "[64,64,16]",
    "encoder.levels": 4,
    "task.appearance.normalisation": "zscore",
    "num_workers": 0,
    "validate_every": 250,
    "preview_every": 0,
}
SHOWN = ("wall_mm", "centre_mm", "box_iou", "rate_1cm")


class PooledLocalization(Localization):
    """Walls by a linear layer on the pooled map of the encoder: what ADR 84 rejects."""

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__(net, config)
        features = self.net.encoder_channels[-1]
        walls = nn.Linear(features, len(config.names) * 2 * self.axes)
        self.heads = nn.ModuleDict({"walls": walls, "presence": self.heads["presence"]})

    def exported(self) -> dict[str, nn.Module]:
        """Without a decoder."""
        return {"encoder": self.net.encoder, "heads": self.heads}

    def answers(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Walls (B, K, 2, n) as shares of the view, and logits of presence."""
        features = pooled(self.net.encoder(images)[-1])
        walls = self.heads["walls"](features).sigmoid().unflatten(1, (len(self.class_names), 2, self.axes))
        return walls, self.heads["presence"](features)

    def outputs(self, images: Tensor) -> Tensor:
        """As the task has them."""
        clean = with_channels(images[:, None], self.net.in_channels)[:, 0]
        walls, presence = self.answers(normalise(clean, self.normalisation))
        cells = walls * walls.new_tensor(self.patch) - HALF
        return torch.cat([cells.flatten(2), presence[..., None]], -1)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The distance of walls, and presence."""
        images, truth, there = boxes_in(self, batch, progress)
        walls, presence = self.answers(images)
        shares = (truth + HALF) / truth.new_tensor(self.patch)
        away = ((walls - shares).abs().mean((2, 3)) * there).sum() / there.sum().clamp_min(1)
        loss = nn.functional.binary_cross_entropy_with_logits(presence, there)
        return {"distance": self.config.distance_weight * away, "presence": loss}


def mean_boxes(config: BoxConfig, cohort: Cohort) -> list[Array]:
    """Of every organ the mean walls as shares of the image, (2, n)."""
    shares: list[list[Array]] = [[] for _ in config.names]
    for volume in cohort.volumes:
        truth = config.known(volume).truth
        for low, high, k in zip(truth.low, truth.high, truth.label, strict=True):
            shares[k].append((np.stack([low, high]) + HALF) / np.array(volume.shape))
    return [np.mean(each, axis=0) for each in shares]


def placed(means: Sequence[Array], shape: Sequence[int]) -> Boxes:
    """Mean boxes in the voxels of an image."""
    walls = np.stack(means) * np.array(shape) - HALF
    return Boxes.between(walls[:, 0], walls[:, 1], np.arange(len(walls)))


def table(config: EvaluateConfig, model: Model, means: Sequence[Array], cohort: Cohort) -> dict[str, object]:
    """Both arms and their difference, each with an interval over patients."""
    task = model.task.config
    assert isinstance(task, BoxConfig)
    found = [model.boxes(volume, config.window.overlap) for volume in cohort.volumes]
    base = [placed(means, volume.shape) for volume in cohort.volumes]
    network, mean_box = (
        task.scorer([task.scan(v, b) for v, b in zip(cohort.volumes, boxes, strict=True)])
        for boxes in (found, base)
    )

    def difference(picked: Array) -> dict[str, float]:
        one, other = network(picked), mean_box(picked)
        return {key: one[key] - other[key] for key in SHOWN}

    arms = {"network": network, "mean box": mean_box, "network minus mean box": difference}
    return {name: with_intervals(arm, cohort.patients, config) for name, arm in arms.items()}


def main() -> None:
    """Train, score, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--part", choices=("val", "test"), default="test")
    parser.add_argument("--head", choices=("walls", "pooled"), default="walls")
    parser.add_argument("--seed", type=int, default=0)
    args, more = parser.parse_known_args()
    if args.head == "pooled":
        localization.build = PooledLocalization  # type: ignore[assignment, misc]
    keys = KEYS | {"data": args.data, "out": args.out, "seed": args.seed}
    keys |= {name.removeprefix("--"): value for name, value in zip(more[::2], more[1::2], strict=True)}
    if code := foveate(["finetune", *(str(x) for k, v in keys.items() for x in (f"--{k}", v))]):
        raise SystemExit(code)
    model = open_model(str(args.out), "cpu")
    config = EvaluateConfig(
        run=str(args.out), data=str(args.data), out=str(args.out / "scores"), part=args.part
    )
    cohort = load_cohort(config, [config.run], model)
    task = model.task.config
    assert isinstance(task, BoxConfig)
    means = mean_boxes(task, load_cohort(replace(config, part="train"), [config.run], model))
    found = table(config, model, means, cohort)
    said = {"images": len(cohort.volumes), "patients": len(set(cohort.patients)), "part": args.part, **found}
    (args.out / f"{args.part}.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    for arm, metrics in found.items():
        assert isinstance(metrics, dict)
        for name in metrics:
            each = metrics[name]
            if "low" in each:
                print(f"{arm:<24}{name:<20}{each['value']:8.3f} [{each['low']:.3f}, {each['high']:.3f}]")


if __name__ == "__main__":
    main()

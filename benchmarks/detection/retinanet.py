"""A RetinaNet of MONAI's parts beside the centre heat map of `--task detection`, for ADR 87.

`python benchmarks/detection/retinanet.py OUT [--steps N]`, after `lidc.py` with the same OUT and N, whose
network is the other arm. It needs torchvision, which MONAI's detector imports. Both have the same encoder,
decoder, windows, corruption and optimiser. The RetinaNet has MONAI's heads on the maps with strides 2, 4 and
8, and anchors, matcher, sampler and suppression as MONAI's tutorial on LUNA16 sets them (anchors in voxels).
Ideal outputs of its heads must give every box back. It is trained for as many steps as take the processor
time of N steps of the heat map, measured before. Its rate is chosen on the validation crops from three
trainings of an eighth of that; the test is scored once.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from monai.apps.detection.networks.retinanet_detector import RetinaNetDetector
from monai.apps.detection.networks.retinanet_network import RetinaNet
from monai.apps.detection.utils.anchor_utils import AnchorGeneratorWithAnchorShape
from torch import Tensor, nn

import foveate
from foveate.commands.evaluate.cohort import load_cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.run import with_intervals
from foveate.commands.finetune.build import build_task
from foveate.commands.finetune.config import SPEC
from foveate.commands.finetune.images import LabelledImages, load_images
from foveate.commands.finetune.intensity import decoded_as
from foveate.core.boxes.geometry import HALF, Boxes
from foveate.core.boxes.tasks import BoxConfig, BoxTask, Scorer
from foveate.core.contracts import LabelledReader, VolumeReader
from foveate.core.types import Array, Batch, Progress
from foveate.data.cache.prepare import cache_folder
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.runtime.finetuned import open_model
from foveate.runtime.processes import build_fabric
from foveate.runtime.steps import batches_from
from foveate.tasks import detection
from foveate.tasks.detection import Config, Detection
from foveate.views.drawn import drawn
from foveate.views.pipeline import corrupted_crop, normalise, with_channels
from lidc import SHOWN, keys, task

ANCHORS = ((6, 8, 4), (8, 6, 5), (10, 10, 6))  # voxels, at the finest map; doubled at each coarser one
SCALES = (1, 2, 4)
WIDTH = 24  # channels of the heads, so that both arms have nearly as many weights
RATES = (1e-3, 3e-3, 1e-2)  # the heat map had the default, 3e-3
PACE_STEPS = 12
SURE = 10.0  # a logit of ideal outputs
SHARE = 8  # the trainings that choose the rate are that much shorter


class Answers(NamedTuple):
    """What a network says of the test crops."""

    scorer: Scorer
    patients: list[str]
    config: EvaluateConfig


class Levels(nn.Module):
    """The maps of a pyramid with strides 8, 4 and 2 as equally wide ones, fine to coarse."""

    def __init__(self, net: Pyramid) -> None:
        super().__init__()
        net.keep_scales(len(SCALES) - 1)
        self.encoder, self.decoder, self.out_channels = net.encoder, net.decoder, WIDTH
        widths = (net.encoder_channels[-1], *net.channels[: len(SCALES) - 1])
        self.narrowed = nn.ModuleList(nn.Conv3d(width, WIDTH, 1) for width in widths)

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, C, *S) to (B, WIDTH, *S / 2), (B, WIDTH, *S / 4), (B, WIDTH, *S / 8)."""
        encoded = self.encoder(images)
        maps = [encoded[-1], *self.decoder(encoded, len(SCALES) - 1)]
        return [conv(each) for conv, each in zip(self.narrowed, maps, strict=True)][::-1]


class AnchorDetection(Detection):
    """The task with MONAI's detector in place of the heat map and its peaks."""

    def __init__(self, net: Pyramid, config: Config) -> None:
        BoxTask.__init__(self)
        self.net, self.config = net, config
        anchors = AnchorGeneratorWithAnchorShape(feature_map_scales=SCALES, base_anchor_shapes=ANCHORS)
        network = RetinaNet(3, len(config.names), len(ANCHORS), Levels(net), size_divisible=2 * SCALES[-1])
        self.detector = RetinaNetDetector(network, anchors)
        self.detector.set_atss_matcher(num_candidates=4, center_in_gt=False)
        self.detector.set_hard_negative_sampler(
            batch_size_per_image=64, positive_fraction=0.3, pool_size=20, min_neg=16
        )
        self.detector.set_box_selector_parameters(
            score_thresh=0.02, topk_candidates_per_level=1000, nms_thresh=0.22, detections_per_img=100
        )

    def exported(self) -> dict[str, nn.Module]:
        """Encoder and decoder of the pyramid, and what MONAI adds."""
        return {"encoder": self.net.encoder, "decoder": self.net.decoder, "heads": self.heads_of_monai}

    @property
    def heads_of_monai(self) -> nn.ModuleDict:
        """What is neither encoder nor decoder."""
        network = self.detector.network
        return nn.ModuleDict(
            {
                "narrowed": network.feature_extractor.narrowed,
                "class": network.classification_head,
                "box": network.regression_head,
            }
        )

    def stages(self) -> list[list[nn.Parameter]]:
        """As the heat map's task has them."""
        new = [*self.heads_of_monai.parameters(), *self.net.decoder.parameters()]
        return [new, *stages(self.net.encoder)]

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """MONAI's two losses; a box that a window cuts counts as far as it is seen, as in the test."""
        images = corrupted_crop(
            batch, "image", self.config.appearance, channels=self.net.in_channels, seed=progress.seed
        ).flatten(0, 1)
        rows = drawn(batch, self.boxes_seen, progress.seed, images.device)
        corners = torch.cat([rows["centre"] - rows["size"] / 2, rows["centre"] + rows["size"] / 2], 2) + HALF
        there = rows["label"] >= 0
        targets = [
            {"boxes": box[kept].float(), "labels": label[kept].long()}
            for box, label, kept in zip(corners, rows["label"], there, strict=True)
        ]
        losses: dict[str, Tensor] = self.detector.train()(images, targets)
        return losses

    @torch.no_grad()
    def predict(self, volume: VolumeReader, overlap: float = 0.5, mirrored: Sequence[int] = ()) -> Boxes:  # noqa: ARG002
        """Boxes of a crop, which is no larger than a window."""
        assert not mirrored
        image = torch.as_tensor(volume.read((0, 0, 0), volume.shape))[None]
        clean = with_channels(image[:, None], self.net.in_channels)[:, 0]
        (found,) = self.detector.eval()(normalise(clean, self.normalisation))
        return as_boxes(found)

    @torch.no_grad()
    def ideal(self, volume: LabelledReader) -> Boxes:
        """The boxes of a crop that the heads' outputs give back which its labels ask for."""
        truth, d = self.config.known(volume).truth, self.detector.eval()
        corners = torch.as_tensor(np.c_[truth.low, truth.high] + HALF, dtype=torch.float32)
        shapes = [[-(-size // (2 * scale)) for size in volume.shape] for scale in SCALES]
        places = [int(np.prod(shape)) for shape in shapes]
        (anchors,) = d.anchor_generator(
            torch.zeros(1, 1, *volume.shape), [torch.zeros(1, 1, *shape) for shape in shapes]
        )
        target = {"boxes": corners, "labels": torch.as_tensor(truth.label)}
        (matched,) = d.compute_anchor_matched_idxs([anchors], [target], places)
        own, which = matched >= 0, matched.clamp(min=0)
        said = nn.functional.one_hot(target["labels"][which], len(self.config.names)) * own[:, None]
        outputs = {
            d.cls_key: (SURE * (2.0 * said - 1))[None],
            d.box_reg_key: d.box_coder.encode_single(corners[which], anchors)[None],
        }
        (found,) = d.postprocess_detections(outputs, [anchors], [list(volume.shape)], places)
        return as_boxes(found)


def as_boxes(found: Mapping[str, Tensor]) -> Boxes:
    """Boxes of MONAI, whose first voxel begins at 0, as ours."""
    low, high = (found["boxes"].double().numpy() - HALF).reshape(-1, 2, 3).transpose(1, 0, 2)
    scores = found["labels_scores"].numpy()
    return Boxes.of((low + high) / 2, high - low, found["labels"].numpy(), scores, axes=3).best_first()


def main(out: Path, steps: int) -> None:
    """Pace, rate, training, scores."""
    heat, weights = answers(out, out / "run")
    pace = out / "pace.json"  # measured once: a run that goes on has as many steps as before
    if not pace.exists():
        heat_map = seconds_per_step(out)
        detection.build = AnchorDetection
        pace.write_text(json.dumps({"heat map": heat_map, "RetinaNet": seconds_per_step(out)}))
    detection.build, seconds = AnchorDetection, json.loads(pace.read_text())
    returned = ideal_map(out)
    if returned < 1:
        raise RuntimeError(
            f"Ideal outputs have a map of {returned:.3f} on the validation crops: not all boxes come back."
        )
    fair = round(steps * seconds["heat map"] / seconds["RetinaNet"])
    scores = {rate: trained(out, f"rate_{rate:g}", fair // SHARE, rate) for rate in RATES}
    rate = max(RATES, key=lambda each: scores[each])
    trained(out, "anchors", fair, rate)
    anchors, more_weights = answers(out, out / "anchors")
    said = {
        "processor seconds of a step": seconds,
        "steps": {"heat map": steps, "RetinaNet": fair},
        "weights": {"heat map": weights, "RetinaNet": more_weights},
        "validation map by rate": {f"{each:g}": score for each, score in scores.items()},
        **compared(heat, anchors),
    }
    (out / "retinanet.json").write_text(json.dumps(said, indent=1) + "\n")
    print(json.dumps(said, indent=1))


def images_of(out: Path) -> LabelledImages:
    """The images of a run of `PACE_STEPS` steps."""
    config = SPEC.from_keys(
        {"data": str(out / "data"), "out": str(out / "unused"), "init": "none", "task": task()}
        | keys(PACE_STEPS)
    )
    return load_images(config, cache_folder(out, out / "data", decoded_as(config.prepare)))


def ideal_map(out: Path) -> float:
    """`map` on the validation crops where the RetinaNet's heads say exactly what the labels ask for."""
    images = images_of(out)
    network = build_task(images.config)
    assert isinstance(network, AnchorDetection)
    scans = [network.config.scan(each, network.ideal(each)) for each in images.val]
    return network.config.scorer(scans)(np.arange(len(scans)))["map"]


def seconds_per_step(out: Path) -> float:
    """Processor seconds of a step without the optimiser, the windows included."""
    images = images_of(out)
    network = build_task(images.config)
    batches = batches_from(images.config, images.train, network, build_fabric(images.config), 0)
    marks = []
    for batch in islice(batches, PACE_STEPS):
        torch.stack(list(network(batch, Progress(0, 1, 0)).values())).sum().backward()
        marks.append(time.process_time())
    return (marks[-1] - marks[1]) / (PACE_STEPS - 2)


def trained(out: Path, name: str, steps: int, rate: float) -> float:
    """Train, or go on; the best score on the validation crops."""
    every = steps if name.startswith("rate") else steps // 2
    given = {**keys(steps), "optim": {"lr": rate}, "validate_every": every, "preview_every": 0}
    foveate.finetune(data=out / "data", out=out / name, init="none", task=task(), **given)
    rows = [json.loads(row) for row in (out / name / "metrics.jsonl").read_text().splitlines()]
    return max(row["val/score"] for row in rows if "val/score" in row)


def answers(out: Path, run: Path) -> tuple[Answers, int]:
    """What a network says of the test crops, and how many weights it has."""
    model = open_model(str(run), "cpu")
    config = EvaluateConfig(run=str(run), data=str(out / "data"), out=str(out / "unused"), draws=2000)
    cohort = load_cohort(config, [config.run], model)
    task = model.task.config
    assert isinstance(task, BoxConfig)
    scans = [task.scan(volume, model.boxes(volume, config.window.overlap)) for volume in cohort.volumes]
    weights = sum(each.numel() for each in model.task.parameters())
    return Answers(task.scorer(scans), cohort.patients, config), weights


def compared(heat: Answers, anchors: Answers) -> dict[str, object]:
    """Both arms and their difference, which is paired, each with an interval over crops."""

    def difference(picked: Array) -> dict[str, float]:
        one, other = heat.scorer(picked), anchors.scorer(picked)
        return {name: one[name] - other[name] for name in SHOWN}

    arms = {"heat map": heat.scorer, "RetinaNet": anchors.scorer, "heat map minus RetinaNet": difference}
    return {name: with_intervals(arm, heat.patients, heat.config) for name, arm in arms.items()}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=600)
    given = parser.parse_args()
    main(given.out, given.steps)

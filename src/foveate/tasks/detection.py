"""Detection: any number of scored boxes in an image, in 2D and 3D.

The encoder that was pre-trained, a decoder with skip connections up to the stride of the answer, and on its
map for each class how much a cell is the centre of a box, how far the centre is and how long the sides are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor, nn

from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import BoxConfig, BoxTask, Scan, Scorer
from foveate.core.boxes.views import ViewBoxes
from foveate.core.contracts import Draw, VolumeReader
from foveate.core.dims import LAYERS, detection_crops, detection_iou
from foveate.core.types import (
    Activation,
    Array,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    Normalisation,
    Progress,
    Size,
)
from foveate.losses.centres import distance_loss, heat_loss, targets_of
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.pages.curves import Curve
from foveate.pages.plots import Plot, write_plots
from foveate.scoring.boxes.figures import draw_froc
from foveate.scoring.boxes.froc import curve_of, events_of, froc_metrics, sensitivity_at
from foveate.scoring.boxes.peaks import PeakRule, as_cells, boxes_in
from foveate.scoring.boxes.precision import precision_metrics, taken_of
from foveate.views.appearance import Appearance, CropLook
from foveate.views.drawn import drawn
from foveate.views.pipeline import corrupted_crop, normalise, with_channels

MILD = Appearance(noise_std=(0.0, 0.05), brightness=0.1, contrast=0.25, log_gamma=(-0.3, 0.3))
CURVES = "curves.json"  # charts of an evaluation's page
RATES_DRAWN = [2 ** (power / 4) for power in range(-16, 17)]  # false alarms per scan
RARE = -4.0  # logit with which every cell starts: nearly none is a centre


@dataclass(frozen=True, kw_only=True)
class Config(BoxConfig):
    """Detection.

    Attributes:
        crops: The windows.
        appearance: Corruption of the windows.
        stride: Voxels of a cell of the answer along every axis: a power of two, half of the smallest boxes or
            less.
        size_weight: Weight of the sides of boxes in the loss.
        offset_weight: Weight of the distance from a cell to the centre in the loss.
        iou: Intersection over union from which on a box is right, for average precision.
        least_score: Boxes with a lower score are dropped.
        most_iou: Of boxes of one class that overlap by more, the surest is kept.
        most_boxes: Boxes of an image that are kept, the surest first.
    """

    chosen_by: ClassVar[str] = "map"
    name: Literal["detection"] = "detection"
    crops: CropSpec
    appearance: Appearance
    stride: int = 2
    size_weight: float = 1.0
    offset_weight: float = 1.0
    iou: float
    least_score: float = 0.01
    most_iou: float = 0.1
    most_boxes: int = 100

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Config:
        """Defaults of a dimension and a size."""
        look = replace(MILD, normalisation=normalisation)
        return cls(crops=detection_crops(dimension, size), appearance=look, iou=detection_iou(dimension))

    def __post_init__(self) -> None:
        shares = {"iou": self.iou, "least_score": self.least_score, "most_iou": self.most_iou}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise FoveateError(f"task.{name} {value:g}: accepted are numbers from 0 to 1.")
        if self.iou == 0:
            raise FoveateError("task.iou 0: accepted are numbers above 0; at 0 every box would be right.")
        if self.most_boxes < 1:
            raise FoveateError(f"task.most_boxes {self.most_boxes}: accepted are numbers from 1.")

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    def scorer(self, scans: Sequence[Scan]) -> Scorer:
        """CPM and its sensitivities, average precision, and how many images and findings there are."""
        events = [events_of(scan) for scan in scans]
        taken = [taken_of(scan, self.iou) for scan in scans]

        def metrics(picked: Array) -> dict[str, float]:
            some = [events[i] for i in picked]
            return {
                **precision_metrics([taken[i] for i in picked], self.names),
                **froc_metrics(some),
                "n": float(len(some)),
                "n/findings": float(sum(len(each.hits) for each in some)),
            }

        return metrics

    def row(self, scan: Scan) -> dict[str, float]:
        """Findings of an image, how many of them the answer hits at all, and its surest false alarm."""
        events = events_of(scan)
        findings, hit = len(events.hits), int(np.isfinite(events.hits).sum())
        return {
            "recall": hit / findings if findings else float("nan"),
            "findings": float(findings),
            "hit": float(hit),
            "false_alarms": float(len(events.false)),
            "surest_false_alarm": float(events.false.max(initial=0)),
        }

    def mistakes(self, scan: Scan) -> float:
        """The surest false alarm's score minus the least sure hit's; a missed finding has score 0."""
        events = events_of(scan)
        hits = np.where(np.isfinite(events.hits), events.hits, 0)
        return float(events.false.max(initial=0) - hits.min(initial=1))

    def report(self, scans: Sequence[Scan], out: Path) -> Mapping[str, object]:
        """The FROC curve as a picture and as a chart of the page; nothing where there is no finding."""
        curve = curve_of([events_of(scan) for scan in scans])
        if not np.isnan(curve.sensitivity[0]):
            draw_froc(out / "froc.png", curve)
            drawn = Curve(RATES_DRAWN, sensitivity_at(curve, RATES_DRAWN).tolist())
            plot = Plot("false alarms per scan", "sensitivity", {"FROC": drawn}, log_x=True)
            write_plots(out / CURVES, {"FROC": plot})
        return {}


class Detection(BoxTask):
    """A skip decoder on an encoder, and two small heads on one of its maps."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        if config.stride not in net.strides:
            raise FoveateError(
                f"task.stride {config.stride}: accepted are {sorted(net.strides)}, those of the decoder."
            )
        self.net, self.config = net, config
        self.scale = net.strides.index(config.stride)
        net.keep_scales(self.scale + 1)  # what no answer reads needs no weights
        width, n = net.channels[self.scale], net.dimension
        conv = LAYERS[n].conv

        def head(outputs: int) -> nn.Sequential:
            return nn.Sequential(conv(width, width, 3, padding=1), nn.ReLU(), conv(width, outputs, 1))

        heat = head(len(config.names))
        nn.init.constant_(next(reversed(list(heat.parameters()))), RARE)  # the bias of its last layer
        self.heads = nn.ModuleDict({"heat": heat, "box": head(2 * n)})

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """One kind of window."""
        return {"image": self.config.crops}

    @property
    def boxes_seen(self) -> ViewBoxes:
        """The boxes of the windows."""
        return ViewBoxes("image", self.config)

    @property
    def draws(self) -> Sequence[Draw]:
        """Those of the windows' corruption, and their boxes."""
        return [CropLook(crop="image", appearance=self.config.appearance), self.boxes_seen]

    @property
    def patch(self) -> tuple[int, ...]:
        """The window's grid."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """A sigmoid for every class."""
        return "sigmoid"

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net.encoder, "decoder": self.net.decoder, "heads": self.heads}

    def stages(self) -> list[list[nn.Parameter]]:
        """Heads and decoder together, then the encoder from its coarsest level to its stem."""
        new = [*self.heads.parameters(), *self.net.decoder.parameters()]
        return [new, *stages(self.net.encoder)]

    def answered(self, images: Tensor) -> Tensor:
        """Normalised images to maps (B, K + 2n, *S / stride): heat of the classes, offsets, sides."""
        found = self.net(images, self.scale + 1)[self.scale]
        return torch.cat([self.heads["heat"](found), self.heads["box"](found)], 1)

    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to maps (B, K + 2n, *S / stride)."""
        clean = with_channels(images[:, None], self.net.in_channels)[:, 0]
        return self.answered(normalise(clean, self.normalisation))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Where centres are, how far cells are from them, how long sides are."""
        c = self.config
        images = corrupted_crop(
            batch, "image", c.appearance, channels=self.net.in_channels, seed=progress.seed
        )
        maps = self.answered(images.flatten(0, 1))
        rows = drawn(batch, self.boxes_seen, progress.seed, maps.device)
        places = as_cells(rows["centre"], rows["size"], c.stride)
        goal = targets_of(*places, rows["label"], rows["whole"], tuple(maps.shape[2:]), len(c.names))
        k, n = len(c.names), self.net.dimension
        return {
            "heat": heat_loss(maps[:, :k], goal.heat, goal.counts),
            "offset": c.offset_weight * distance_loss(maps[:, k : k + n], goal.offset, goal.near),
            "size": c.size_weight * distance_loss(maps[:, k + n :], goal.size, goal.near),
        }

    @torch.no_grad()
    def predict(self, volume: VolumeReader, overlap: float = 0.5, mirrored: Sequence[int] = ()) -> Boxes:
        """Boxes of a whole image, window by window."""
        c = self.config
        rule = PeakRule(
            classes=len(c.names),
            stride=c.stride,
            least_score=c.least_score,
            most_iou=c.most_iou,
            most_boxes=c.most_boxes,
        )
        device = next(self.parameters()).device
        return boxes_in(
            volume, self.outputs, self.patch, rule, overlap=overlap, device=device, mirrored=mirrored
        )


build = Detection

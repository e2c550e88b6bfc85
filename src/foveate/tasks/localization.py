"""Localisation: the box of every named organ in a whole image, and whether the organ is there.

The image is seen as a whole, on a coarse grid. A convolution on the decoder's finest map says for each organ
and each wall of its box where that wall is seen; summed over the other axes that is a distribution
along the wall's own axis, whose mean near its peak is the answer (ADR 84). Whether an organ is there is said
by the pooled map of the encoder.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.boxes.geometry import Boxes
from foveate.core.boxes.tasks import BoxConfig, BoxTask, Known, Scan, Scorer
from foveate.core.boxes.views import ViewBoxes
from foveate.core.contracts import Draw, LabelledReader, VolumeReader
from foveate.core.dims import LAYERS, localization_crops
from foveate.core.types import Activation, Array, Batch, CropSpec, Dimension, Normalisation, Progress, Size
from foveate.losses.walls import wall_distances, wall_losses, walls_found
from foveate.nets.heads import pooled
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.scoring import figures
from foveate.scoring.protocols.organs import PRESENT, organ_errors, organ_metrics, organ_row
from foveate.views.appearance import Appearance, CropLook
from foveate.views.drawn import drawn
from foveate.views.pipeline import corrupted_crop, make_views, normalise, with_channels

MILD = Appearance(noise_std=(0.0, 0.03), brightness=0.1, contrast=0.2, log_gamma=(-0.2, 0.2))
THINNEST = 1e-3  # of a box, in voxels: walls that are said in the wrong order still make one


@dataclass(frozen=True, kw_only=True)
class Config(BoxConfig):
    """Localisation of organs.

    Attributes:
        wall_weight: Of the cross-entropy between where a wall is and where it is seen.
        distance_weight: Of the distance between a wall and the mean of where it is seen, as a share of the
            grid.
        presence_weight: Of the cross-entropy of whether an organ is there.
        crops: The windows: the whole image, moved, turned and zoomed a little.
        appearance: Corruption of the windows.
    """

    pieces: ClassVar[bool] = False
    one_each: ClassVar[bool] = True
    by_windows: ClassVar[bool] = False
    shown_from: ClassVar[float] = PRESENT
    chosen_by: ClassVar[str] = "wall_mm"
    less_is_better: ClassVar[tuple[str, ...]] = ("wall_mm", "centre_mm")
    name: Literal["localization"] = "localization"
    wall_weight: float = 1.0
    distance_weight: float = 10.0
    presence_weight: float = 1.0
    crops: CropSpec
    appearance: Appearance

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Config:
        """Defaults of a dimension and a size."""
        look = replace(MILD, normalisation=normalisation)
        return cls(crops=localization_crops(dimension, size), appearance=look)

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    def boxes_of(self, labels: Array, values: Collection[int]) -> Boxes:
        """One box for each class in a map: all of its voxels."""
        return hull(super().boxes_of(labels, values))

    def known(self, case: LabelledReader) -> Known:
        """The boxes of a case, one for each class."""
        truth, ignored = super().known(case)
        return Known(hull(truth), ignored)

    def scorer(self, scans: Sequence[Scan]) -> Scorer:
        """Distances of walls and centres, how often an organ is found, and whether it is there."""
        errors = [organ_errors(scan, len(self.names)) for scan in scans]
        return lambda picked: organ_metrics([errors[i] for i in picked.tolist()], self.names)

    def row(self, scan: Scan) -> dict[str, float]:
        """Distances of every organ, NaN where it is not there."""
        return organ_row(organ_errors(scan, len(self.names)), self.names)

    def mistakes(self, scan: Scan) -> float:
        """The mean distance of walls."""
        return organ_metrics([organ_errors(scan, len(self.names))], self.names)["wall_mm"]

    def report(self, scans: Sequence[Scan], out: Path) -> dict[str, object]:
        """Every distance of walls as a dot, a column for each organ."""
        errors = [organ_errors(scan, len(self.names)) for scan in scans]
        columns = {name: [float(each.wall[k]) for each in errors] for k, name in enumerate(self.names)}
        figures.draw_scores(out / "walls.png", columns, "distance of walls, mm")
        return {}


def hull(boxes: Boxes) -> Boxes:
    """One box for each class: the smallest that holds all of its boxes."""
    kinds, axes = sorted(set(boxes.label.tolist())), boxes.centre.shape[1]
    some = [boxes.picked(boxes.label == kind) for kind in kinds]
    low = np.reshape([each.low.min(0) for each in some], (-1, axes))
    high = np.reshape([each.high.max(0) for each in some], (-1, axes))
    return Boxes.between(low, high, kinds, axes=axes)


class Seen(NamedTuple):
    """What the network says of some views."""

    walls: list[Tensor]  # for each axis (B, K, 2, cells): logits of the low and the high wall along it
    presence: Tensor  # (B, K) logits


class Localization(BoxTask):
    """Walls of boxes as distributions along each axis, on the pyramid's finest map."""

    net: Pyramid
    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        self.axes = len(config.crops.grid)
        organs = len(config.names)
        conv = LAYERS[self.axes].conv
        self.heads = nn.ModuleDict(
            {
                "walls": conv(net.channels[-1], organs * self.axes * 2, 1),
                "presence": nn.Linear(net.encoder_channels[-1], organs),
            }
        )

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """One kind of window."""
        return {"image": self.config.crops}

    @property
    def boxes_seen(self) -> ViewBoxes:
        """The boxes of the windows."""
        return ViewBoxes(crop="image", config=self.config)

    @property
    def draws(self) -> Sequence[Draw]:
        """Those of the windows' corruption, and the boxes that they show."""
        return [CropLook(crop="image", appearance=self.config.appearance), self.boxes_seen]

    @property
    def patch(self) -> tuple[int, ...]:
        """The window's grid, which the whole image is sampled on."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """None: walls are positions, and presence is a logit beside them."""
        return "none"

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net.encoder, "decoder": self.net.decoder, "heads": self.heads}

    def stages(self) -> list[list[nn.Parameter]]:
        """Heads and decoder together, then the encoder from its coarsest level to its stem."""
        new = [*self.heads.parameters(), *self.net.decoder.parameters()]
        return [new, *stages(self.net.encoder)]

    def seen(self, images: Tensor) -> Seen:
        """Normalised images (B, C, *S) to logits of walls and of presence."""
        encoded = self.net.encoder(images)
        finest = self.net.decoder(encoded, len(self.net.channels))[-1]
        logits = self.heads["walls"](finest).float()
        logits = logits.unflatten(1, (len(self.class_names), self.axes, 2))  # (B, K, n, 2, *S)
        walls = []
        for axis in range(self.axes):
            others = [3 + i for i in range(self.axes) if i != axis]  # of (B, K, 2, *S)
            walls.append(logits[:, :, axis].logsumexp(others))
        return Seen(walls, self.heads["presence"](pooled(encoded[-1])).float())

    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to (B, K, 2 n + 1): low walls, high walls in cells, a logit of presence."""
        clean = with_channels(images[:, None], self.net.in_channels)[:, 0]
        seen = self.seen(normalise(clean, self.normalisation))
        found = torch.stack([walls_found(each) for each in seen.walls], -1)  # (B, K, 2, n)
        return torch.cat([found.flatten(2), seen.presence[..., None]], -1)

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Where walls are seen, how far their means are away, and whether organs are there."""
        c = self.config
        images, truth, there = boxes_in(self, batch, progress)
        seen = self.seen(images)
        pairs = list(zip(seen.walls, truth.unbind(-1), strict=True))
        wall = torch.stack([wall_losses(logits, at, there) for logits, at in pairs]).mean()
        away = torch.stack([wall_distances(logits, at, there) for logits, at in pairs]).mean()
        presence = F.binary_cross_entropy_with_logits(seen.presence, there)
        return {
            "wall": c.wall_weight * wall,
            "distance": c.distance_weight * away,
            "presence": c.presence_weight * presence,
        }

    @torch.no_grad()
    def predict(self, volume: VolumeReader, overlap: float = 0.5, mirrored: Sequence[int] = ()) -> Boxes:  # noqa: ARG002 - sees the whole image
        """The box of every organ, whether or not it is there; its score is the probability that it is."""
        whole = replace(self.config.crops, flip_axes=(), rotation_degrees=0.0, zoom=0.0, shift=0.0)
        whole = replace(whole, volume_share=(1.0, 1.0), around_probability=0.0)
        view = make_views(volume, 0, specs={"image": whole}, seed=0)["image"]
        images = view.images[:1].to(next(self.parameters()).device)
        answer = self.outputs(images.flip([axis + 2 for axis in mirrored]))[0].double().cpu()
        walls = answer[:, :-1].reshape(-1, 2, self.axes).numpy()  # (K, 2, n) in cells
        for axis in mirrored:
            walls[:, :, axis] = self.patch[axis] - 1 - walls[:, :, axis]
        matrix = view.affines[0].double().numpy()
        voxels = walls * np.diagonal(matrix[:, : self.axes]) + matrix[:, -1]
        low, high = voxels.min(1), voxels.max(1)
        size = np.maximum(high - low, THINNEST)
        score = answer[:, -1].sigmoid().numpy()
        return Boxes.of((low + high) / 2, size, np.arange(len(low)), score, axes=self.axes).best_first()


def boxes_in(task: Localization, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor, Tensor]:
    """Corrupted views (R, C, *S), their walls (R, K, 2, n) in cells, and which organs they show (R, K)."""
    look, channels = task.config.appearance, task.net.in_channels
    images = corrupted_crop(batch, "image", look, channels=channels, seed=progress.seed).flatten(0, 1)
    rows = drawn(batch, task.boxes_seen, progress.seed, images.device)
    organs = torch.arange(len(task.class_names), device=images.device)
    mine = (rows["label"][:, :, None] == organs).float()  # (R, N, K): one row at most for each organ
    ends = rows["centre"] - rows["size"] / 2, rows["centre"] + rows["size"] / 2
    walls = torch.stack([torch.einsum("rnk,rna->rka", mine, each.float()) for each in ends], 2)
    return images, walls, mine.sum(1)


build = Localization

"""Segmentation: a class, or several overlapping ones, for every voxel.

The encoder that was pre-trained, a decoder with skip connections, a convolution per answer. Classes are named
unions of the values in the label files: `edema=2`, `whole=1+2+4`. Where no value belongs to two of them, one
softmax over background and classes decides; where some do (regions inside each other), a sigmoid each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from foveate.core.contracts import Draw, LabelledReader, VolumeReader
from foveate.core.dims import LAYERS, segmentation_crops
from foveate.core.labels import LABELS, unions
from foveate.core.tasks import DenseConfig, DenseTask, Truth
from foveate.core.types import (
    Activation,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)
from foveate.losses.overlap import dice_loss, tversky_loss, voxel_loss
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.scoring.inference import Pace, WindowConfig
from foveate.scoring.metrics import dice, mean
from foveate.scoring.segment import TidyConfig, segment
from foveate.views.appearance import Appearance, CropLook
from foveate.views.pipeline import corrupted_crop, normalise, with_channels

MILD = Appearance(noise_std=(0.0, 0.05), brightness=0.1, contrast=0.25, log_gamma=(-0.3, 0.3))


@dataclass(frozen=True, kw_only=True)
class Config(DenseConfig):
    """Segmentation.

    Attributes:
        classes: What to segment, each "name=value" or "name=value+value" with values of the label files;
            by default found in the data.
        ignore: Values of voxels of which nothing is known: they count neither in losses nor in metrics.
        crops: The windows.
        appearance: Corruption of the windows.
        region_loss: Comparison of regions.
        region_weight: Its weight.
        misses: Tversky's weight of missed voxels.
        false_alarms: Tversky's weight of wrongly found ones.
        voxel_weight: Weight of the cross-entropy.
        focus: The focal loss's gamma; 0 is plain cross-entropy.
        deep_supervision: How many coarser decoder scales answer too, each with half the weight of the
            one before.
    """

    name: Literal["segmentation"] = "segmentation"
    classes: tuple[str, ...] = ()
    ignore: tuple[int, ...] = ()
    crops: CropSpec
    appearance: Appearance
    region_loss: Literal["dice", "tversky"] = "dice"
    region_weight: float = 1.0
    misses: float = 0.7
    false_alarms: float = 0.3
    voxel_weight: float = 1.0
    focus: float = 0.0
    deep_supervision: int = 0

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Config:
        """Defaults of a dimension and a size."""
        look = replace(MILD, normalisation=normalisation)
        return cls(crops=segmentation_crops(dimension, size), appearance=look)

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    @property
    def unknown_values(self) -> tuple[int, ...]:
        """Those that are ignored."""
        return self.ignore

    def settle(self, facts: LabelFacts) -> Config:
        """The same with classes from the training labels where none were said; refuses other values."""
        ignore = self.ignore or facts.ignore
        found = sorted(value for value in facts.values if value not in (0, *ignore))
        classes = self.classes or facts.classes or tuple(f"class{value}={value}" for value in found)
        if not classes:
            raise FoveateError(
                "The training labels hold nothing but background; at least one class is needed."
            )
        named = unions(classes)
        declared = {value for values in named.values() for value in values}
        if strange := [value for value in (*found, *facts.others) if value not in (0, *declared, *ignore)]:
            raise FoveateError(
                f"The labels hold the values {strange}, which no class of {', '.join(classes)} declares; say "
                f"--task.classes with them, or --task.ignore '{strange}' for voxels that must not count."
            )
        if absent := [name for name, values in named.items() if not set(values) & set(facts.values)]:
            raise FoveateError(
                f"Class {absent[0]} ({'+'.join(map(str, named[absent[0]]))}) is in none of the training "
                f"labels, which hold {found}; drop it from --task.classes or change the split."
            )
        return replace(self, classes=tuple(classes), ignore=tuple(ignore))


class Segmentation(DenseTask):
    """A skip decoder on an encoder, and a convolution per answer."""

    net: Pyramid
    config: Config
    weighs_voxels = True
    table: Tensor
    known: Tensor
    lowest: Tensor

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net, config
        self.groups = unions(config.classes)
        values = [value for group in self.groups.values() for value in group]
        self.exclusive = len(values) == len(set(values))
        self.names = (("background",) if self.exclusive else ()) + tuple(self.groups)
        groups = ([(0,)] if self.exclusive else []) + list(self.groups.values())
        self.register_buffer("table", membership(groups, config.ignore), persistent=False)
        known = ~torch.isin(torch.arange(len(self.table)), torch.tensor(config.ignore))
        known[-1] = False  # the row of negative values
        self.register_buffer("known", known, persistent=False)
        self.register_buffer("lowest", torch.tensor(self.label_values), persistent=False)
        finest = len(net.channels) - 1
        if not 0 <= config.deep_supervision <= finest:
            raise FoveateError(
                f"task.deep_supervision {config.deep_supervision}: accepted are 0 to {finest}."
            )
        conv = LAYERS[net.dimension].conv
        self.scales = [finest - i for i in range(config.deep_supervision + 1)]
        self.heads = nn.ModuleDict({str(s): conv(net.channels[s], len(groups), 1) for s in self.scales})

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """One kind of window."""
        return {"image": self.config.crops}

    @property
    def draws(self) -> Sequence[Draw]:
        """Those of the windows' corruption."""
        return [CropLook(crop="image", appearance=self.config.appearance)]

    @property
    def patch(self) -> tuple[int, ...]:
        """The window's grid."""
        return self.config.crops.grid

    @property
    def activation(self) -> Activation:
        """Softmax over background and classes, or a sigmoid each where classes overlap."""
        return "softmax" if self.exclusive else "sigmoid"

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of the outputs, in their order."""
        return self.names

    @property
    def label_values(self) -> tuple[int, ...]:
        """The lowest value of each class."""
        lowest = tuple(min(group) for group in self.groups.values())
        return (0, *lowest) if self.exclusive else lowest

    @property
    def codebook(self) -> dict[int, tuple[int, ...]]:
        """As for any task, but where classes overlap a value says which of them hold."""
        if self.exclusive:
            return super().codebook
        values = sorted({0, *(value for group in self.groups.values() for value in group)})
        return {v: tuple(k for k, group in enumerate(self.groups.values()) if v in group) for v in values}

    def canonical(self, labels: Tensor) -> Tensor:
        """Of the values of one class the lowest, where classes exclude each other; -1 where none is known."""
        rows = self.table_rows(labels)
        same = self.lowest[self.table[rows].argmax(-1)]
        return torch.where(self.known[rows], same if self.exclusive else labels, -1)

    @property
    def declared(self) -> set[int]:
        """Background, classes and what is ignored."""
        return {0, *(value for group in self.groups.values() for value in group), *self.config.ignore}

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net.encoder, "decoder": self.net.decoder, "heads": self.heads}

    def stages(self) -> list[list[nn.Parameter]]:
        """Heads and decoder together, then the encoder from its coarsest level to its stem."""
        new = [*self.heads.parameters(), *self.net.decoder.parameters()]
        return [new, *stages(self.net.encoder)]

    def outputs(self, images: Tensor) -> Tensor:
        """Clean images (B, C, *S) to logits (B, K, *S)."""
        maps = self.net(
            normalise(with_channels(images[:, None], self.net.in_channels)[:, 0], self.normalisation)
        )
        logits: Tensor = self.heads[str(self.scales[0])](maps[-1])
        return logits

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The region and the voxel term, each averaged over the scales that answer."""
        look, channels = self.config.appearance, self.net.in_channels
        images = corrupted_crop(batch, "image", look, channels=channels, seed=progress.seed)
        labels = batch["regions"][f"{LABELS}/image"].flatten(0, 1)
        counts = batch.get("weights", {}).get(f"{LABELS}/image")
        weight = None if counts is None else counts.flatten(0, 1)
        maps = self.net(images.flatten(0, 1))
        weights = [0.5**i for i in range(len(self.scales))]
        pairs = [self.losses(self.heads[str(s)](maps[s]), labels, weight) for s in self.scales]
        sums = [
            sum(w * term for w, term in zip(weights, terms, strict=True))
            for terms in zip(*pairs, strict=True)
        ]
        return {
            name: torch.as_tensor(total / sum(weights))
            for name, total in zip(("region", "voxel"), sums, strict=True)
        }

    def losses(self, logits: Tensor, labels: Tensor, weight: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """The two terms at one scale; labels and weights (B, *S) are those of the nearest voxels."""
        c = self.config
        labels = F.interpolate(labels[:, None].float(), logits.shape[2:], mode="nearest-exact")[:, 0].long()
        target, known = self.targets(labels)
        if weight is not None:
            known = known * F.interpolate(weight[:, None], logits.shape[2:], mode="nearest-exact")
        shares = logits.float().softmax(1) if self.exclusive else logits.float().sigmoid()
        first = 1 if self.exclusive else 0  # background is no region
        tversky = {} if c.region_loss == "dice" else {"misses": c.misses, "false_alarms": c.false_alarms}
        compare = tversky_loss if tversky else dice_loss
        region = compare(shares[:, first:], target[:, first:], known, **tversky)
        voxel = voxel_loss(logits, target, known, exclusive=self.exclusive, focus=c.focus)
        return c.region_weight * region, c.voxel_weight * voxel

    def targets(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Label values (B, *S) to one- or multi-hot classes (B, K, *S), and which voxels count (B, 1, *S)."""
        rows = self.table_rows(labels)
        return self.table[rows].movedim(-1, 1), self.known[rows][:, None]

    def table_rows(self, labels: Tensor) -> Tensor:
        """Label values to rows of `table` and `known`; negative values, always ignored, share the last."""
        return torch.where(labels < 0, len(self.table) - 1, labels)

    @torch.no_grad()
    def predict(self, volume: VolumeReader) -> Tensor:
        """Answers (K, *S) of a whole volume on its own grid."""
        found = segment(
            volume,
            self.outputs,
            patch=self.patch,
            classes=len(self.names),
            activation=self.activation,
            window=WindowConfig(blend="flat", overlap=self.validation_overlap),
            tidy=TidyConfig(),
            pace=Pace(next(self.parameters()).device),
        )
        return torch.from_numpy(np.stack([found.mask(k) for k in range(len(self.names))]))

    def metrics(self, judged: Sequence[Sequence[float]]) -> dict[str, float]:
        """Dice of every class, the mean over cases, and the mean of those.

        A class that is neither in a case nor predicted there does not count for it.
        """
        columns = zip(*judged, strict=True)
        names = self.names[1 if self.exclusive else 0 :]
        named = {f"dice/{name}": mean(column) for name, column in zip(names, columns, strict=True)}
        score = mean(list(named.values()))
        return {"score": score, "mean_fg_dice": score, **named}

    def judged(self, case: LabelledReader) -> list[float]:
        """Dice of every class in one case."""
        seen = self.outlines(case)
        pairs = zip(seen["prediction"].numpy(), seen["truth"].numpy(), strict=True)
        return [dice(predicted, truth) for predicted, truth in pairs]

    def truth(self, case: LabelledReader) -> Truth:
        """A mask for every class."""
        labels = case.read_map(LABELS, [0] * len(case.shape), case.shape)
        masks = {name: np.isin(labels, values) for name, values in self.groups.items()}
        return Truth(masks, ~np.isin(labels, self.config.ignore))

    def outlines(self, case: LabelledReader) -> dict[str, Tensor]:
        """Truth and prediction of the classes, where the truth is known."""
        masks, known = self.truth(case)
        truth, where = torch.from_numpy(np.stack(list(masks.values()))), torch.from_numpy(known)
        predicted = self.predict(case)[1 if self.exclusive else 0 :]
        return {"truth": truth & where, "prediction": predicted & where}


def membership(groups: Sequence[tuple[int, ...]], ignore: Sequence[int]) -> Tensor:
    """(values, K): 1 where a label value belongs to a class."""
    table = torch.zeros(2 + max(v for values in (*groups, tuple(ignore)) for v in values), len(groups))
    for k, values in enumerate(groups):
        table[list(values), k] = 1
    return table


build = Segmentation

"""Candidates: a score for each place of a list, from a cube (in 2D a square) around it.

Pooled maps of the pre-trained encoder, a dropout and a linear layer, as for whole images, but a sample is cut
around a listed place of a whole image: so LUNA16 reduces the false positives of a nodule detector. Places
with a finding and without are drawn at a stated ratio, and moved, turned and corrupted alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from foveate.core.boxes.geometry import Boxes, in_voxels, joined
from foveate.core.boxes.tasks import BoxConfig, BoxTask, Kind, Known, Scan, Scorer
from foveate.core.contracts import Draw, LabelledReader
from foveate.core.dims import candidate_crops
from foveate.core.labels import LABELS, unions
from foveate.core.types import (
    Activation,
    Array,
    Batch,
    CropSpec,
    Dimension,
    FoveateError,
    LabelFacts,
    Normalisation,
    Progress,
    Size,
)
from foveate.data.boxes.places import FINEST
from foveate.data.boxes.tables import UNNAMED
from foveate.losses.classification import independent_loss
from foveate.nets.heads import pooled
from foveate.nets.layers import stages
from foveate.nets.pyramid import Pyramid
from foveate.scoring.figures import draw_answers
from foveate.scoring.metrics import NAN, auroc, mean
from foveate.views.appearance import Appearance, CropLook
from foveate.views.pipeline import corrupted_crop, make_views, normalise, with_channels

MILD = Appearance(noise_std=(0.0, 0.03), brightness=0.1, contrast=0.2, log_gamma=(-0.2, 0.2))
FLAG = "1"  # of a column `class` that holds 0 and 1: the class has no name
NEAR_MM = 0.5  # a score belongs to the listed place that is so near: tables round their numbers
TOGETHER = 16  # cubes that are answered at once


@dataclass(frozen=True, kw_only=True)
class Config(BoxConfig):
    """A score for each listed candidate.

    Attributes:
        negative: Names of the classes whose candidates have no finding; every other class is to be scored.
        ratio: Candidates without a finding for each one with: so samples are drawn. With several classes of
            findings each has the same share.
        dropout: On the pooled features.
        crops: The windows, each around a candidate.
        appearance: Corruption of the windows.
    """

    places_given: ClassVar[bool] = True
    by_windows: ClassVar[bool] = False
    chosen_by: ClassVar[str] = "auroc"
    name: Literal["candidates"] = "candidates"
    negative: tuple[str, ...] = ("0", "none", "candidate")
    ratio: float = 1.0
    dropout: float = 0.2
    crops: CropSpec
    appearance: Appearance

    @classmethod
    def preset(cls, dimension: Dimension, size: Size, normalisation: Normalisation) -> Config:
        """Defaults of a dimension and a size."""
        look = replace(MILD, normalisation=normalisation)
        return cls(crops=candidate_crops(dimension, size), appearance=look)

    def __post_init__(self) -> None:
        if not 1 / FINEST <= self.ratio <= FINEST:
            raise FoveateError(
                f"task.ratio {self.ratio:g}: accepted are numbers from {1 / FINEST} to {FINEST}."
            )
        if self.crops.around or self.crops.around_probability:
            raise FoveateError(
                "task.crops.around, task.crops.around_probability: every window lies around a listed place; "
                "accepted: '' and 0."
            )

    @property
    def normalisation(self) -> Normalisation:
        """That of the appearance."""
        return self.appearance.normalisation

    @property
    def names(self) -> tuple[str, ...]:
        """The classes with a finding; none before the labels are known."""
        found = (name for name in unions(self.classes) if name not in self.negative)
        return tuple(UNNAMED if name == FLAG else name for name in found)

    @property
    def numbers(self) -> Array:
        """Of every class its place among `names`, their number for one without a finding."""
        own = [name not in self.negative for name in unions(self.classes)]
        return np.where(own, np.cumsum(own) - 1, sum(own))

    def settle(self, facts: LabelFacts) -> Self:
        """The same with the classes of the training labels: candidates with a finding, and without."""
        if not facts.instances:
            raise FoveateError(
                "--task candidates: the labels are label maps; accepted: a table that lists candidates, such "
                "as boxes.csv in the folder of the images or --boxes.file, with a column class."
            )
        settled = super().settle(facts)
        classes = list(unions(settled.classes))
        if len(settled.names) in (0, len(classes)):
            raise FoveateError(
                f"--task.negative {','.join(self.negative)}: the candidates are of the classes "
                f"{', '.join(classes)}; accepted: names of those without a finding, but not of all of them."
            )
        return settled

    @property
    def kinds(self) -> Sequence[Kind]:
        """Each class of findings, and the places without."""
        labels = {k: {name: float(name == own) for name in self.names} for k, own in enumerate(self.names)}
        nothing = dict.fromkeys(self.names, 0.0)
        own = [Kind(name, 1 / len(self.names), labels[k]) for k, name in enumerate(self.names)]
        return [*own, Kind("no finding", self.ratio, nothing)]

    def places(self, case: LabelledReader) -> Boxes:
        """The candidates that count, in the order of their table; `label` is their kind."""
        return self.of_kinds(super().known(case).truth)

    def of_kinds(self, listed: Boxes) -> Boxes:
        """Listed places with their kind; one that is listed with a finding and without has it."""
        places = replace(listed, label=self.numbers[listed.label])
        own = places.label < len(self.names)
        found = set(map(tuple, places.centre[own].tolist()))
        return places.picked(own | [tuple(centre) not in found for centre in places.centre.tolist()])

    def known(self, case: LabelledReader) -> Known:
        """Those with a finding, and those that do not count."""
        known = super().known(case)
        places = self.of_kinds(known.truth)
        return Known(places.picked(places.label < len(self.names)), known.ignored)

    def lacking(self, values: Iterable[int]) -> str:
        """Both kinds are needed for an AUROC."""
        kinds = {int(self.numbers[number]) for number in self.classes_of(values).values() if number >= 0}
        if not kinds & set(range(len(self.names))):
            return "a candidate with a finding"
        return "" if len(self.names) in kinds else "a candidate without a finding"

    def scan(self, case: LabelledReader, found: Boxes) -> Scan:
        """The candidates with their scores, whose place a table may have rounded; without a score it is 0."""
        own, sides = super().known(case), case.spacing_mm
        listed = self.of_kinds(own.truth)
        scores = np.nan_to_num(self.scores(listed, found, sides))
        parts = [replace(listed, label=np.full(len(listed), k), score=s) for k, s in enumerate(scores)]
        truth, scored = listed.picked(listed.label < len(self.names)), joined(parts, len(sides))
        return Scan(truth.scaled(sides), own.ignored.scaled(sides), scored.scaled(sides))

    def scores(self, listed: Boxes, found: Boxes, sides: Sequence[float]) -> Array:
        """Of every class the scores at listed places (K, N), NaN where there is none."""
        return np.array(
            [scores_at(listed, found.picked(found.label == k), sides) for k in range(len(self.names))]
        )

    def unscored(self, case: LabelledReader, found: Boxes) -> int:
        """Listed places without a score for some class."""
        scores = self.scores(self.of_kinds(super().known(case).truth), found, case.spacing_mm)
        return int(np.isnan(scores).any(0).sum())

    def scorer(self, scans: Sequence[Scan]) -> Scorer:
        """AUROC of the candidates of all images together, for every class of findings and their mean."""
        facts = [facts_of(scan, len(self.names)) for scan in scans]

        def metrics(picked: Array) -> dict[str, float]:
            some = [facts[i] for i in picked]
            scores, truth = (
                np.concatenate([np.zeros((len(self.names), 0)), *each], 1)
                for each in ([s for s, _ in some], [t for _, t in some])
            )
            each = {f"auroc/{n}": auroc(scores[k], truth[k]) for k, n in enumerate(self.names)}
            return {
                "auroc": mean(list(each.values())),
                **each,
                "n": float(len(some)),
                "n/candidates": float(scores.shape[1]),
                "n/findings": float(truth.sum()),
            }

        return metrics

    def row(self, scan: Scan) -> dict[str, float]:
        """Candidates of an image, how many have a finding, and its AUROC where there are both."""
        scores, truth = facts_of(scan, len(self.names))
        return {
            "auroc": mean([auroc(*each) for each in zip(scores, truth, strict=True)]),
            "candidates": float(scores.shape[1]),
            "findings": float(truth.sum()),
            "surest_without": float(scores[~truth].max(initial=0)),
            "least_sure_finding": float(scores[truth].min()) if truth.any() else NAN,
        }

    def mistakes(self, scan: Scan) -> float:
        """The surest score of a candidate without a finding minus the least sure one with."""
        scores, truth = facts_of(scan, len(self.names))
        return float(scores[~truth].max(initial=0) - scores[truth].min(initial=1))

    def report(self, scans: Sequence[Scan], out: Path) -> Mapping[str, object]:
        """ROC curves; nothing where there is one kind of candidates only."""
        facts = [facts_of(scan, len(self.names)) for scan in scans]
        scores, truth = (np.concatenate(each, 1).T for each in zip(*facts, strict=True))
        if truth.any() and not truth.all():
            draw_answers(out, scores, truth.astype(np.float64), self.names)
        return {}


def scores_at(listed: Boxes, found: Boxes, sides: Sequence[float]) -> Array:
    """The score of the nearest of those found at every listed place, NaN where none is near."""
    from scipy.spatial import cKDTree

    if not len(found) or not len(listed):
        return np.full(len(listed), NAN)
    tree = cKDTree(found.scaled(sides).centre)
    _, nearest = tree.query(listed.scaled(sides).centre, distance_upper_bound=NEAR_MM)
    scores: Array = np.append(found.score, NAN)[nearest]
    return scores


def facts_of(scan: Scan, classes: int) -> tuple[Array, Array]:
    """Scores (K, N) of the candidates of an image, and which of them are a finding of each class."""
    true = {tuple(row[:-1]) for row in scan.truth.rows()}
    rows = scan.found.rows()
    truth = np.array([tuple(row[:-1]) in true for row in rows], dtype=np.bool_)
    return scan.found.score.reshape(classes, -1), truth.reshape(classes, -1)


class Candidates(BoxTask):
    """A linear layer on pooled encoder maps of cubes around candidates."""

    config: Config

    def __init__(self, net: Pyramid, config: Config) -> None:
        super().__init__()
        self.net, self.config = net.encoder, config  # a decoder would have no gradient
        self.in_channels = net.in_channels
        features: int = net.encoder.channels[-1]
        self.head = nn.Sequential(nn.Dropout(config.dropout), nn.Linear(features, len(config.names)))

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
        """A sigmoid for every class."""
        return "sigmoid"

    def exported(self) -> dict[str, nn.Module]:
        """Everything that predicts."""
        return {"encoder": self.net, "head": self.head}

    def stages(self) -> list[list[nn.Parameter]]:
        """The head, then the encoder from its coarsest level to its stem."""
        return [list(self.head.parameters()), *stages(self.net)]

    def answers(self, images: Tensor) -> Tensor:
        """Normalised cubes (B, C, *S) to logits (B, K)."""
        answers: Tensor = self.head(pooled(self.net(images)[-1]))
        return answers

    def outputs(self, images: Tensor) -> Tensor:
        """Clean cubes (B, C, *S) to logits (B, K)."""
        clean = with_channels(images[:, None], self.in_channels)[:, 0]
        return self.answers(normalise(clean, self.normalisation))

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """Whether there is a finding in the middle."""
        look = self.config.appearance
        images = corrupted_crop(batch, "image", look, channels=self.in_channels, seed=progress.seed)
        logits = self.answers(images.flatten(0, 1))
        labels = torch.stack([batch["labels"][name] for name in self.config.names], 1)
        alike = torch.ones(labels.shape[1], device=labels.device)
        return {"label": independent_loss(logits, labels.repeat_interleave(images.shape[1], 0), alike)}

    @torch.no_grad()
    def predict(
        self,
        volume: LabelledReader,
        overlap: float = 0.5,  # noqa: ARG002 - there are no windows to overlap
        mirrored: Sequence[int] = (),
    ) -> Boxes:
        """All listed places, whatever their class, each with a score for every class of findings."""
        listed, n = volume.listed_boxes(LABELS), len(volume.shape)
        if listed is None:
            raise FoveateError("its labels are a label map; accepted: a table that lists candidates.")
        boxes = in_voxels(Boxes.of(listed[:, 1 : 1 + n], listed[:, 1 + n :], axes=n), volume.affine)
        device, classes = next(self.parameters()).device, len(self.config.names)
        scores = [np.zeros((0, classes))]
        for first in range(0, len(boxes), TOGETHER):
            views = torch.cat([self.cube(volume, each) for each in boxes.centre[first : first + TOGETHER]])
            views = views.flip([axis + 2 for axis in mirrored]) if mirrored else views
            scores.append(self.outputs(views.to(device)).float().sigmoid().cpu().numpy())
        table = np.concatenate(scores)
        parts = [replace(boxes, label=np.full(len(boxes), k), score=table[:, k]) for k in range(classes)]
        return joined(parts, n)

    def cube(self, volume: LabelledReader, centre: Array) -> Tensor:
        """The window around a place, (1, C, *S), not moved."""
        still = replace(self.config.crops, flip_axes=(), rotation_degrees=0.0, zoom=0.0, shift=0.0)
        voxel = np.rint(centre).astype(int).clip(0, np.array(volume.shape) - 1)
        views = make_views(volume.focused(voxel.tolist()), 0, specs={"image": still}, seed=0)
        return views["image"].images[:1]

    def outlines(self, case: LabelledReader) -> dict[str, Tensor]:  # noqa: ARG002
        """None: every listed place would be outlined, whatever its score."""
        return {}


build = Candidates

"""A task that learns from unlabelled windows too: the batch is changed, the losses are the task's own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import cast, final

import torch
from torch import Tensor

from foveate.core.contracts import Draw
from foveate.core.labels import LABELS
from foveate.core.tasks import DenseTask, Task
from foveate.core.types import Batch, FoveateError, Progress
from foveate.nets.layers import running_statistics
from foveate.train.health import PULLED, undisturbed
from foveate.train.semi.classes import ClassFigures
from foveate.train.semi.health import masks_of, overlap
from foveate.train.semi.paste import PasteBoxes, box_masks, exchanged
from foveate.train.semi.pseudo import labelled_by, largest_only
from foveate.train.semi.settings import SemiConfig
from foveate.train.semi.taught import Taught, labelling
from foveate.views.drawn import drawn, samples_at


@final
class SemiSupervised(Taught):
    """A dense task, its average, and the batch that both of them make of labelled and unlabelled windows."""

    takes_unknown_maps = True
    sample_size = 8
    task: DenseTask
    teacher: DenseTask

    def __init__(self, task: Task, config: SemiConfig) -> None:
        if not isinstance(task, DenseTask) or not task.weighs_voxels:
            raise FoveateError(
                f"--unlabelled: the task {task.config.name} cannot learn from pseudo-labels; accepted: "
                "segmentation, or a task for every voxel whose losses weigh voxels (`weighs_voxels`)."
            )
        super().__init__(task, config)
        self.classes = ClassFigures(list(task.codebook)) if config.by_class else None

    @property
    def draws(self) -> Sequence[Draw]:
        """The task's, and the boxes that are pasted."""
        return [*self.task.draws, *([self.boxes] if self.config.mixing == "paste" else [])]

    @property
    def boxes(self) -> PasteBoxes:
        """The draw of the boxes."""
        return PasteBoxes(crop=self.crop, share=self.config.box)

    @property
    def labeller(self) -> DenseTask:
        """Who labels."""
        return self.teacher if self.config.labeller == "teacher" else self.task

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The task's losses on the mixed batch."""
        weight = self.config.weight_at(progress.step)
        later = weight > 0
        mixed = self.mixed(batch, progress.seed, weight)
        if self.config.batch_norm == "together" or not later:
            losses: dict[str, Tensor] = self.task(mixed, progress)
            return losses
        quiet = running_statistics(self.task, update=False)
        kinds = (nullcontext(), quiet if self.config.batch_norm == "labelled" else nullcontext())
        halves = []
        for start, statistics in enumerate(kinds):
            with statistics:
                halves.append(self.task(samples_at(mixed, slice(start, None, 2)), progress))
        return {name: (value + halves[1][name]) / 2 for name, value in halves[0].items()}

    @torch.no_grad()
    def mixed(self, batch: Batch, seed: int, weight: float) -> Batch:
        """The batch as the task learns from it: pseudo-labels and weights filled in, boxes exchanged.

        `weight` is that of a voxel with a pseudo-label; 0 where every sample is a labelled one.
        """
        name = f"{LABELS}/{self.crop}"
        images, labels = batch["crops"][self.crop], batch["regions"][name]
        weights = torch.ones(labels.shape, device=labels.device)
        if self.classes is not None:
            self.classes.saw_labels(self.task.canonical(labels[::2] if weight else labels))
        if weight:
            labels, weights = self.filled(images, labels, weights, weight)
        if self.config.mixing == "paste":
            shape = images.shape[3:]
            lows = drawn(batch, self.boxes, seed, images.device)["low"]
            masks = box_masks(lows, shape, self.config.box)[:, None]  # (B / 2, 1, *S)
            images = exchanged(images, masks[:, :, None])
            labels, weights = exchanged(labels, masks), exchanged(weights, masks)
        changed = {
            "crops": {**batch["crops"], self.crop: images},
            "regions": {**batch["regions"], name: labels},
            "weights": {name: weights},
        }
        return cast(Batch, {**batch, **changed})

    def filled(self, images: Tensor, labels: Tensor, weights: Tensor, weight: float) -> tuple[Tensor, Tensor]:
        """Labels and weights (B, V, *S), those of the unlabelled rows from the labeller."""
        with labelling(self.labeller, self.config.labeller_norm):
            found, sure = labelled_by(self.labeller, images[1::2].flatten(0, 1), self.lean)
        if self.classes is not None:
            self.classes.saw_pseudo_labels(found, sure)
        counts = weight * self.counted(found, sure)
        if self.config.weighting == "confidence":
            counts = counts * sure
        if self.config.largest_component:
            found = largest_only(found)
        labels, shape = labels.clone(), labels[1::2].shape
        labels[1::2], weights[1::2] = found.reshape(shape), counts.reshape(shape)
        return labels, weights

    @property
    def lean(self) -> Tensor | None:
        """What is added to the logarithm of every label value's probability, where shares are kept."""
        if self.classes is None or not self.config.balance:
            return None
        return self.config.balance * self.classes.wanting.log()

    def counted(self, found: Tensor, sure: Tensor) -> Tensor:
        """Which voxels the labeller is sure enough of."""
        limit = self.config.confidence
        if self.classes is None or self.config.threshold == "fixed":
            return sure >= limit
        limits = limit * self.classes.easiness.to(sure.dtype)
        return sure >= limits[self.classes.places(found)]

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, float]:
        """How far teacher and student agree, how sure the labeller is, and the share of each class.

        `pseudo/agreement` is the Dice of the two label maps, averaged over the classes that one of them has.
        """
        images = batch["crops"][self.crop].flatten(0, 1)
        with undisturbed(self):
            said = []
            for network in (self.teacher, self.task):
                with labelling(network, "running"):
                    parts = [
                        labelled_by(network, few, self.lean) for few in torch.split(images, PULLED)
                    ]  # no more memory than a step
                said.append([torch.cat(rows) for rows in zip(*parts, strict=True)])
        (taught, _), (learnt, _) = said
        labels, sure = said[0 if self.config.labeller == "teacher" else 1]
        first, second = masks_of(self.task, taught), masks_of(self.task, learnt)
        overlaps = [overlap(first[name], second[name]) for name in first]
        seen = [each for each in overlaps if each is not None]
        shares = {name: float(mask.float().mean()) for name, mask in masks_of(self.task, labels).items()}
        return {
            "pseudo/agreement": sum(seen) / len(seen) if seen else 1.0,
            "pseudo/confidence": float(sure.mean()),
            "pseudo/counted": float(self.counted(labels, sure).float().mean()),
            **{f"pseudo/share/{name}": share for name, share in shares.items()},
        }

    def after_step(self, progress: Progress) -> None:
        """The average follows, at first more closely."""
        super().after_step(progress)
        if self.classes is not None:
            self.classes.step()

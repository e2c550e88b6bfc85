"""Whole images without labels: the answers for corrupted views are to be the teacher's for clean ones."""

from __future__ import annotations

from contextlib import nullcontext
from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor

from foveate.core.tasks import Task, ViewTask, activated
from foveate.core.types import Batch, FoveateError, Progress
from foveate.nets.layers import running_statistics
from foveate.train.health import PULLED, undisturbed
from foveate.train.semi.settings import SemiConfig
from foveate.train.semi.taught import Taught, labelling
from foveate.views.drawn import samples_at


@final
class Consistent(Taught):
    """A task for whole images that learns labels, and to answer for corrupted images as for clean ones."""

    sample_size = 32
    task: ViewTask
    teacher: ViewTask

    def __init__(self, task: Task, config: SemiConfig) -> None:
        if not isinstance(task, ViewTask) or task.activation == "none":
            raise FoveateError(
                f"--unlabelled: the task {task.config.name} cannot learn from pseudo-labels as it is; "
                "accepted: segmentation, and classification with --task.kind multiclass or multilabel."
            )
        refuse_dense(config)
        super().__init__(task, config)

    @property
    def labeller(self) -> ViewTask:
        """Who labels."""
        return self.teacher if self.config.labeller == "teacher" else self.task

    def forward(self, batch: Batch, progress: Progress) -> dict[str, Tensor]:
        """The task's losses on labelled samples, and the difference from the labeller's answers."""
        weight = self.config.weight_at(progress.step)
        if not weight:
            losses: dict[str, Tensor] = self.task(batch, progress)
            nothing = torch.zeros((), device=batch["crops"][self.crop].device)
            return {**losses, "consistency": nothing}  # a line of the log averages one set of terms
        with torch.no_grad(), labelling(self.labeller, self.config.labeller_norm):
            clean = batch["crops"][self.crop][1::2].flatten(0, 1)
            taught = activated(self.labeller.outputs(clean).float(), self.task.activation)
        answers, learnt = self.answered(batch, progress)
        return {
            **self.task.losses_of(answers, samples_at(batch, slice(0, None, 2))),
            "consistency": weight * self.difference(learnt, taught),
        }

    def answered(self, batch: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """What is answered for the corrupted views of labelled and of unlabelled samples."""
        if self.config.batch_norm == "together":
            both = self.task.view_outputs(batch, progress)
            rows = both.reshape(len(batch["index"]), -1, both.shape[-1])
            return rows[::2].flatten(0, 1), rows[1::2].flatten(0, 1)
        quiet = running_statistics(self.task, update=False)
        first = self.task.view_outputs(samples_at(batch, slice(0, None, 2)), progress)
        with quiet if self.config.batch_norm == "labelled" else nullcontext():
            return first, self.task.view_outputs(samples_at(batch, slice(1, None, 2)), progress)

    def difference(self, learnt: Tensor, taught: Tensor) -> Tensor:
        """The divergence of the student's answers (N, K) from the labeller's, by how sure that one is."""
        sure, counted = self.certainty(taught)
        weights = counted * (sure if self.config.weighting == "confidence" else 1.0)
        if self.task.activation == "softmax":
            apart = F.kl_div(learnt.float().log_softmax(1), taught, reduction="none").sum(1, keepdim=True)
        else:
            entropy = -(torch.special.xlogy(taught, taught) + torch.special.xlogy(1 - taught, 1 - taught))
            cross = F.binary_cross_entropy_with_logits(learnt.float(), taught, reduction="none")
            apart = cross - entropy
        return (weights * apart).mean()

    def certainty(self, answers: Tensor) -> tuple[Tensor, Tensor]:
        """How much surer than chance each answer is, 0 to 1, and whether it counts: (N, 1) or (N, K)."""
        exclusive = self.task.activation == "softmax"
        highest = answers.amax(1, keepdim=True) if exclusive else torch.maximum(answers, 1 - answers)
        chance = 1 / answers.shape[1] if exclusive else 0.5
        return (highest - chance) / (1 - chance), highest >= self.config.confidence

    @torch.no_grad()
    def measure(self, batch: Batch) -> dict[str, float]:
        """How far teacher and student agree, how sure the labeller is, and how often each class is expected.

        `pseudo/agreement` is the share of answers that both give, `pseudo/share` the mean probability: a rare
        class is in none of a few images.
        """
        images = batch["crops"][self.crop].flatten(0, 1)
        with undisturbed(self):
            said = []
            for network in (self.teacher, self.task):
                with labelling(network, "running"):
                    parts = [network.outputs(few) for few in torch.split(images, PULLED)]
                said.append(activated(torch.cat(parts).float(), network.activation))
        answers = said[0 if self.config.labeller == "teacher" else 1]
        sure, counted = self.certainty(answers)
        return {
            "pseudo/agreement": float((self.decided(said[0]) == self.decided(said[1])).float().mean()),
            "pseudo/confidence": float(sure.mean()),
            "pseudo/counted": float(counted.float().mean()),
            **{
                f"pseudo/share/{name}": share
                for name, share in zip(self.task.class_names, answers.mean(0).tolist(), strict=True)
            },
        }

    def decided(self, answers: Tensor) -> Tensor:
        """The class of every image, or which findings it has."""
        return answers.argmax(1) if self.task.activation == "softmax" else answers > 0.5


def refuse_dense(config: SemiConfig) -> None:
    """Refuse what there is for voxels only."""
    for name, value, accepted in (
        ("mixing", config.mixing, "none"),
        ("threshold", config.threshold, "fixed"),
        ("balance", config.balance, 0.0),
        ("largest_component", config.largest_component, False),
    ):
        if value != accepted:
            raise FoveateError(
                f"--semi.{name} {value}: for whole images {str(accepted).lower()} is accepted."
            )

"""Whether pseudo-labels stay what they should be: measured on fixed windows, which changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.core.types import Batch
from foveate.train.health import PULLED, undisturbed
from foveate.train.semi.model import SemiSupervised, labelling
from foveate.train.semi.pseudo import labelled_by

WINDOWS = 8


@torch.no_grad()
def measure(model: SemiSupervised, batch: Batch) -> dict[str, float]:
    """How far teacher and student agree, how sure the labeller is, and the share of each class.

    `pseudo/agreement` is the Dice of the two label maps, averaged over the classes that one of them has.
    """
    images = batch["crops"][model.crop].flatten(0, 1)
    with undisturbed(model):
        said = []
        for network in (model.teacher, model.task):
            with labelling(network, "running"):
                parts = [
                    labelled_by(network, few, model.lean) for few in torch.split(images, PULLED)
                ]  # no more memory than a step
            said.append([torch.cat(rows) for rows in zip(*parts, strict=True)])
    (taught, _), (learnt, _) = said
    labels, sure = said[0 if model.config.labeller == "teacher" else 1]
    first, second = masks_of(model, taught), masks_of(model, learnt)
    overlaps = [overlap(first[name], second[name]) for name in first]
    seen = [each for each in overlaps if each is not None]
    shares = {name: float(mask.float().mean()) for name, mask in masks_of(model, labels).items()}
    return {
        "pseudo/agreement": sum(seen) / len(seen) if seen else 1.0,
        "pseudo/confidence": float(sure.mean()),
        "pseudo/counted": float(model.counted(labels, sure).float().mean()),
        **{f"pseudo/share/{name}": share for name, share in shares.items()},
    }


def masks_of(model: SemiSupervised, labels: Tensor) -> dict[str, Tensor]:
    """Where each class of the task is, by its name; the background is none."""
    outputs, codebook = model.task.class_names, model.task.codebook
    names = {k: name for k, name in enumerate(outputs) if k or model.task.activation != "softmax"}
    values = {name: [v for v, held in codebook.items() if k in held] for k, name in names.items()}
    return {
        name: torch.isin(labels, torch.tensor(each, device=labels.device)) for name, each in values.items()
    }


def overlap(one: Tensor, other: Tensor) -> float | None:
    """Dice of two masks; None where both are empty."""
    both = int(one.sum()) + int(other.sum())
    return 2 * int((one & other).sum()) / both if both else None

"""Whether pseudo-labels stay what they should be: measured on fixed windows, which changes nothing."""

from __future__ import annotations

import torch
from torch import Tensor

from foveate.core.tasks import activated
from foveate.core.types import Batch
from foveate.train.health import PULLED, undisturbed
from foveate.train.semi.consistency import Consistent
from foveate.train.semi.model import SemiSupervised
from foveate.train.semi.pseudo import labelled_by
from foveate.train.semi.taught import Taught, labelling

WINDOWS, IMAGES = 8, 32


def sample_size(model: Taught) -> int:
    """How many fixed samples are looked at: a window holds many answers, a whole image one."""
    return IMAGES if isinstance(model, Consistent) else WINDOWS


def measure(model: Taught, batch: Batch) -> dict[str, float]:
    """What pseudo-labels of fixed samples say."""
    if isinstance(model, Consistent):
        return of_images(model, batch)
    return of_windows(model, batch) if isinstance(model, SemiSupervised) else {}


@torch.no_grad()
def of_images(model: Consistent, batch: Batch) -> dict[str, float]:
    """How far teacher and student agree, how sure the labeller is, and how often each class is expected.

    `pseudo/agreement` is the share of answers that both give, `pseudo/share` the mean probability: a rare
    class is in none of a few images.
    """
    images = batch["crops"][model.crop].flatten(0, 1)
    with undisturbed(model):
        said = []
        for network in (model.teacher, model.task):
            with labelling(network, "running"):
                parts = [network.outputs(few) for few in torch.split(images, PULLED)]
            said.append(activated(torch.cat(parts).float(), network.activation))
    answers = said[0 if model.config.labeller == "teacher" else 1]
    sure, counted = model.certainty(answers)
    return {
        "pseudo/agreement": float((model.decided(said[0]) == model.decided(said[1])).float().mean()),
        "pseudo/confidence": float(sure.mean()),
        "pseudo/counted": float(counted.float().mean()),
        **{
            f"pseudo/share/{name}": share
            for name, share in zip(model.task.class_names, answers.mean(0).tolist(), strict=True)
        },
    }


@torch.no_grad()
def of_windows(model: SemiSupervised, batch: Batch) -> dict[str, float]:
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

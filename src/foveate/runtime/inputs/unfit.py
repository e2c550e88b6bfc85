"""Keys of `predict` and `evaluate` that have an effect on some kinds of answers only: one list."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Literal, NamedTuple

from foveate.core import config as parsing
from foveate.core.boxes.tasks import BoxTask
from foveate.core.tasks import DenseTask, Task
from foveate.core.types import Dataclass, FoveateError

Kind = Literal["masks", "values", "windows", "boxes", "table"]

SAID: Mapping[Kind, str] = {
    "masks": "masks",
    "values": "for whole images",
    "windows": "boxes",  # found window by window
    "boxes": "boxes",  # of an image that is seen at once, or of listed places
    "table": "boxes of a table",
}


class Fit(NamedTuple):
    """What a key has an effect on."""

    kinds: Collection[Kind]
    words: str  # for whom it is accepted


MASKS = Fit(["masks"], "runs that make masks")
WHOLE = Fit(["values"], "runs that answer whole images")
SURE = Fit(["masks", "values"], "runs that make masks; answers for whole images have it in any case")
WINDOWS = Fit(["masks", "windows"], "runs that make masks, or find boxes window by window")
NETWORK = Fit(["masks", "values", "windows", "boxes"], "answers of a network")

FITS: Mapping[str, Fit] = {  # a key, or what stands before the dots of several
    "calibration": SURE,
    "lesions": MASKS,
    "mirror": NETWORK,
    "nsd_tolerance_mm": MASKS,
    "precision": NETWORK,
    "probabilities": MASKS,
    "smooth_frames": WHOLE,
    "tidy": MASKS,
    "uncertainty_map": MASKS,
    "window.batch_size": MASKS,
    "window.blend": MASKS,
    "window.overlap": WINDOWS,
    "window.skip_background": MASKS,
}


def kind_of(task: Task) -> Kind:
    """The kind of a task's answers."""
    if isinstance(task, DenseTask):
        return "masks"
    if isinstance(task, BoxTask):
        return "windows" if task.config.by_windows else "boxes"
    return "values"


def refuse_unfit(config: Dataclass, usual: Dataclass, kinds: Sequence[Kind]) -> None:
    """Refuse the first key that differs from the usual one and has an effect on no answer of these kinds.

    Args:
        config: That of a prediction or an evaluation.
        usual: The same without anything being said.
        kinds: Of the answers: one for each run.
    """
    before = dict(parsing.flatten(parsing.to_mapping(usual)))
    for key, value in parsing.flatten(parsing.to_mapping(config)):
        fit = FITS.get(key) or FITS.get(key.partition(".")[0])
        if fit is None or value == before[key] or set(kinds) & set(fit.kinds):
            continue
        said = " or ".join(dict.fromkeys(SAID[kind] for kind in kinds))
        shown = str(value).lower() if isinstance(value, bool) else value
        raise FoveateError(f"--{key} {shown}: the answers are {said}; accepted for {fit.words}.")

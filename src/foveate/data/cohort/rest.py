"""The images of training patients that a run has no label of."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from foveate.core.types import Record
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.labelled import split_of
from foveate.data.cohort.patients import Known
from foveate.data.cohort.splits import Split
from foveate.data.cohort.wanted import Labelled

HELD_OUT = ("val", "test")


def rest_of(
    found: Labelled, whole: Split, used: Split, name: Callable[[Sequence[Record]], Known]
) -> list[Record]:
    """Images without a label, and labelled ones of the training part that are not used, without their labels.

    None is of a patient who validates or is for the test, nor in such a folder of the layout.

    Args:
        found: The images of the data set.
        whole: Its split.
        used: The same, the training part cut to its first cases.
        name: Finds the patients of images, of labelled and unlabelled ones together.
    """
    known = {record.relative: record for record in name([*found.records, *found.without]).records}
    held = {patient_of(known[record.relative]) for part in HELD_OUT for record in whole[part]}
    trained = {record.relative for record in used["train"]}
    left = [record.relative for record in whole["train"] if record.relative not in trained]
    bare = [r.relative for r in found.without if (r.split or split_of(r.relative)) not in HELD_OUT]
    return [known[relative] for relative in [*left, *bare] if patient_of(known[relative]) not in held]

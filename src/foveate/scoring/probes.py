"""Small learners on frozen features: what can be read off them with a few labels.

They are scikit-learn's and see arrays alone; whoever calls them keeps patients apart, with `split_patients`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate.core.rng import stream
from foveate.core.types import FoveateError

Features = NDArray[np.float32]
Labels = NDArray[Any]
NEIGHBOURS = 5
STRENGTHS = 1.0  # inverse of the L2 penalty, on standardised features


def split_patients(patients: Sequence[str], groups: Sequence[str], seed: int) -> NDArray[np.bool_]:
    """Which cases train: those of every other patient of each group, so that no patient is on both sides.

    Args:
        patients: Of every case.
        groups: What to spread evenly, such as the class of every case; a patient's first case decides.
        seed: Of the order of patients.

    Raises:
        FoveateError: when there is one patient only.
    """
    group_of = dict(zip(reversed(patients), reversed(groups), strict=True))
    names = sorted(group_of)
    if len(names) < 2:
        raise FoveateError("--probe: all labelled cases are of one patient; accepted: at least 2 patients.")
    order = stream(seed, "probe patients").permutation(len(names))
    ranked = sorted((names[i] for i in order), key=group_of.__getitem__)  # stable: drawn order within a group
    training = set(ranked[::2])
    return np.array([patient in training for patient in patients])


def case_probe(features: Features, labels: Labels, training: NDArray[np.bool_]) -> dict[str, float]:
    """Balanced accuracy of a linear and a nearest-neighbour classifier on the cases that do not train."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.neighbors import KNeighborsClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    seen, held = features[training], features[~training]
    near = min(NEIGHBOURS, len(seen))
    learners = {
        "linear": make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTHS, max_iter=1000)),
        "knn": make_pipeline(StandardScaler(), KNeighborsClassifier(near)),
    }
    found = {}
    for name, learner in learners.items():
        guessed = learner.fit(seen, labels[training]).predict(held)
        found[f"{name}_balanced_accuracy"] = float(balanced_accuracy_score(labels[~training], guessed))
    return found | {"chance": 1 / len(np.unique(labels[~training]))}


def voxel_probe(features: Features, labels: Labels, training: NDArray[np.bool_]) -> dict[str, float]:
    """Mean Dice over classes but 0 of a logistic classifier of voxels (rows), on those that do not train."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    learner = make_pipeline(StandardScaler(), LogisticRegression(C=STRENGTHS, max_iter=300))
    guessed = learner.fit(features[training], labels[training]).predict(features[~training])
    wanted = labels[~training]
    classes = [int(value) for value in np.unique(labels) if value != 0]
    scores = f1_score(wanted, guessed, labels=classes, average=None, zero_division=0.0)  # F1 is Dice
    return {"voxel_dice": float(np.mean(scores))}


def check_classes(labels: Labels, training: NDArray[np.bool_]) -> None:
    """Refuse a probe with one class to learn, or none of its classes to test on."""
    seen, held = set(labels[training].tolist()), set(labels[~training].tolist())
    if len(seen) < 2 or not held <= seen:
        raise FoveateError(
            f"--probe: half of the patients have the classes {sorted(seen)}, the others {sorted(held)}; "
            "accepted: two classes or more, each with several patients."
        )

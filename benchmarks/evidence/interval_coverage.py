"""Do the intervals hold what they promise? Coverage and false positives of `scoring.statistics`, simulated.

Every row is a world: tables (seeds, patients) of paired differences whose true mean is 0, as a sum of a seed
effect, a patient effect and their interaction. Printed are the share of 95 % intervals that hold 0, the share
of p < 0.05, and for comparison what a plain bootstrap of both levels and a test that forgets seeds would do.
In the rows with labelled sets several seeds are trained on each set; there the last column is what comes out
if trainings are taken for independent although they share their labelled images.
The last rows do the same for a difference of AUROC through pseudo-values, and for Holm's family of six.

    python benchmarks/evidence/interval_coverage.py [--tables 2000]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from foveate.scoring.metrics import auroc
from foveate.scoring.statistics import corrected, difference, estimate, pseudo_values

Floats = NDArray[np.float64]
SIZES = ((3, 10), (3, 60), (6, 20), (6, 60))
WORLDS = {  # standard deviations of seed, patient and interaction; whether patients are skewed
    "patients only": (0.0, 1.0, 0.5, False),
    "patients, skewed": (0.0, 1.0, 0.5, True),
    "interaction only": (0.0, 0.0, 1.0, False),
    "seeds little": (0.1, 1.0, 0.5, False),
    "seeds some": (0.3, 1.0, 0.5, False),
    "seeds some, skewed": (0.5, 1.0, 0.5, True),
    "seeds as patients": (1.0, 1.0, 0.5, False),
    "seeds only": (1.0, 0.1, 0.3, False),
}


SETS = {  # standard deviations of labelled set, seed, patient, set x patient, and the rest
    "seeds only": (0.0, 0.5, 1.0, 0.0, 0.5),
    "sets little": (0.1, 0.3, 1.0, 0.3, 0.5),
    "sets as seeds": (0.3, 0.3, 1.0, 0.3, 0.5),
    "sets more than seeds": (0.5, 0.3, 1.0, 0.3, 0.5),
    "sets as patients": (1.0, 0.2, 1.0, 0.3, 0.5),
    "sets only": (0.5, 0.0, 0.3, 0.0, 0.3),
}
SET_SIZES = ((3, 2, 20), (3, 2, 100), (3, 1, 20))  # labelled sets, seeds on each, patients


def draw_on_sets(
    rng: np.random.Generator, size: tuple[int, int, int], world: tuple[float, ...]
) -> tuple[Floats, list[tuple[int, int]]]:
    """One table of differences whose trainings share labelled sets, true mean 0, and what they share."""
    sets, seeds, patients = size
    of_set, of_seed, of_patient, of_both, rest = world
    table = of_patient * rng.normal(size=patients) + of_set * rng.normal(size=(sets, 1, 1))
    table = (
        table + of_seed * rng.normal(size=(sets, seeds, 1)) + of_both * rng.normal(size=(sets, 1, patients))
    )
    table = table + rest * rng.normal(size=(sets, seeds, patients))
    levels = [(drawn, seed) for drawn in range(sets) for seed in range(seeds)]
    return table.reshape(sets * seeds, patients), levels


def of_sets(size: tuple[int, int, int], name: str, tables: int) -> tuple[float, float, float]:
    """Coverage and false positives where trainings share labelled sets, and coverage if that is forgotten."""
    rng = np.random.default_rng([len(name), *size, 3])
    counts = np.zeros(3)
    for _ in range(tables):
        table, levels = draw_on_sets(rng, size, SETS[name])
        ours, plain = estimate(table, levels=levels, draws=999), estimate(table, draws=999)
        counts += ours.low <= 0 <= ours.high, ours.p < 0.05, not plain.low <= 0 <= plain.high
    covered, wrong, forgotten = (counts / tables).tolist()
    return covered, wrong, forgotten


def draw(rng: np.random.Generator, size: tuple[int, int], world: tuple[float, float, float, bool]) -> Floats:
    """One table of differences, true mean 0."""
    (seeds, patients), (of_seed, of_patient, of_both, skewed) = size, world
    per_patient = rng.exponential(size=patients) - 1 if skewed else rng.normal(size=patients)
    noise = of_both * rng.normal(size=size)
    return of_seed * rng.normal(size=(seeds, 1)) + of_patient * per_patient + noise


def naive_interval_holds(rng: np.random.Generator, table: Floats, draws: int = 400) -> bool:
    """The percentile interval of a bootstrap that draws seeds and patients with replacement."""
    seeds, patients = table.shape
    rows = rng.multinomial(seeds, np.full(seeds, 1 / seeds), draws) / seeds
    columns = rng.multinomial(patients, np.full(patients, 1 / patients), draws) / patients
    low, high = np.quantile(((rows @ table) * columns).sum(1), [0.025, 0.975])
    return bool(low <= 0 <= high)


def seedless_p(table: Floats) -> float:
    """The t test over patients' means, as if there were one training only."""
    return float(ttest_1samp(table.mean(0), 0).pvalue)


def of_tables(size: tuple[int, int], name: str, tables: int) -> tuple[float, ...]:
    """Coverage, false positives, and those of the two simpler ways."""
    rng = np.random.default_rng([len(name), *size])
    counts = np.zeros(4)
    for _ in range(tables):
        table = draw(rng, size, WORLDS[name])
        ours = estimate(table, draws=999)
        wrong = ours.p < 0.05, not naive_interval_holds(rng, table), seedless_p(table) < 0.05
        counts += ours.low <= 0 <= ours.high, *wrong
    return tuple(counts / tables)


def auroc_pseudo_values(scores: Floats, labels: NDArray[np.bool_]) -> Floats:
    """One value per patient with one case each."""
    names = [f"{i:03d}" for i in range(scores.size)]
    return pseudo_values(lambda rows: auroc(scores[rows], labels[rows]), names)


def of_auroc(size: tuple[int, int], tables: int) -> tuple[float, float]:
    """The same for the difference of two equally good classifiers' AUROC."""
    seeds, patients = size
    rng = np.random.default_rng(7)
    counts = np.zeros(2)
    for _ in range(tables):
        labels = np.arange(patients) % 3 == 0
        base = labels + rng.normal(size=patients)
        arms = []
        for _ in range(2):
            scores = [base + 0.7 * rng.normal(size=patients) for _ in range(seeds)]
            arms.append([auroc_pseudo_values(each, labels) for each in scores])
        found = difference(np.array(arms[0]), np.array(arms[1]), draws=999)
        counts += found.low <= 0 <= found.high, found.p < 0.05
    return tuple(counts / tables)  # type: ignore[return-value]


def of_families(size: tuple[int, int], tables: int, arms: int = 6) -> float:
    """How often any of six null arms is called different from the reference that they share."""
    rng = np.random.default_rng(11)
    wrong = 0
    for _ in range(tables):
        reference = draw(rng, size, WORLDS["seeds little"])
        family = [
            difference(draw(rng, size, WORLDS["seeds little"]), reference, draws=999) for _ in range(arms)
        ]
        wrong += any(each.resolvable for each in corrected(family))
    return wrong / tables


def labelled_sets(tables: int) -> list[tuple[str, tuple[int, ...]]]:
    """Print the rows with labelled sets; those outside the limits."""
    print("| world | sets x seeds x patients | coverage | p < 0.05 | | sets forgotten wrong |")
    broken: list[tuple[str, tuple[int, ...]]] = []
    for size in SET_SIZES:
        for name in SETS:
            covered, wrong, forgotten = of_sets(size, name, tables)
            numbers = " x ".join(map(str, size))
            print(f"| {name} | {numbers} | {covered:.1%} | {wrong:.1%} | | {forgotten:.1%} |", flush=True)
            if not 0.92 <= covered <= 0.98 or wrong > 0.06:
                broken.append((name, size))
    return broken


def main() -> None:
    """Print a table in Markdown; fail where a limit is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=2000)
    parser.add_argument("--sets", action="store_true", help="only the rows with labelled sets")
    said = parser.parse_args()
    tables = said.tables
    noise = 3 * (0.05 * 0.95 / tables) ** 0.5
    print(f"{tables} tables a row; three standard errors of a 5 % share: {noise:.1%}")
    if said.sets:
        raise SystemExit(int(bool(labelled_sets(tables))))
    print(
        "| world | seeds x patients | coverage | p < 0.05 | plain bootstrap wrong | seeds forgotten wrong |"
    )
    print("|---|---|---|---|---|---|")
    broken = []
    for size in SIZES:
        for name in WORLDS:
            covered, wrong, naive, forgotten = of_tables(size, name, tables)
            row = (f"{share:.1%}" for share in (covered, wrong, naive, forgotten))
            print(f"| {name} | {size[0]} x {size[1]} | {' | '.join(row)} |", flush=True)
            if not 0.92 <= covered <= 0.98 or wrong > 0.06:
                broken.append((name, size))
    broken += labelled_sets(tables)
    for size in ((3, 60), (6, 60)):
        covered, wrong = of_auroc(size, max(50, tables // 4))
        print(f"| AUROC difference | {size[0]} x {size[1]} | {covered:.1%} | {wrong:.1%} | | |", flush=True)
        family = of_families(size, tables // 4)
        print(f"| any of a Holm family of 6 | {size[0]} x {size[1]} | | {family:.1%} | | |", flush=True)
    print(f"outside 92-98 % or above 6 %: {broken or 'none'}")
    if broken:
        raise SystemExit(1)


if __name__ == "__main__":
    main()

"""Do the intervals hold what they promise? Coverage and false positives of `evaluate.statistics`, simulated.

Every row is a world: tables (seeds, patients) of paired differences whose true mean is 0, as a sum of a seed
effect, a patient effect and their interaction. Printed are the share of 95 % intervals that hold 0, the share
of p < 0.05, and for comparison what a plain bootstrap of both levels and a test that forgets seeds would do.
The last rows do the same for a difference of AUROC through pseudo-values, and for Holm's family of six.

    python benchmarks/evidence/interval_coverage.py [--tables 2000]
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy.stats import ttest_1samp

from foveate.evaluate.metrics import auroc
from foveate.evaluate.statistics import corrected, difference, estimate, pseudo_values

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


def main() -> None:
    """Print a table in Markdown; fail where a limit is broken."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=2000)
    tables = parser.parse_args().tables
    noise = 3 * (0.05 * 0.95 / tables) ** 0.5
    print(f"{tables} tables a row; three standard errors of a 5 % share: {noise:.1%}")
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

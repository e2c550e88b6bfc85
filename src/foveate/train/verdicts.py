"""Plain words for what the numbers of a run say: one table of limits, each with its reason."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, final

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Limit:
    """When a condition becomes a verdict.

    Attributes:
        value: The number that is compared.
        rows: For how many lines that speak of it, one after the other, it must hold.
        reason: Why this number.
        alone: The number that one line must reach where a run ends with its only measurement of health: what
            is so far beyond the limit is taken for no noise of a batch: a choice (a third or a tenth of the
            limit, or ten times it), not a measurement. None: one line says nothing.
    """

    value: float
    rows: int
    reason: str
    alone: float | None = None


LIMITS: dict[str, Limit] = {
    "features std": Limit(
        value=0.03,
        rows=2,
        alone=0.01,
        reason="below what random weights give (0.04 to 0.3 at all scales in 2D and 3D)",
    ),
    "projections uniformity": Limit(
        value=-math.log(2),
        rows=2,
        alone=-0.1,
        reason="two opposite points, half of the samples on each: batch norm keeps the std of projections "
        "at 1 by construction, but not more than two directions",
    ),
    "pull": Limit(
        value=30.0,
        rows=2,
        alone=300.0,
        reason="a term with 1/30 of the strongest pull turns the encoder's step by 2 degrees at most",
    ),
    "faded": Limit(
        value=5.0,
        rows=1,
        reason="a term that was heard once and now pulls 5 times less was learnt, or is faded out by design",
    ),
    "detail": Limit(
        value=0.1,
        rows=2,
        reason="a blurred copy has 0, the clean view 1: nine tenths of the fine structure are missing",
    ),
    "detail after": Limit(
        value=1000,
        rows=1,
        reason="coarse shapes come first: nothing is asked of the first 1000 steps, nor of the first half",
    ),
    "update ratio": Limit(
        value=0.1,
        rows=2,
        reason="healthy steps change the weights by 0.001 to 0.01 of their length; ten of this size make "
        "others of them, and what was lost does not come back: it stands to the end of the run",
    ),
    "loss": Limit(
        value=3.0,
        rows=3,
        reason="the loss stands above its first line by 3 times as much as it ever fell below it, or where "
        "it never fell by 3 halves of itself: a queue that fills with keys may lift it by 2 fifths",
    ),
    "pseudo agreement": Limit(
        value=0.5,
        rows=3,
        reason="the teacher is an average of the last steps: if half of what it marks is not what the "
        "network marks, the labels of a window change from step to step",
    ),
    "pseudo share": Limit(
        value=10.0,
        rows=3,
        reason="on the same windows a class has 10 times fewer voxels than in the first measurement, or 10 "
        "times more: better outlines change a volume by less",
    ),
    "data wait": Limit(
        value=0.5,
        rows=3,
        reason="the device idles for more than half of the time: faster loading would halve the run",
    ),
}

ADVICE = {
    "collapsing": "the images become alike to the network; keep stop_gradient on, lower the weights of the "
    "agreement terms, or enlarge --batch_size",
    "low frequencies": "only coarse shapes are restored; train longer, or give restoration more weight",
    "drowned": "the encoder follows one term alone; lower that term's weight",
    "diverging": "lower --optim.lr, warm up for longer (--optim.warmup_steps), or set --optim.clip_norm 1",
    "pseudo-labels collapse": "the network teaches itself that a class is not there; train longer on labels "
    "first (--semi.supervised_steps), or try --semi.confidence 0.9 with --semi.threshold class, or "
    "--semi.balance",
    "pseudo-labels drift": "the network confirms its own mistakes; lower --semi.unlabelled_weight, raise "
    "--semi.momentum or --semi.confidence, or compare with a run without --unlabelled",
    "starving": "raise --num_workers, move the cache to a faster disk, or use smaller views",
}


MEASURED = ("features/", "projections/", "pull/")  # keys of a measurement of health
LASTING = ("steps",)  # conditions that do not pass


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Something that is wrong, where, and since which step."""

    kind: str
    where: str
    since: int
    what: str

    @property
    def text(self) -> str:
        """One sentence."""
        return f"{self.what} since step {self.since}"


@dataclass
class Streak:
    """How long a condition has held."""

    since: int
    rows: int = 0
    what: str = ""


@final
@dataclass
class Judge:
    """Reads the lines of metrics.jsonl one by one; what it says is a function of them alone."""

    total: int
    streaks: dict[tuple[str, str], Streak] = field(default_factory=dict)
    best_pulls: dict[str, tuple[float, bool]] = field(default_factory=dict)
    first_loss: float | None = None
    lowest_loss: float = math.inf
    first_shares: dict[str, float] = field(default_factory=dict)
    started: bool = False
    measured: int = 0

    def see(self, row: Row) -> list[Verdict]:
        """What stands after one more line. A number that is none is None there, as JSON has no NaN."""
        self.measured += any(name.startswith(MEASURED) for name in row)
        for kind, where, rows, what in self.conditions(row):
            self.count(kind, where, rows, what, int(row["step"]))
        return self.standing()

    def standing(self) -> list[Verdict]:
        """What stands now, the eldest first; a diverging run is not told what else follows from that."""
        found = [
            Verdict(kind=kind, where=where, since=streak.since, what=streak.what)
            for (kind, where), streak in self.streaks.items()
            if streak.rows <= 0 and streak.what
        ]
        found = sorted(found, key=lambda v: v.since)
        return [v for v in found if v.kind == "diverging"][:1] or found

    def count(self, kind: str, where: str, rows: int, what: str, step: int) -> None:
        """Note whether a condition holds (`what` says how, empty if not); `rows` lines make a verdict."""
        streak = self.streaks.get((kind, where))
        if what:
            streak = self.streaks.setdefault((kind, where), Streak(since=step, rows=rows))
            streak.rows, streak.what = streak.rows - 1, what
        elif streak and not (where in LASTING and streak.rows <= 0):
            del self.streaks[kind, where]

    def conditions(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """Kind, place, lines it takes, and the words of a condition, empty where it does not hold."""
        yield from self.divergence(row)
        yield from self.starvation(row)
        yield from collapses(row, alone=self.is_alone(row))
        yield from self.drowning(row)
        yield from self.smoothness(row)
        yield from self.pseudo_labels(row)

    def is_alone(self, row: Row) -> bool:
        """Whether a run ends with this line and health was not measured before."""
        return self.measured == 1 and 0 < self.total <= row["step"]

    def divergence(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """The loss is no number, steps are as large as the weights, or the loss stands above its start."""
        if "loss" not in row:
            return
        loss, ratio = number(row["loss"]), number(row.get("update_ratio", 0.0))
        finite = math.isfinite(loss)
        words = "diverging: the loss is not a number" if not finite else ""
        yield "diverging", "number", 1, words
        limit = LIMITS["update ratio"]
        words = f"diverging: one step changes the weights by {ratio:.0%} of their length"
        yield "diverging", "steps", limit.rows, words if ratio > limit.value else ""
        if not finite:
            return
        first = self.first_loss = loss if self.first_loss is None else self.first_loss
        self.lowest_loss = min(self.lowest_loss, loss)
        limit = LIMITS["loss"]
        fallen = max(first - self.lowest_loss, 0.5 * abs(first), 1e-3)
        words = f"diverging: the loss is {loss:.3g}, at first it was {first:.3g}"
        yield "diverging", "loss", limit.rows, words if loss > first + limit.value * fallen else ""

    def starvation(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """The device waits for data. The first line holds the start of the workers."""
        if "data_wait" not in row:
            return
        if not self.started:
            self.started = True
            return
        limit, wait = LIMITS["data wait"], float(row["data_wait"])
        words = f"starving: the device waits for data {wait:.0%} of the time"
        yield "starving", "", limit.rows, words if wait > limit.value else ""

    def drowning(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """One term's pull on the encoder is far above most others' that have not faded by themselves."""
        pulls = {name.removeprefix("pull/"): number(row[name]) for name in row if name.startswith("pull/")}
        if len(pulls) < 2 or not all(map(math.isfinite, pulls.values())):
            return
        limit, strongest = LIMITS["pull"], max(pulls, key=pulls.__getitem__)
        others = [name for name in pulls if name != strongest and not self.faded(name, pulls[name])]
        drowned = [name for name in others if pulls[name] * limit.value < pulls[strongest]]
        for name, pull in pulls.items():
            best, heard = self.best_pulls.get(name, (0.0, False))
            self.best_pulls[name] = (max(best, pull), heard or pull * limit.value >= pulls[strongest])
        words, rows = "", limit.rows
        if 2 * len(drowned) > len(others):
            times = pulls[strongest] / max(1e-12, *(pulls[name] for name in drowned))
            rows = 1 if self.is_alone(row) and limit.alone is not None and times > limit.alone else rows
            words = (
                f"{strongest} drowns {' and '.join(drowned)}: it pulls the encoder {times:,.0f} times as hard"
            )
        yield "drowned", "", rows, words

    def faded(self, name: str, pull: float) -> bool:
        """Whether a term was heard once and has grown quiet by itself."""
        best, heard = self.best_pulls.get(name, (0.0, False))
        return heard and pull * LIMITS["faded"].value < best

    def smoothness(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """What is restored at full resolution is smooth, late in the run."""
        detail = row.get("restoration/restored/detail")
        if detail is None or row["step"] < max(LIMITS["detail after"].value, self.total / 2):
            return
        limit = LIMITS["detail"]
        words = (
            f"restoration only copies low frequencies: it holds {max(detail, 0):.0%} of the fine structure"
        )
        yield "low frequencies", "", limit.rows, words if detail < limit.value else ""

    def pseudo_labels(self, row: Row) -> Iterator[tuple[str, str, int, str]]:
        """Teacher and network disagree, or a class has far fewer or more voxels than at first."""
        if "pseudo/agreement" not in row:
            return
        agreement, limit = number(row["pseudo/agreement"]), LIMITS["pseudo agreement"]
        words = f"pseudo-labels drift: teacher and network agree by {agreement:.2f} (Dice)"
        yield "pseudo-labels drift", "", limit.rows, words if agreement < limit.value else ""
        limit = LIMITS["pseudo share"]
        for name in (name for name in row if name.startswith("pseudo/share/")):
            share, word = number(row[name]), name.removeprefix("pseudo/share/")
            first = self.first_shares.setdefault(name, share)
            shown = f"{word} has {share:.2%} of the voxels, at first it had {first:.2%}"
            fallen, risen = share * limit.value < first or share == 0, share > first * limit.value > 0
            words = f"pseudo-labels collapse: {shown}"
            yield "pseudo-labels collapse", word, limit.rows, words if fallen else ""
            words = f"pseudo-labels drift: {shown}"
            yield "pseudo-labels drift", word, limit.rows, words if risen else ""


def collapses(row: Row, *, alone: bool) -> Iterator[tuple[str, str, int, str]]:
    """Embeddings of different images point the same way, or one of two ways."""
    for name, value in row.items():
        if match := re.fullmatch(r"(features|projections)/stride(\d+)/(std|uniformity)", name):
            kind, stride, measure = match.groups()
            limit = LIMITS.get(f"{kind} {measure}")
            if limit is None or value is None:
                continue
            beyond = operator.lt if measure == "std" else operator.gt
            clear = alone and limit.alone is not None and beyond(value, limit.alone)
            words = f"collapsing at scale 1/{stride} ({kind}: {measure} {value:.3g})"
            rows = 1 if clear else limit.rows
            yield "collapsing", f"{kind} {stride}", rows, words if beyond(value, limit.value) else ""


def number(value: float | None) -> float:
    """A value of a line, infinite where it was none."""
    return math.inf if value is None or math.isnan(value) else float(value)


def judge(rows: Iterable[Row], total: int) -> list[Verdict]:
    """What stands after all lines of a run."""
    one = Judge(total)
    for row in rows:
        one.see(row)
    return one.standing()

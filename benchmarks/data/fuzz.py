"""Reads thousands of damaged and hostile files of every format: `make fuzz`, or `fuzz.py COUNT SEED`.

Each file is read in two places that differ in their canaries only (`arena` says why this finds every foreign
voxel). Counted, and 0 in a good run: foreign voxels, readings that disagree otherwise, files opened next
door, files that take more than 10 s, broken rules (a traceback, a reason that is empty, of several lines or
names the file, values that are not finite), and valid images that are refused or read as other voxels:
before every hostile file a valid one of its kind is read in the same process; and "hopeless" files that are
read though they lack voxels that they promise or have a wrong checksum, whatever fills the gaps. Deaths of
the decoding process are counted too, and are no failure: they are what it is there for. Files that fail are
kept in `fuzz-findings/`.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import hostile_binary
import hostile_dicom
import hostile_text
from arena import TIMEOUT_SECONDS, Arena, Reading, disagreement, foreign_voxels, write
from hostile_text import STEM, Case, Craft
from mutations import mutated
from specimens import Specimen, drawn, specimens
from specimens_dicom import dicom_specimens

PROCESSES = 2
CRAFTED, BOMBS = 0.6, 0.003  # shares of files that are made by hand, and of those that unpack to 100 MB
FAILURES = (
    "foreign voxels",
    "disagreements",
    "outside reads",
    "hangs",
    "broken rules",
    "valid refused",
    "hopeless read",
)
FAMILIES: dict[str, tuple[Craft, ...]] = {
    **dict.fromkeys(("mha", "mhd"), hostile_text.META),
    **dict.fromkeys(("nrrd", "nhdr"), hostile_text.NRRD),
    **hostile_binary.BINARY,
    "dicom": hostile_dicom.DICOM,
    "dicom-series": (hostile_dicom.series,),
}


@dataclass(slots=True)
class Tally:
    """Counts of one run or of a part of it."""

    read: Counter[str] = field(default_factory=Counter)  # by family
    refused: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)  # everything in FAILURES, and deaths
    failed: Counter[str] = field(default_factory=Counter)  # files with a failure, by family and what failed
    lines: list[str] = field(default_factory=list)

    def fail(self, what: str, family: str, text: str, times: int = 1) -> None:
        """Counts a failure and says where it was."""
        self.counts[what] += times
        self.failed[f"{family}: {what}"] += 1
        self.lines.append(f"{text}: {what}")

    def add(self, other: Tally) -> None:
        """Takes the counts of another part."""
        for name in ("read", "refused", "reasons", "counts", "failed"):
            getattr(self, name).update(getattr(other, name))
        self.lines += other.lines

    @property
    def total(self) -> int:
        """All hostile files."""
        return self.read.total() + self.refused.total()


def hostile(rng: np.random.Generator, kind: str, specimen: Specimen) -> Case:
    """A hostile file of a kind: made by hand, or a valid one with damage."""
    if rng.random() < BOMBS:
        return (hostile_text.bombs, hostile_binary.bombs)[int(rng.integers(2))](rng)
    crafts = FAMILIES["dicom-series" if specimen.is_series else family_of(kind)]
    if rng.random() < CRAFTED:
        return crafts[int(rng.integers(len(crafts)))](rng)
    endings = list(specimen.files)
    victim = endings[0 if rng.random() < 0.5 else int(rng.integers(len(endings)))]
    files = dict(specimen.files) | {victim: mutated(rng, victim, specimen.files[victim])}
    if not specimen.is_series and len(endings) > 1 and rng.random() < 0.1:
        del files[endings[-1]]
    return Case({f"{kind}{ending}": data for ending, data in files.items()})


def family_of(kind: str) -> str:
    """The format of a kind of specimen: what stands before its first hyphen, NIfTI-2 with NIfTI."""
    return kind.partition("-")[0].rstrip("0123456789")


def fuzz(numbers: Iterable[int], seed: int, findings: Path) -> Tally:
    """Counts over the hostile files of some numbers."""
    tally, kinds = Tally(), {**specimens(STEM, drawn(0)), **dicom_specimens(drawn(0))}
    names = sorted(kinds)
    with tempfile.TemporaryDirectory() as scratch:
        arenas = (Arena(Path(scratch) / "a", 37), Arena(Path(scratch) / "b", 90))
        for number in numbers:
            rng, kind = np.random.default_rng([seed, number]), names[number % len(names)]
            case = hostile(rng, kind, kinds[kind])
            label, failed = f"{seed}-{number}-{kind}", len(tally.lines)
            judge(tally, arenas, case, kind, label, is_series=kinds[kind].is_series)
            if len(tally.lines) > failed:
                write(findings, label, case.files)
        for arena in arenas:
            arena.close()
    return tally


def judge(
    tally: Tally, arenas: tuple[Arena, Arena], case: Case, kind: str, label: str, *, is_series: bool
) -> None:
    """Reads one hostile file in both places and counts."""
    family, readings = family_of(kind), []
    for arena in arenas:
        if wrong := arena.valid_neighbour(kind):
            tally.fail("valid refused", family, f"{label}, a valid neighbour ({wrong})")
        found, opened = arena.read(case, is_series=is_series)
        readings.append(found)
        if opened:
            tally.fail("outside reads", family, label)
    for first, second in zip(*readings, strict=False):
        _compare(tally, family, label, first, second)
    if len(readings[0]) != len(readings[1]):
        tally.fail("disagreements", family, f"{label}, in the number of images")
    is_image = any(reading.volume is not None for reading in readings[0])
    if is_image and case.hopeless:
        tally.fail("hopeless read", family, label)
    (tally.read if is_image else tally.refused)[family] += 1


def _compare(tally: Tally, family: str, label: str, first: Reading, second: Reading) -> None:
    if voxels := foreign_voxels(first, second):
        tally.fail("foreign voxels", family, f"{label}, {voxels} voxels", voxels)
    elif difference := disagreement(first, second):
        tally.fail("disagreements", family, f"{label}, {difference}")
    for reading in (first, second):
        if reading.broken:
            tally.fail("broken rules", family, f"{label}, {reading.broken}")
        if reading.seconds > TIMEOUT_SECONDS or "takes more than" in reading.reason:
            tally.fail("hangs", family, label)
        tally.counts["deaths"] += "ended the process" in reading.reason
        tally.reasons[reading.reason or "(an image)"] += 1


def _part(task: tuple[int, int, int, Path]) -> Tally:
    start, count, seed, findings = task
    return fuzz(range(start, count, PROCESSES), seed, findings)


def main() -> int:
    """Runs and prints; 1 where a count that must be 0 is not."""
    given = [int(text) for text in sys.argv[1:]]
    count, seed = (*given, *(20000, 0)[len(given) :])
    start, tally = time.monotonic(), Tally()
    with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
        for part in pool.map(_part, [(i, count, seed, Path("fuzz-findings")) for i in range(PROCESSES)]):
            tally.add(part)
    print(f"{tally.total} hostile files (seed {seed}), each read twice, in {time.monotonic() - start:.0f} s:")
    print(report(tally))
    return 1 if any(tally.counts[what] for what in FAILURES) else 0


def report(tally: Tally) -> str:
    """What is printed: the counts, then by format, then the commonest reasons and the first failures."""
    counts = ", ".join(f"{tally.counts[what]} {what}" for what in (*FAILURES, "deaths"))
    lines = [counts, "format: read, refused"]
    lines += [
        f"  {name}: {tally.read[name]}, {tally.refused[name]}" for name in sorted(tally.read | tally.refused)
    ]
    lines += ["reasons of both readings:"]
    lines += [f"  {times:6} {reason}" for reason, times in tally.reasons.most_common(12)]
    lines += [f"{times} files of {what}" for what, times in sorted(tally.failed.items())]
    return "\n".join([*lines, *_first(tally.lines)])


def _first(lines: list[str], most: int = 8) -> Iterator[str]:
    """The first lines of each failure."""
    shown: Counter[str] = Counter()
    for line in lines:
        what = line.rpartition(": ")[2]
        shown[what] += 1
        if shown[what] <= most:
            yield f"  {line}"


if __name__ == "__main__":
    sys.exit(main())

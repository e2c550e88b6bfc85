"""Time and memory to list ChestX-ray14 at its full size (112,120 empty files) and to split it.

Run as `python benchmarks/data/source_listing.py FOLDER`; the files are made there and stay.
"""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

from foveate.data.cohort.draw import by_patient, draw, strata
from foveate.data.sources.chestxray14 import FINDINGS, Config, build

COUNT, PATIENTS, FOLDERS = 112_120, 30_805, 12
COLUMNS = "Image Index,Finding Labels,Follow-up #,Patient ID\n"


def make(root: Path) -> None:
    """The names of the data set, every seventh image with a finding, the last quarter for the test."""
    names = [f"{i % PATIENTS:08d}_{i // PATIENTS:03d}.png" for i in range(COUNT)]
    for number in range(1, FOLDERS + 1):
        (root / f"images_{number:03d}" / "images").mkdir(parents=True, exist_ok=True)
    for i, name in enumerate(names):
        (root / f"images_{i % FOLDERS + 1:03d}" / "images" / name).touch()
    finding = ["No Finding" if i % 7 else FINDINGS[i // 7 % 14] for i in range(COUNT)]
    rows = [f"{name},{what},0,{int(name[:8])}\n" for name, what in zip(names, finding, strict=True)]
    (root / "Data_Entry_2017.csv").write_text(COLUMNS + "".join(rows))
    test = [name for name in names if int(name[:8]) % 4 == 0]
    (root / "test_list.txt").write_text("\n".join(test))
    (root / "train_val_list.txt").write_text("\n".join(sorted(set(names) - set(test))))


def main() -> None:
    """Print the figures of one run."""
    root = Path(sys.argv[1])
    if not (root / "test_list.txt").exists():
        make(root)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.process_time()
    records = list(build(Config()).records(root))
    listed = time.process_time()
    groups = by_patient(records)
    drawn = draw(groups, strata(groups), val_share=0.1, test_share=0.2, fractions=(0.01, 0.1), seed=0)
    done = time.process_time()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    test = {record.relative for patient in drawn.parts["test"] for record in groups[patient]}
    assert len(records) == COUNT
    assert test == {record.relative for record in records if record.split == "test"}
    print(f"{len(records)} records listed in {listed - started:.1f} s of CPU, split in {done - listed:.1f} s")
    print(f"peak memory grew by {grown:.0f} MB; test {len(test)} images, as the list says")


if __name__ == "__main__":
    main()

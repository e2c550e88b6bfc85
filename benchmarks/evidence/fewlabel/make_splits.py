"""The fixed splits of the comparison: names sorted, permuted by a named stream, cut.

    python benchmarks/evidence/fewlabel/make_splits.py $FOVEATE_DATA

writes the committed lists again, byte for byte.
"""

from __future__ import annotations

import sys
from pathlib import Path

from foveate.core.rng import stream
from foveate.data.cohort.labelled import read_labelled
from foveate.data.sources.folder import Config, build

HERE = Path(__file__).parent
PARTS = {"hippocampus": ("msd_hippocampus", 60, 20), "lungs": ("cxr_tb_lungs", 100, 20)}


def main(root: Path) -> None:
    """Write every list."""
    for name, (folder, tests, vals) in PARTS.items():
        data = root / folder
        names = sorted(record.relative for record in read_labelled(data, "maps").records)
        order = stream(0, f"fewlabel/{name}").permutation(len(names)).tolist()
        mixed = [names[i] for i in order]
        images = {record.relative for record in build(Config()).records(data) if record.role == "image"}
        lists = {
            "test": mixed[:tests],
            "val": mixed[tests : tests + vals],
            "train": mixed[tests + vals :],
            "unlabelled": images - set(names),
        }
        out = HERE / f"{name}_split"
        out.mkdir(exist_ok=True)
        for part, members in lists.items():
            if members:
                (out / f"{part}.txt").write_text("".join(f"{each}\n" for each in sorted(members)))
        print(name, {part: len(members) for part, members in lists.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))

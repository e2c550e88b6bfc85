"""Parity of PCRLv2 in float64 on a device, with recorded numbers or with the transcription on the CPU.

    python benchmarks/methods/parity_on.py cuda [FOLDER]

FOLDER is what `parity.py` reads. Without it the recordings are made here, by the transcription, of narrow
networks. The last line is JSON: the largest relative error in 2D and 3D, and what is over the bound.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

import parity
import pcrlv2_transcription as transcription
from foveate.core.types import Dimension

GRIDS = {2: ([64, 64], [32, 32]), 3: ([16, 16, 16], [8, 8, 8])}
WIDTH, BATCH, SEED = 4, 4, 5
DIMENSIONS: tuple[Dimension, Dimension] = (2, 3)


def main(accelerator: str, folder: Path | None) -> None:
    """Compare in both dimensions."""
    found: dict[str, str | float] = {}
    over = []
    with tempfile.TemporaryDirectory() as scratch:
        for dimension in DIMENSIONS:
            if folder is None:
                inputs = transcription.hashed_inputs(SEED, dimension, BATCH, *GRIDS[dimension])
                transcription.record(Path(scratch), dimension, WIDTH, SEED, inputs)
            run = parity.Parity(folder or Path(scratch), dimension, accelerator)
            run.run()
            found[f"largest error, {dimension}D"] = max(run.worst.values())
            over += [f"{q}, {dimension}D: {e:.1e}" for q, e in run.worst.items() if e > parity.BOUND]
    if over:
        found["failed"] = f"over {parity.BOUND:g}: {'; '.join(over)}"
    print(json.dumps(found))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit((__doc__ or "").strip())
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else None)

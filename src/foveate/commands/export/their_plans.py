"""Plans of nnU-Net for the network of this folder: python plans.py ID, after nnUNetv2_plan_and_preprocess.

Needs no foveate. Reads nnUNetResEncUNetMPlans.json in the folder of the data set below
$nnUNet_preprocessed, and writes foveatePlans.json beside it: the same with the network of architecture.json
and patches that fit it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

BEFORE, NAME, CONFIGURATION = "nnUNetResEncUNetMPlans", "foveatePlans", "3d_fullres"
PLACE = "nnUNet_preprocessed"


def patch_of(planned: Sequence[int], stride: int) -> list[int]:
    """The nearest multiples of the coarsest stride.

    >>> patch_of([40, 56, 41], 16)
    [48, 64, 48]
    """
    return [max(2, int(size / stride + 0.5)) * stride for size in planned]


def with_network(plans: Mapping[str, Any], architecture: Mapping[str, Any]) -> dict[str, Any]:
    """The plans for that network."""
    stages = architecture["arch_kwargs"]["n_stages"]
    chosen = dict(plans["configurations"][CONFIGURATION])
    chosen |= {
        "architecture": architecture,
        "patch_size": patch_of(chosen["patch_size"], 2 ** (stages - 1)),
    }
    return {**plans, "plans_name": NAME, "configurations": {CONFIGURATION: chosen}}


def main(number: str, folder: Path) -> Path:
    """Write the plans of a data set; where."""
    home = os.environ.get(PLACE, "")
    found = sorted(Path(home).glob(f"Dataset{int(number):03d}_*/{BEFORE}.json")) if home else []
    if len(found) != 1:
        raise SystemExit(
            f"{len(found)} files Dataset{int(number):03d}_*/{BEFORE}.json below ${PLACE} ({home}); "
            "accepted: one, which nnUNetv2_plan_and_preprocess -pl nnUNetPlannerResEncM writes."
        )
    architecture = json.loads((folder / "architecture.json").read_text(encoding="utf-8"))
    plans = with_network(json.loads(found[0].read_text(encoding="utf-8")), architecture)
    path = found[0].with_name(f"{NAME}.json")
    path.write_text(json.dumps(plans, indent=4) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    print(main(sys.argv[1], Path(__file__).parent))

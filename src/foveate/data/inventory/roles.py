"""The roles of an inventory's images, once their voxels are known: those of a family have one (`data.roles`).

What a file's own values say stays in front of its evidence, so that another scan decides from the same facts.
"""

from __future__ import annotations

import os
import sqlite3

from foveate.data.inventory import state
from foveate.data.readers.refusals import LOOKS_LIKE_LABELS, looks_like_labels
from foveate.data.roles.verdicts import verdicts

NOTES = "alike"  # the fact that holds what the terminal should say
COUNTS = "; counts as what most are: "
JOINED = "images JOIN members ON image = images.number JOIN files ON files.number = file"
DECODED = "images.files = 1 AND format != 'DICOM' AND decoded = 1 AND role IN ('image', 'label')"
BY_VALUES = f"(evidence LIKE 'suffix %' OR evidence LIKE '{LOOKS_LIKE_LABELS}%')"
QUERY = f"SELECT relative, images.number, role, evidence FROM {JOINED} WHERE {DECODED} AND {BY_VALUES}"
OTHERS = f"SELECT relative FROM {JOINED} WHERE {DECODED} AND NOT {BY_VALUES}"


def settle(db: sqlite3.Connection) -> int:
    """Gives the files of every family one role. Returns how many rows changed."""
    if not state.count(db, "images", f"evidence LIKE '{LOOKS_LIKE_LABELS}%'"):
        return 0
    rows = {os.fsdecode(name): (number, role, said) for name, number, role, said in db.execute(QUERY)}
    own = {name: said.partition(COUNTS)[0] for name, (_, _, said) in rows.items()}
    looks = {name: looks_like_labels(said) for name, said in own.items()}
    found = verdicts(looks, [os.fsdecode(name) for (name,) in db.execute(OTHERS)])
    reasons = {name: verdict.reason for verdict in found for name in verdict.overruled}
    changed = 0
    with db:
        for name, (number, role, said) in rows.items():
            labels = looks[name] != (name in reasons)
            evidence = own[name] + (f"{COUNTS}{reasons[name]}" if name in reasons else "")
            if (role, said) != (settled := ("label" if labels else "image", evidence)):
                state.update_image(db, number, dict(zip(("role", "evidence"), settled, strict=True)))
                changed += 1
    state.remember(db, **{NOTES: "\n".join(verdict.note for verdict in found)})
    return changed


def notes(db: sqlite3.Connection) -> list[str]:
    """What the terminal should say."""
    return [line for line in state.fact(db, NOTES, "").split("\n") if line]

"""Of sweeps, from a table of predictions: answers averaged over frames, and the best frame of each class."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from foveate.commands.predict.table import read_table
from foveate.core.files import OWNER, csv_text, replace_text
from foveate.core.tasks import ImageTask
from foveate.scoring.protocols.sweeps import frame_of, in_order, smoothed

SMOOTHED, BEST = "smoothed.csv", "best_frames.csv"


def write_sweeps(table: Path, task: ImageTask, count: int) -> str:
    """Write beside the table what there is to say of sweeps; the words for it, "" where that is nothing."""
    if count == 1 and not task.sought:
        return ""
    names, written = list(task.class_names), []
    rows = {image: row for image, row in read_table(table).items() if all(map(row.get, names))}
    if not rows:
        return ""
    images, frames = list(rows), [frame_of(image) for image in rows]
    found = np.array([[float(row[name]) for name in names] for row in rows.values()])
    answers = smoothed(found, frames, count)
    if count > 1:
        cells = [task.row(each.tolist()) for each in answers]
        lines = [[image, *row.values()] for image, row in zip(images, cells, strict=True)]
        replace_text(table.with_name(SMOOTHED), csv_text(["image", *cells[0]], lines), OWNER)
        written.append(f"{SMOOTHED}: means over {count} frames")
    if task.sought:
        lines = []
        for members in in_order(frames):
            for name in task.sought:
                scores = answers[members, names.index(name)]
                best = members[int(scores.argmax())]
                sweep = str(frames[best].sweep)
                lines.append([sweep, str(len(members)), name, images[best], f"{scores.max():.6g}"])
        head = ["sweep", "frames", "class", "best_image", "score"]
        replace_text(table.with_name(BEST), csv_text(head, lines), OWNER)
        written.append(f"{BEST}: the best frame of each class in each sweep")
    return "; ".join(written)

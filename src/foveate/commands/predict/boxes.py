"""The boxes of predicted images as a table and as JSON, in millimetres of each image's own frame."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from foveate.core.boxes.geometry import Boxes, in_mm, in_voxels
from foveate.core.boxes.tasks import BoxConfig, BoxTask
from foveate.core.files import OWNER, csv_text, read_json, replace_text
from foveate.core.types import Record
from foveate.data.cache.volumes import CachedVolume
from foveate.runtime.finetuned import Model
from foveate.scoring.grids import Grid, source_grid

CSV, JSON = "boxes.csv", "boxes.json"
LETTERS = "xyz"
DIGITS = 6


@final
class BoxFiles:
    """Boxes by image, as far as they are known; written as a whole each time."""

    def __init__(self, out: Path, task: BoxTask) -> None:
        self.out, self.task = out, task
        known = read_json(out / JSON) or {"images": []}
        self.images: dict[str, dict[str, Any]] = {each["image"]: each for each in known["images"]}

    def enter(self, model: Model, record: Record, volume: CachedVolume, boxes: Boxes) -> dict[str, str]:
        """Keep the boxes of an image, in voxels of what the network saw; its cells in the table of images."""
        names, config = self.task.class_names, self.task.config
        best = {name: boxes.score[boxes.label == k].max(initial=0) for k, name in enumerate(names)}
        unit, own = in_own_frame(model, record, volume, shown(boxes, config))
        self.images[record.relative] = {
            "image": record.relative,
            "unit": unit,
            "frame": "ras",
            "boxes": rows_of(own, names, absent=config.one_each),
        }
        found = {f"score/{name}": f"{value:.6g}" for name, value in best.items()}
        return {"boxes": str(len(own)), **found}

    def save(self) -> None:
        """Both files."""
        images = [self.images[name] for name in sorted(self.images)]
        if not images:
            return
        replace_text(self.out / JSON, json.dumps({"images": images}, indent=1) + "\n", OWNER)
        replace_text(self.out / CSV, as_csv(images, absent=self.task.config.one_each), OWNER)


def shown(boxes: Boxes, config: BoxConfig) -> Boxes:
    """Those that are sure enough to be written."""
    return boxes.picked(boxes.score >= config.shown_from)


def in_own_frame(model: Model, record: Record, volume: CachedVolume, boxes: Boxes) -> tuple[str, Boxes]:
    """Boxes in millimetres of the world; of a picture, which has none, in its own pixels."""
    placed = in_mm(boxes, volume.affine)
    if len(volume.shape) == len(LETTERS):
        return "mm", placed
    seen = Grid(shape=volume.shape, affine=np.array(volume.entry.affine))
    own = source_grid(record, seen, unchanged=model.same_grid)
    return "voxel", in_voxels(placed, own.affine)


def rows_of(boxes: Boxes, names: Sequence[str], *, absent: bool) -> list[dict[str, Any]]:
    """An entry for each box, the surest first; with `absent` one for each class without a box as well."""
    ordered = boxes.best_first()
    present = {"present": True} if absent else {}
    rows: list[dict[str, Any]] = [
        {
            "class": names[label],
            **present,
            "score": short(score),
            "centre": [short(x) for x in centre],
            "size": [short(x) for x in size],
        }
        for label, score, centre, size in zip(
            ordered.label.tolist(),
            ordered.score.tolist(),
            ordered.centre.tolist(),
            ordered.size.tolist(),
            strict=True,
        )
    ]
    missing = [name for k, name in enumerate(names) if absent and k not in ordered.label]
    return [*rows, *({"class": name, "present": False} for name in missing)]


def short(number: float) -> float:
    """A number to the digits that are written."""
    return float(f"{number:.{DIGITS}g}")


def as_csv(images: Sequence[Mapping[str, Any]], *, absent: bool) -> str:
    """A row for each box, as `docs/boxes.md` has them; an image without any has a row without numbers."""
    axes = LETTERS[: max((len(b["centre"]) for i in images for b in i["boxes"] if "centre" in b), default=3)]
    extra = ["present"] if absent else []
    head = ["image", "class", *extra, "score", *axes, *(f"size_{a}" for a in axes), "unit", "frame"]
    blank = [""] * (1 + 2 * len(axes))
    rows = []
    for image in images:
        last = [image["unit"], image["frame"]]
        for box in image["boxes"]:
            there = [str(box["present"]).lower()] if absent else []
            numbers = [box["score"], *box["centre"], *box["size"]] if "centre" in box else blank
            rows.append([image["image"], box["class"], *there, *map(str, numbers), *last])
        if not image["boxes"]:
            rows.append([image["image"], "", *([""] * len(extra)), *blank, *last])
    return csv_text(head, rows)

"""Finished runs in a folder that outlives the machine: taken over where grid, code and data agree.

Names of images and patients are numbers there, by their order in the list of the test: salted names mean
nothing in another place, where there is another salt.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from foveate.commands.compare.folder import CELLS, Bench
from foveate.commands.compare.grid import Job, example, jobs_of, split_of
from foveate.core.files import plain, read_json, replace_text, write_json
from foveate.core.types import FoveateError, Json, Record
from foveate.data.boxes.listing import listed_of
from foveate.data.cache.index import salted_id
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.leakage import WHOLE
from foveate.data.decoding.decoder import decode, decode_flat
from foveate.data.readers.channels import read_image, voxel_hash
from foveate.runtime.folder import commit

FACTS = "grid.json"
DIGITS = 5
# How close the losses of the first steps must be: sums in another order are, another objective is not.
CLOSE = {"32-true": 0.002, "": 0.02}  # by precision; bfloat16 rounds differently on other processors
CARRIED = ("long_steps", "steps", "seconds", "losses", "data")


def carried(bench: Bench) -> dict[str, Any]:
    """What is known of the grid from the folder of finished runs."""
    folder = bench.config.grid.cells
    return (read_json(Path(folder) / FACTS) or {}) if folder else {}


def take_over(bench: Bench) -> str:
    """Check that the folder is of this grid, copy its runs, write there what finishes; a line that says so.

    Raises:
        FoveateError: grid, code or data differ.
    """
    folder = Path(bench.config.grid.cells)
    before = carried(bench)
    for task, known in bench.budget.items():
        known["data"] = known.get("data") or data_hash(bench, task)
        precision = str(bench.config.tasks[task].both.get("precision", "32-true"))
        close = CLOSE.get(precision, CLOSE[""])
        check(folder, task, before.get(task, {}), known, close)
    taken = [job for job in jobs_of(bench.config) if taken_over(bench, folder, job)]
    (folder / CELLS).mkdir(parents=True, exist_ok=True)
    write_json(folder / FACTS, merged(before, bench.budget))
    bench.kept.append(lambda job, cell: put(bench, folder, job, cell))
    for job in jobs_of(bench.config):  # finished here before the folder was named
        if not place_of(folder, job).exists() and (cell := read_json(place_of(bench.out, job))):
            put(bench, folder, job, cell)
    return f"{len(taken)} finished runs were taken over from {folder}"


def merged(before: Mapping[str, Any], here: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of every task: what was written first stays, with the commit that it was written by."""
    found: dict[str, Any] = {task: dict(known) for task, known in before.items()}
    for task, known in here.items():
        mine = found.setdefault(task, {"commit": commit()})
        for key in CARRIED:
            old, new = mine.get(key), known.get(key)
            mine[key] = {**new, **old} if isinstance(old, dict) and isinstance(new, dict) else old or new
    return found


def check(folder: Path, task: str, before: Mapping[str, Any], here: Mapping[str, Any], close: float) -> None:
    """Refuse runs on other images, and of arms that compute something else by now."""
    if before and before["data"] != here["data"]:
        raise FoveateError(
            f"--cells {folder}: its runs of task {task} are on other images, label maps or lists than those "
            "here; accepted: the same data, or another folder."
        )
    for arm, losses in before.get("losses", {}).items():
        now = here["losses"].get(arm, losses)  # of an arm that is not run now
        if not all(
            math.isclose(a, b, rel_tol=close, abs_tol=close) for a, b in zip(losses, now, strict=True)
        ):
            raise FoveateError(
                f"--cells {folder}: {task}/{arm} computes something else than when its runs were done: its "
                f"first losses were {losses} and are {now}; accepted: the code of their commit, or another "
                "folder."
            )


def taken_over(bench: Bench, folder: Path, job: Job) -> bool:
    """Copy a finished run, unless it is here; refuses one that had another configuration."""
    goal, found = place_of(bench.out, job), read_json(place_of(folder, job))
    if goal.exists() or found is None:
        return False
    bench.check_fingerprint(job, found, f"--cells {folder}")
    if "cases" in found:
        found["cases"] = rows_of(found["cases"], names_of(bench, job.task))
    write_json(goal, found)
    return True


def put(bench: Bench, folder: Path, job: Job, cell: Mapping[str, Any]) -> None:
    """Write a finished run into the folder, on few lines and without salted names."""
    found = {key: plain(value) for key, value in cell.items()}
    if "cases" in found:
        found["cases"] = columns_of(cell["cases"], names_of(bench, job.task))
    lines = [f"{json.dumps(key)}: {json.dumps(value, separators=(',', ':'))}" for key, value in found.items()]
    replace_text(place_of(folder, job), "{\n" + ",\n".join(lines) + "\n}\n")


def place_of(folder: Path, job: Job) -> Path:
    """The file of a finished run."""
    return folder / CELLS / f"{job.name}.json"


def names_of(bench: Bench, task: str) -> dict[str, dict[str, int]]:
    """Salted names of the test images and their patients -> numbers by their order in the list."""
    tests = sorted(bench.held[task].tests, key=lambda record: record.relative)
    patients = dict.fromkeys(patient_of(record) for record in tests)
    return {
        "id": {salted_id(bench.salt, record.relative): n for n, record in enumerate(tests, 1)},
        "patient": {salted_id(bench.salt, patient): n for n, patient in enumerate(patients, 1)},
    }


def columns_of(
    cases: Sequence[Mapping[str, Any]], names: Mapping[str, Mapping[str, int]]
) -> dict[str, list[Any]]:
    """The rows of cases as columns, in the order of the images, names as numbers."""
    ordered = sorted(cases, key=lambda case: names["id"][case["id"]])
    return {
        key: [names[key][case[key]] if key in names else short(plain(case[key])) for case in ordered]
        for key in cases[0]
    }


def rows_of(
    columns: Mapping[str, Sequence[Any]], names: Mapping[str, Mapping[str, int]] | None = None
) -> list[dict[str, Any]]:
    """The columns as rows of cases; numbers as the salted names of this place, where these are given."""
    back = {key: {n: name for name, n in each.items()} for key, each in (names or {}).items()}
    rows = zip(*columns.values(), strict=True)
    return [
        {key: back[key][value] if key in back else value for key, value in zip(columns, row, strict=True)}
        for row in rows
    ]


def short(value: Json) -> Json:
    """Numbers to so many digits."""
    if isinstance(value, list | tuple):
        return [short(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def data_hash(bench: Bench, task: str) -> str:
    """A hash of the decoded images and label maps of a task with their names and parts."""
    config = example(bench.config, task, bench.out / "none")
    digest = blake2b(digest_size=16)
    split, _ = split_of(config)
    for part, records in split.items():
        for record in sorted(records, key=lambda each: each.relative):
            facts = part, record.relative, record.patient, sorted(map(str, record.labels.items()))
            digest.update(repr((facts, hashes_of(record))).encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def hashes_of(record: Record) -> list[str]:
    """Voxel hashes of an image and of its label maps."""
    painted = listed_of(record) is not None  # its map comes from its labels, which are compared themselves
    maps = [Record(path=path, relative=path.name) for _, path in sorted(record.maps.items()) if not painted]
    return [
        voxel_hash(read_image(record, decode, WHOLE).array),
        *(voxel_hash(read_image(each, decode_flat, WHOLE).array) for each in maps),
    ]

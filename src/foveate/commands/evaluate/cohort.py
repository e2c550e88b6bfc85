"""The images of an evaluation: the part of a run's split, or those of all folds, each with its network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from foveate.commands.evaluate.boxed import truth_of
from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.groups import values_of
from foveate.commands.finetune.config import FinetuneConfig, labelled, run_config
from foveate.core import config as parsing
from foveate.core.boxes.tasks import BoxTask
from foveate.core.files import read_json
from foveate.core.tasks import ImageTask
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cohort.draw import PARTS, patient_of
from foveate.data.cohort.leakage import seen_before
from foveate.data.cohort.splits import Split, make_split
from foveate.data.cohort.wanted import Labelled
from foveate.data.salts import read_salt
from foveate.runtime import images as intake
from foveate.runtime.finetuned import Model
from foveate.runtime.selection import say_notes
from foveate.train.logging import say

FOLDED = "out of fold"


def out_of_fold(config: EvaluateConfig, runs: Sequence[str], models: Sequence[Model]) -> Cohort:
    """The validation images of every fold of a cross-validation, each with the network of its fold."""
    names = [model.task.class_names for model in models]
    if strange := [i for i, each in enumerate(names) if each != names[0]]:
        raise FoveateError(
            f"{runs[strange[0]]}: its class_names are {list(names[strange[0]])}, those of {runs[0]} are "
            f"{list(names[0])}; accepted: folds with the same classes, said with --task.classes."
        )
    found = found_in(config, run_config(runs[0]))
    parts = [
        load_cohort(replace(config, part="val"), [run], model, found)
        for run, model in zip(runs, models, strict=True)
    ]
    ids = [volume.entry.id for part in parts for volume in part.volumes]
    if len(set(ids)) < len(ids):
        raise FoveateError(
            f"--run {config.run}: an image is for validation in two of its folds, which were drawn from "
            "different images; accepted: a cross-validation of images that did not change."
        )
    return Cohort(
        volumes=[volume for part in parts for volume in part.volumes],
        patients=[patient for part in parts for patient in part.patients],
        calibration=[],
        owners=[i for i, part in enumerate(parts) for _ in part.volumes],
        values=[each for part in parts for each in part.values],
        part=FOLDED,
        left_out=sum(part.left_out for part in parts),
        records=[record for part in parts for record in part.records],
        truth=parts[0].truth,
    )


def found_in(config: EvaluateConfig, settings: FinetuneConfig) -> Labelled:
    """The labelled images, read as the run reads its own; other images have a table of boxes of their own."""
    usual = parsing.to_mapping(BoxesConfig())
    said = {k: value for k, value in parsing.to_mapping(config.boxes).items() if value != usual[k]}
    boxes = config.boxes if config.part == "all" else replace(settings.boxes, **said)
    found = labelled(replace(settings, boxes=boxes), Path(config.data))
    if said and not found.instances:
        raise FoveateError(
            f"--boxes.{next(iter(said))}: --data {config.data} has label maps; accepted: with a "
            "table of boxes."
        )
    say_notes([*found.notes, found.patients])
    return found


def load_cohort(
    config: EvaluateConfig, runs: Sequence[str], model: Model, found: Labelled | None = None
) -> Cohort:
    """The images of the chosen part; of several runs, the folds of a cross-validation, that of them all."""
    settings = run_config(runs[0])
    cache = cache_folder(Path(config.out).absolute().parent, Path(config.data), model.prepare)
    known = cache_folder(Path(runs[0]).absolute().parent, Path(config.data), model.prepare)
    cache = known if known.is_dir() else cache
    found = found or found_in(config, settings)
    truth = truth_of(model.task.config, settings.task, found) if isinstance(model.task, BoxTask) else None
    splits = [split_of(config, run, settings, found.records, known) for run in runs]
    split = splits[0]
    if len(runs) > 1:
        refuse_parts_of_folds(config, splits)
    part = config.part if config.part != "auto" else "test" if split["test"] else "val"
    chosen = list(found.records) if part == "all" else split[part]
    if not chosen:
        raise FoveateError(
            f"--part {part}: the run's split has no images in it; accepted: --part val, whose images "
            "chose the checkpoint, or --part all on a data set that the run never saw."
        )
    wanted = isinstance(model.task, ImageTask) and model.task.uses_validation and len(runs) == 1
    tuned = split["val"] if part in ("test", "all") and wanted else []
    names = {record.relative for record in chosen}
    tuned = [record for record in tuned if record.relative not in names]
    both = intake.decode([*chosen, *tuned], cache, model.prepare)
    by_name = {volume.relative: volume for volume in both}
    encoded = {
        name: model.seen(v).replaced(labels=settings.task.encode(v.labels)) for name, v in by_name.items()
    }
    kept = [record for record in chosen if record.relative in by_name]
    if not kept:
        raise FoveateError(f"--data {config.data}: none of the {len(chosen)} images could be used.")
    if part == "all":
        for run in runs:
            warn_of_seen(run, kept, [by_name[record.relative].entry.voxel_hash for record in kept])
    salt = read_salt(cache)
    return Cohort(
        volumes=[encoded[record.relative] for record in kept],
        patients=[salted_id(salt, patient_of(record)) for record in kept],
        calibration=[encoded[record.relative] for record in tuned if record.relative in by_name],
        values=values_of(config.by, kept, found.records, Path(config.data)),
        part=part,
        left_out=len(chosen) - len(kept),
        records=kept,
        truth=truth,
    )


def refuse_parts_of_folds(config: EvaluateConfig, splits: Sequence[Split]) -> None:
    """All folds together have seen every image but those of the test: nothing else is scored by them all."""
    tests = [{record.relative for record in split["test"]} for split in splits]
    if config.part == "train" or any(test != tests[0] for test in tests):
        raise FoveateError(
            f"--part {config.part}: {config.run} is a cross-validation, whose folds differ in it; accepted: "
            "auto (each image by the fold that did not train on it), test where all folds have the same, all."
        )


def warn_of_seen(run: str, records: Sequence[Record], voxels: Sequence[str]) -> None:
    """Warn if the run was trained on these images or their patients, whatever the files are called now."""
    try:
        seen = len(seen_before(Path(run), records, voxels))
    except FoveateError as error:
        say(f"warning: whether the run was trained on these images is not known. {error}")
        return
    if seen:
        parts = "training, validation or pre-training"
        say(f"warning: {seen} of these images, or their patients, were in the run's {parts}")


def split_of(
    config: EvaluateConfig, run: str, settings: FinetuneConfig, records: Sequence[Record], cache: Path
) -> Split:
    """A run's own split by the salted names it wrote down; for `all` nothing must be in it."""
    used = read_json(Path(run) / "split.json") or {}
    salt = read_salt(cache) if cache.is_dir() else b""
    ids = {salted_id(salt, record.relative): record for record in records} if salt else {}
    if config.part == "all":
        return {"train": [], "val": [], "test": []}
    split = {part: [ids[name] for name in used.get(part, []) if name in ids] for part in PARTS}
    missing = sum(len(used.get(part, [])) - len(split[part]) for part in PARTS)  # unlabelled: in none
    if "test" not in used and config.part in (
        "auto",
        "test",
    ):  # a run of before they were noted: drawn or read again
        strata = [settings.task.stratum(record.labels) for record in records]
        again = make_split(records, strata, settings.split)
        places = {record.relative: part for part in PARTS for record in again[part]}
        missing += sum(places.get(r.relative) != part for part in ("train", "val") for r in split[part])
        split["test"] = again["test"]
    if missing:
        raise FoveateError(
            f"--data {config.data} does not give the split of {run} ({missing} of its images are "
            "missing or in other parts): these are other images, the cache beside the run is gone, or an "
            "earlier version drew the split. Accepted: the images of the run, or --part all for images that "
            "it never saw."
        )
    return split

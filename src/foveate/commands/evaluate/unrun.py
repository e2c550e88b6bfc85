"""Somebody else's boxes on labelled images, without a run of ours: the images, and the task that scores."""

from __future__ import annotations

from pathlib import Path

from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.groups import values_of
from foveate.commands.finetune.config import labelled_or_drawn
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.types import FoveateError, LabelFacts
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.catalogue import SOURCES
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.wanted import MAP
from foveate.data.readers.suffixes import dimension_of
from foveate.data.salts import read_salt
from foveate.runtime import images as intake
from foveate.runtime.registries import TASKS
from foveate.runtime.selection import say_notes


def cohort_without_run(config: EvaluateConfig) -> tuple[Cohort, BoxConfig]:
    """The labelled images below `data` and the Config that scores boxes in them.

    With `--part auto` those of the test, where the labels name one, else all of them.
    """
    if not config.predictions:
        raise FoveateError(
            "--run none: accepted with --predictions, which names the boxes of another detector."
        )
    preset = TASKS[config.task].Config
    if not issubclass(preset, BoxConfig):
        raise FoveateError(f"--task {config.task}: accepted are tasks whose answers are boxes.")
    data = Path(config.data)
    found = labelled_or_drawn(
        SOURCES["folder"].Config(),
        data,
        preset.want,
        pairs="",
        structures="",
        patient_pattern="",
        boxes=config.boxes,
    )
    say_notes([*found.notes, found.patients])
    parts = {record.split for record in found.records}
    part = ("test" if "test" in parts else "all") if config.part == "auto" else config.part
    chosen = [record for record in found.records if part in ("all", record.split)]
    if not chosen:
        raise FoveateError(f"--part {part}: the labels name no image of it; accepted: --part all.")
    cache = cache_folder(Path(config.out).absolute().parent, data, PrepareConfig())
    decoded = intake.decode(chosen, cache, PrepareConfig())
    by_name = {volume.relative: volume for volume in decoded}
    kept = [record for record in chosen if record.relative in by_name]
    volumes = [by_name[record.relative].replaced(labels={}) for record in kept]
    values = sorted({value for volume in volumes for value in volume.map_entry(MAP).values})
    facts = LabelFacts(
        values=tuple(values), classes=found.classes, ignore=found.ignore, instances=found.instances
    )
    salt = read_salt(cache)
    cohort = Cohort(
        volumes=volumes,
        patients=[salted_id(salt, patient_of(record)) for record in kept],
        calibration=[],
        values=values_of(config.by, kept, found.records, data),
        part=part,
        left_out=len(chosen) - len(kept),
        records=kept,
    )
    return cohort, preset.preset(dimension_of(kept[0]), "small", "none").settle(facts)

"""Somebody else's boxes on labelled images, without a run of ours: the images, and the task that scores."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from foveate.commands.evaluate.cases import Cohort
from foveate.commands.evaluate.config import EvaluateConfig
from foveate.commands.evaluate.groups import values_of
from foveate.commands.finetune.config import labelled_or_drawn
from foveate.core.boxes.tasks import BoxConfig
from foveate.core.labels import LABELS, unions
from foveate.core.types import FoveateError, LabelFacts
from foveate.data.cache.index import salted_id
from foveate.data.cache.prepare import cache_folder
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import CachedVolume
from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.wanted import Labelled
from foveate.data.readers.suffixes import dimension_of
from foveate.data.salts import read_salt
from foveate.runtime import images as intake
from foveate.runtime.registries import TASKS
from foveate.runtime.selection import say_notes


def facts_of(found: Labelled, volumes: Iterable[CachedVolume]) -> LabelFacts:
    """What the labels hold: the classes that a table names, else the values of these label maps."""
    named = {value for group in unions(found.classes).values() for value in group}
    values = (
        named | set(found.ignore)
        if found.instances
        else {value for volume in volumes for value in volume.map_entry(LABELS).values}
    )
    return LabelFacts(
        values=tuple(sorted(values)), classes=found.classes, ignore=found.ignore, instances=found.instances
    )


def facts_that_count(config: EvaluateConfig, found: Labelled, volumes: Iterable[CachedVolume]) -> LabelFacts:
    """The same of labels that hold a finding; others are refused."""
    facts = facts_of(found, volumes)
    if not set(facts.values) - {0, *facts.ignore}:
        raise FoveateError(
            f"--data {config.data}: none of its labels holds a box that counts, so that no class is known; "
            "accepted: labelled images of which one at least has a finding."
        )
    return facts


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
        config.source,
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
    # without a table the labels of all parts say which classes there are: one part may lack some of them
    asked = chosen if found.instances else list(found.records)
    by_name = {volume.relative: volume for volume in intake.decode(asked, cache, PrepareConfig())}
    kept = [record for record in chosen if record.relative in by_name]
    if not kept:
        raise FoveateError(f"--data {config.data}: none of the {len(chosen)} images could be used.")
    facts = facts_that_count(config, found, by_name.values())
    salt = read_salt(cache)
    cohort = Cohort(
        volumes=[by_name[record.relative].replaced(labels={}) for record in kept],
        patients=[salted_id(salt, patient_of(record)) for record in kept],
        calibration=[],
        values=values_of(config.by, kept, found.records, data),
        part=part,
        left_out=len(chosen) - len(kept),
        records=kept,
    )
    return cohort, preset.preset(dimension_of(kept[0]), "small", "none").settle(facts)

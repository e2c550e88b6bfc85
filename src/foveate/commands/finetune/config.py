"""The configuration of a fine-tuning run; keys that the card of --init fixes cannot be changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, final

from foveate.commands.finetune.usual import (
    default_encoder,
    scratch_normalisation,
    usual_average,
    usual_optim,
    usual_semi,
)
from foveate.core import config as parsing, key_help
from foveate.core.dims import TASK_DEFAULTS
from foveate.core.plugins import SourceConfig
from foveate.core.tasks import TaskConfig
from foveate.core.types import Dataclass, Dimension, FoveateError, Normalisation, Size
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.catalogue import SOURCES, source_config
from foveate.data.cohort.boxed import from_boxes, table_for
from foveate.data.cohort.labelled import labelled_images
from foveate.data.cohort.leakage import OnSeen
from foveate.data.cohort.splits import SplitConfig
from foveate.data.cohort.structures import from_structures, offered
from foveate.data.cohort.wanted import Labelled, Want
from foveate.data.named_sets import refuse_sets
from foveate.data.readers.suffixes import dimension_of
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig
from foveate.nets.weights import store as weights
from foveate.runtime.command import Alternatives, Given, Spec, own_paths
from foveate.runtime.config import (
    RANDOM_WEIGHTS,
    RunConfig,
    check_counts,
    check_window,
    choice,
    from_card,
    with_window,
)
from foveate.runtime.precision import accelerator_of, devices_of, usual_precision
from foveate.runtime.registries import TASKS
from foveate.runtime.resources.cpus import usual_workers
from foveate.train.optim import TuningConfig
from foveate.train.semi.settings import SemiConfig

ADAPTED = ("in_channels", "window")  # of an encoder: the transfer fits weights to another number


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationConfig:
    """What is predicted when a training validates.

    Attributes:
        cases: Validation images that are predicted, evenly chosen and always the same; 0: all of them.
        overlap: Share of a window that overlaps with the next one, 0 to below 1.
        export: Which weights are exported: the "best" by validation, or those of the "last" step.
    """

    cases: int = 0
    overlap: float = 0.5
    export: Literal["best", "last"] = "best"

    def __post_init__(self) -> None:
        if self.cases < 0:
            raise FoveateError(f"--validation.cases {self.cases}: accepted are numbers from 0 (all).")
        if not 0 <= self.overlap < 1:
            raise FoveateError(f"--validation.overlap {self.overlap}: accepted are numbers from 0 to < 1.")


@final
@dataclass(frozen=True, kw_only=True)
class FinetuneConfig(RunConfig):
    """One fine-tuning run, complete.

    Attributes:
        data: Labelled images: a folder with images/ beside labels/ or masks/, a table, a list, or the layout
            that `source` names.
        init: Run folder or weights file to start from; none: random weights.
        validate_every: Steps between validations; the best checkpoint is kept beside the newest ones.
        validation: Which images validations predict, and how.
        task: The task to learn.
        split: How the images are split into training, validation and test.
        tuning: Which weights are trained, and how fast.
        pairs: How an image and its label map in one folder are named, such as
            "{case}_image.nii.gz={case}_label.nii.gz"; empty: found by common stems.
        structures: Which structures of DICOM series (RTSTRUCT, SEG) to learn, such as
            "tumour=GTV*|PTV*,heart=Heart*": label values 1, 2 ... in this order, the later one on top.
        boxes: Where a task whose answers are boxes has those of its labels from.
        unlabelled: Images without labels to learn from as well: a folder, a cache of `foveate prepare`, or
            "rest": the images of the training patients that have no label or were left out by
            split.train_cases. Empty: labelled images only.
        semi: How they take part.
        folds: Cross-validation: patients are divided into this many folds. For each fold, a run in
            `out`/fold_K trains on the others; the same command again skips finished folds. 0: one run.
        fold: Run only this fold, counted from 0.
        on_seen: What to do if `init` was pre-trained on test images or on their patients: refuse the run, or
            continue and mark it.
    """

    validate_every: int
    task: TaskConfig
    split: SplitConfig
    tuning: TuningConfig
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    pairs: str = ""
    structures: str = ""
    boxes: BoxesConfig = field(default_factory=BoxesConfig)
    unlabelled: str = ""
    semi: SemiConfig = field(default_factory=SemiConfig)
    folds: int = 0
    fold: int | None = None
    on_seen: OnSeen = "refuse"


def default_config(given: Mapping[str, Any]) -> FinetuneConfig:
    """The first pass: defaults for the task, the weights, the dimension and the size that were given."""
    if "task.name" not in given:
        raise FoveateError(f"--task is missing; accepted: {', '.join(TASKS)}.")
    size = cast(Size, choice("size", given.get("size", "paper"), ("small", "paper")))
    task = TASKS[str(given["task.name"])]
    card = card_of(given)
    dimension = found_dimension(given, card, task.Config.want)
    row = TASK_DEFAULTS[dimension, size]
    encoder = default_encoder(given, card, dimension, size)
    how = cast(Normalisation, card.get("normalisation") or scratch_normalisation(given, dimension))
    accelerator = accelerator_of(given)
    return FinetuneConfig(
        data="",
        out="",
        dimension=dimension,
        size=size,
        steps=row.steps,
        batch_size=row.batch_size,
        save_every=200 if size == "small" else 1000,
        preview_every=200 if size == "small" else 5000,
        validate_every=100 if size == "small" else 1000,
        accelerator=accelerator,
        precision=usual_precision(accelerator),
        num_workers=usual_workers(accelerator, devices_of(given)),
        source=SOURCES[str(given.get("source.name", "folder"))].Config(),
        prepare=with_window(from_card(PrepareConfig, card.get("intensity") or {}), given),
        slices=from_card(SlicesConfig, card.get("slices") or {}),
        task=task.Config.preset(dimension, size, how),
        split=SplitConfig(),
        semi=usual_semi(given, row.steps, task.Config.want),
        tuning=TuningConfig(average=usual_average(given, task.Config.want)),
        encoder=encoder,
        decoder=DecoderConfig(
            skips=True, upsample=ENCODERS[encoder.name].upsample, norm=encoder.decoder_norm
        ),
        optim=usual_optim(row, task.Config.want),
    )


def card_of(given: Mapping[str, Any]) -> weights.Card:
    """The card of --init; empty for a run from random weights."""
    source = str(given.get("init", ""))
    return {} if source in ("", RANDOM_WEIGHTS) else weights.read(source)[1]


def found_dimension(given: Mapping[str, Any], card: weights.Card, want: Want) -> Dimension:
    """2 or 3, on which --dimension, the files and the card must agree; volumes may be seen as slices."""
    said: dict[str, int] = {}
    if "dimension" in given:
        said["--dimension"] = int(choice("dimension", given["dimension"], ("2", "3")))
    if given.get("data"):
        said_of_names = {key: str(given.get(key, "")) for key in ("pairs", "structures", "patient_pattern")}
        refuse_sets(str(given["data"]), "finetune")
        data = Path(str(given["data"]))
        boxes = box_table(given)
        records = labelled_or_drawn(source_config(given), data, want, boxes=boxes, **said_of_names).records
        said["--data"] = dimension_of(records[0])
    if card:
        said["the card of --init"] = int(card["dimension"])
    if min(said.values(), default=0) < said.get("--data", 0):
        del said["--data"]
    if not said:
        raise FoveateError("Give --data FOLDER, from which 2D or 3D is detected, or --dimension 2 or 3.")
    if len(set(said.values())) > 1:
        words = ", ".join(f"{who} says {dimension}D" for who, dimension in said.items())
        raise FoveateError(f"{words}; accepted: weights and images of one dimension.")
    return cast(Dimension, next(iter(said.values())))


def box_table(given: Mapping[str, Any]) -> BoxesConfig:
    """What was given of a table of boxes."""
    keys = {key: given[f"boxes.{key}"] for key in parsing.field_names(BoxesConfig) if f"boxes.{key}" in given}
    return parsing.parse(BoxesConfig(), keys, {})


def labelled_or_drawn(
    source: SourceConfig,
    data: Path,
    want: Want,
    *,
    pairs: str,
    structures: str,
    patient_pattern: str,
    boxes: BoxesConfig,
) -> Labelled:
    """The labelled images of a data set, or the DICOM series with the structures that are asked for."""
    table = table_for(source, data, want, boxes, other=bool(pairs or structures))
    if table is not None:
        return from_boxes(source, data, table, boxes, patient_pattern=patient_pattern)
    if structures:
        if source.name != "folder" or pairs or want == "values":
            raise FoveateError(
                f"--structures {structures}: accepted for tasks that learn label maps or boxes, with "
                "--source folder and without --pairs."
            )
        return from_structures(data, structures, patient_pattern=patient_pattern)
    try:
        return labelled_images(source, data, want, pairs=pairs, patient_pattern=patient_pattern)
    except FoveateError as error:
        hint = offered(data) if source.name == "folder" and want != "values" and not pairs else ""
        raise FoveateError(f"{error} {hint}".strip()) from None


def labelled(config: FinetuneConfig, data: Path) -> Labelled:
    """The labelled images below a folder, read as a run reads its own."""
    return labelled_or_drawn(
        config.source,
        data,
        config.task.want,
        pairs=config.pairs,
        structures=config.structures,
        patient_pattern=config.patient_pattern,
        boxes=config.boxes,
    )


def check(config: FinetuneConfig, defaults: FinetuneConfig) -> None:
    """Refuse numbers that make no run, and what contradicts the card of --init."""
    check_counts(config, validate_every=config.validate_every)
    check_window(config.prepare, config.task.normalisation)
    check_pairs(config)
    if config.init not in ("", RANDOM_WEIGHTS):
        check_card(config, defaults, weights.read(config.init)[1])


def check_pairs(config: FinetuneConfig) -> None:
    """Refuse what cannot be where there are unlabelled images: a batch without pairs, a second average."""
    if config.unlabelled and config.tuning.average:
        raise FoveateError(
            f"--tuning.average {config.tuning.average}: with --unlabelled the teacher is the average; "
            "accepted: 0, with --semi.weights teacher and --semi.momentum in its place."
        )
    if config.unlabelled and config.batch_size % 2:
        raise FoveateError(
            f"--batch_size {config.batch_size}: with --unlabelled half of a batch is labelled; accepted are "
            "even numbers."
        )


def check_card(config: FinetuneConfig, defaults: FinetuneConfig, card: weights.Card) -> None:
    """Refuse what contradicts the card of --init, except ADAPTED; a null in the card fixes nothing."""
    pairs: list[tuple[str, Dataclass, Dataclass]] = [("encoder", config.encoder, defaults.encoder)]
    if card.get("intensity"):
        pairs.append(("prepare", config.prepare, defaults.prepare))
    for part, said, fixed in pairs:
        for name, value in parsing.to_mapping(fixed).items():
            mine = parsing.to_mapping(said)[name]
            if name in ADAPTED:
                continue
            if mine != value:
                raise contradiction(config, f"{part}.{name} {mine}", value)
    given = card.get("normalisation")
    if given and config.task.normalisation != given:
        keys = parsing.flatten(parsing.to_mapping(config.task), "task.")
        key = next((key for key, _ in keys if key.endswith("normalisation")), "task")
        raise contradiction(config, f"{key} {config.task.normalisation}", given)


def contradiction(config: FinetuneConfig, said: str, value: object) -> FoveateError:
    """An error about a key that the card fixes."""
    return FoveateError(
        f"--{said} contradicts the card of --init {config.init}, which says {value}; drop the key, or start "
        "from other weights."
    )


def alternatives(config: FinetuneConfig) -> Alternatives:
    """Configs of the tasks, sources and encoders that were not chosen."""
    return {
        "task": {name: each.Config for name, each in TASKS.others(config.task.name).items()},
        "source": {name: each.Config for name, each in SOURCES.others(config.source.name).items()},
        "encoder": {name: each.config for name, each in ENCODERS.others(config.encoder.name).items()},
    }


def shown(given: Given) -> Given:
    """What `--help` shows where no task and no dimension are named."""
    known = "dimension" in given or given.get("data") or card_of(given)
    return {"task.name": "segmentation", **given, **({} if known else {"dimension": 3})}


def note(config: FinetuneConfig) -> str:
    """What `--help` says before the keys."""
    return (
        f"Shown for --task {config.task.name}, --encoder {config.encoder.name}, "
        f"--dimension {config.dimension}, --size {config.size}; name others to see theirs.\n"
        f"{key_help.help_list('tasks', TASKS)}\n{key_help.help_list('encoders', ENCODERS)}\n"
        f"{key_help.help_list('sources', SOURCES)}"
    )


SPEC = Spec(
    name="finetune",
    defaults=default_config,
    required={"data": "FOLDER", "task.name": "NAME", "init": "RUN|FILE|none", "out": "RUN2"},
    alternatives=alternatives,
    check=check,
    shown=shown,
    note=note,
    recipes=True,
    found=("dimension",),
    often=(
        "data",
        "task.name",
        "init",
        "out",
        "size",
        "steps",
        "unlabelled",
        "split.source",
        "folds",
        "task.classes",
    ),
    examples=(
        "foveate finetune --data LABELLED --task segmentation --init RUN --out RUN2 --size small",
        "foveate finetune --data LABELLED --task segmentation --init RUN --unlabelled rest --out RUN2",
        "foveate finetune --data LABELLED --task classification --task.targets '[sex]' --init RUN --out RUN3",
    ),
)


def run_config(run: str) -> FinetuneConfig:
    """The configuration of a finished fine-tuning run, its task completed from the labels."""
    if not (path := Path(run) / "run.yaml").is_file():
        raise FoveateError(f"--run {run} holds no run.yaml; accepted: the folder of a fine-tuning run.")
    own = {key: str(each) for key, each in own_paths(path).items() if key == "boxes.file"}
    # data and weights may be elsewhere by now
    return SPEC.resolve({**parsing.read_yaml(path), "init": "none", "data": ""}, own)

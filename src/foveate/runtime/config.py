"""The keys that all training runs share, and what the configurations of commands have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

from foveate.core.networks import AnyEncoder, EncoderConfig
from foveate.core.plugins import SourceConfig
from foveate.core.types import Dataclass, Dimension, FoveateError, Size
from foveate.data.cache.complete import complete_entries
from foveate.data.cache.index import PROFILE, is_prepared
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.profiles import PrepareConfig, WindowOf, from_json
from foveate.data.catalogue import build_source, source_config
from foveate.data.named_sets import named_sets, paths_of, said_of
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig
from foveate.runtime.precision import Accelerator, Matmul, Precision
from foveate.train.optim import OptimConfig

C = TypeVar("C", bound=Dataclass)
SHARES = (
    "batch_size",
    "accumulate",
    "devices",
    "num_nodes",
)  # their product may not differ, their values may

# Keys that may differ when a run goes on: none of them changes what is computed up to a step.
RESUMABLE = (
    *("data", "out", "steps", "num_workers", "min_transfer"),
    *("log_every", "save_every", "preview_every", "keep_checkpoints"),
    *("strategy", "activation_checkpointing", "compile", "fit_batch", "gpus", *SHARES),
    *("health_every", "probe", "probe_every", "loggers"),
)

# Normalisations that say what 0 and 1 of the intensity window must be, and the windows that do.
BY_WINDOW: dict[str, tuple[WindowOf, ...]] = {
    "image": ("foreground",),
    "dataset": ("dataset", "range"),
}
RANDOM_WEIGHTS = "none"  # --init of a fine-tuning from random weights

# Where images, lists and runs are, which run.yaml does not repeat: folders may be named after people.
REST = "rest"  # --unlabelled: what the training part of --data has without labels
PATHS = (
    *("data", "out", "init", "unlabelled", "probe"),
    *("split", "split.source", "split.save_as", "boxes.file"),
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The keys that all training runs share; abstract: its subclasses add the method or the task.

    Attributes:
        data: Folder of images, or one file, as `source` reads it; or a cache of `foveate prepare`. `pretrain`
            takes several of them by weight: CT=folder1:0.5,MR=folder2:0.5.
        out: Run folder; running the same command again resumes.
        dimension: 2 or 3; detected from the files by default.
        size: "paper" for the published sizes, "small" for CPUs, tests and first tries.
        steps: Total optimizer steps; a larger number continues a finished run.
        batch_size: Samples per micro-batch on each process; auto: the default, or what a recipe says, with
            `fit_batch`.
        fit_batch: Halve `batch_size`, and double `accumulate`, at the start of the run until a step fits into
            memory; run.yaml says what was taken. `--batch_size auto` sets it.
        accumulate: Micro-batches per optimizer step (gradient accumulation).
        seed: Seed of every random draw.
        init: Run folder or weights file to start from; empty: random weights.
        min_transfer: Smallest share of the encoder's parameters that `init` must fill, else the run stops.
        num_workers: Worker processes that load data, for each process of the run. On a GPU the CPUs of the
            job, divided over its processes, but one, and at most 16.
        accelerator: Type of device to train on; a GPU where there is one.
        devices: Devices per machine, with one process each; GPUs can be given by index: 0,2 for these two,
            and "2," for one.
        gpus: Indices of the GPUs; empty: the first `devices`. `--devices 0,2` sets both.
        num_nodes: Number of machines.
        strategy: How processes share the work: "ddp" replicates the network; "fsdp" is not supported yet.
        sync_batchnorm: Compute batch norm statistics over all processes; on GPUs only.
        activation_checkpointing: Recompute the activations of encoder and decoder blocks in the backward pass
            instead of keeping them: less memory, about a third more time.
        precision: Floating-point precision of the forward pass; bf16-mixed on GPUs that have it.
        float32_matmul: Precision of float32 operations on a GPU, matrix products and convolutions alike:
            "highest" is float32, "high" is TF32, several times as fast.
        deterministic: Use only operations that give the same bits every time, where torch has them on a GPU;
            slower, with a warning for each that has none. CPUs are always deterministic.
        compile: Compile encoders and decoders with torch.compile, which pays off in long runs on GPUs.
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints.
        preview_every: Steps between preview pictures; 0: none, nor the views of some samples.
        keep_checkpoints: How many of the newest checkpoints are kept.
        source: Layout of the data set.
        patient_pattern: Regular expression that finds the patient in a path below `data`: one group, such as
            "(P[0-9]+)_", or a group named patient. Empty: patients come from tables, lists, DICOM headers
            and names.
        loggers: Any of tensorboard, mlflow and wandb, separated by commas; all write into the run folder.
        prepare: How images are prepared for the cache.
        slices: How volumes are seen where `dimension` is 2.
        encoder: The encoder.
        decoder: The decoder.
        optim: The optimizer and its schedule.
    """

    data: str
    out: str
    dimension: Dimension
    size: Size = "paper"
    steps: int
    batch_size: int
    fit_batch: bool = False
    accumulate: int = 1
    seed: int = 0
    init: str = ""
    min_transfer: float = 0.9
    num_workers: int = 1
    accelerator: Accelerator = "cpu"
    devices: int = 1
    gpus: tuple[int, ...] = ()
    num_nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    sync_batchnorm: bool = False
    activation_checkpointing: bool = False
    precision: Precision = "32-true"
    float32_matmul: Matmul = "highest"
    deterministic: bool = False
    compile: bool = False
    log_every: int = 10
    save_every: int = 1000
    preview_every: int = 1000
    keep_checkpoints: int = 3
    source: SourceConfig
    patient_pattern: str = ""
    loggers: str = ""
    prepare: PrepareConfig
    slices: SlicesConfig = field(default_factory=SlicesConfig)
    encoder: EncoderConfig
    decoder: DecoderConfig
    optim: OptimConfig


def check_counts(config: RunConfig, **more: int) -> None:
    """Refuse numbers of steps that make no run; `more` are a command's own, all of them from 1."""
    from_one = {"steps": config.steps, "log_every": config.log_every, "save_every": config.save_every}
    for key, number in {**from_one, "keep_checkpoints": config.keep_checkpoints, **more}.items():
        if number < 1:
            raise FoveateError(f"--{key} {number}: accepted are whole numbers from 1.")
    if config.preview_every < 0:
        raise not_counted("preview_every", config.preview_every)


def not_counted(key: str, number: int) -> FoveateError:
    """An error about a number of steps that may be 0."""
    return FoveateError(f"--{key} {number}: accepted are whole numbers from 1, and 0 for none.")


def with_window(prepare: PrepareConfig, given: Mapping[str, Any]) -> PrepareConfig:
    """The intensity window that the normalisation in the keys needs, where none was said."""
    how = next((str(given[key]) for key in given if key.endswith("appearance.normalisation")), "")
    if how in BY_WINDOW and prepare.window == "profile":
        return replace(prepare, window=BY_WINDOW[how][0])
    return prepare


def check_window(prepare: PrepareConfig, how: str) -> None:
    """Refuse a normalisation that another intensity window belongs to."""
    accepted = BY_WINDOW.get(how, ())
    if accepted and prepare.window not in accepted:
        raise FoveateError(
            f"normalisation {how} belongs to --prepare.window {' or '.join(accepted)}, which says where 0 "
            f"and 1 lie; here it is {prepare.window}. Drop --prepare.window, or say another normalisation."
        )


def encoder_entry(name: str, dimension: Dimension) -> AnyEncoder:
    """The encoder of a name, which must exist in that dimension."""
    entry = ENCODERS[name]
    if dimension not in entry.dimensions:
        fitting = [other for other in ENCODERS if dimension in ENCODERS[other].dimensions]
        raise FoveateError(
            f"--encoder {name} does not exist in {dimension}D; accepted: {', '.join(fitting)}."
        )
    return entry


def choice(key: str, value: object, accepted: tuple[str, ...]) -> str:
    """A value of the first pass, checked by hand because no parser exists yet."""
    if str(value) not in accepted:
        raise FoveateError(f"--{key} {value}: accepted are {', '.join(accepted)}.")
    return str(value)


def found_dimension(given: Mapping[str, Any]) -> Dimension:
    """2 or 3: `dimension` where it is given, else what the files of `data` are."""
    if "dimension" in given:
        return cast(Dimension, int(choice("dimension", given["dimension"], ("2", "3"))))
    if sets := named_sets(str(given.get("data", ""))):
        found: dict[Dimension, list[str]] = {}
        for each in sets:
            with said_of(each.name):
                found.setdefault(dimension_of_data(given, each.path), []).append(each.name)
        if len(found) > 1:
            words = ", ".join(f"{' and '.join(names)} {d}D" for d, names in sorted(found.items()))
            raise FoveateError(
                f"--data mixes dimensions ({words}); accepted: sets of one, or --dimension 2 with sets of "
                "volumes only."
            )
        return next(iter(found))
    if given.get("data"):
        return dimension_of_data(given, Path(str(given["data"])))
    raise FoveateError("Give --data FOLDER, from which 2D or 3D is detected, or --dimension 2 or 3.")


def dimension_of_data(given: Mapping[str, Any], data: Path) -> Dimension:
    """2 or 3, of the images in a folder or a cache."""
    if is_prepared(data):
        return cast(Dimension, len(complete_entries(data)[0].shape) - 1)
    return build_source(source_config(given)).dimension(data)


def found_prepare(given: Mapping[str, Any]) -> PrepareConfig:
    """How the cache is made: the default, or what a cache that was given as `data` says of itself."""
    data = str(given.get("data", ""))
    paths = paths_of(data) if data else []
    prepared = [path for path in paths if is_prepared(path)]
    return from_json((prepared[0] / PROFILE).read_text(), prepared[0]) if prepared else PrepareConfig()


def from_card(kind: type[C], values: Mapping[str, Any]) -> C:
    """A Config from its plain mapping in a card."""
    known = {field.name for field in fields(kind)}
    if strange := sorted(set(values) - known):
        raise FoveateError(
            f"The card of the weights has {strange[0]} in {kind.__name__}, which this version of foveate "
            "does not know; accepted: cards of this or an earlier version."
        )
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in values.items()})

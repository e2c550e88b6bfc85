"""The configuration of a pre-training run: what can be said, and how the first pass finds the defaults."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, cast, final

import torch

from foveate.core import config as parsing
from foveate.core.contracts import MethodConfig
from foveate.core.dims import defaults as table
from foveate.core.networks import AnyEncoder, EncoderConfig
from foveate.core.plugins import MethodModule, SourceConfig
from foveate.core.registry import ModuleRegistry, nearest
from foveate.core.types import Dataclass, Dimension, FoveateError, Size
from foveate.data.catalogue import SOURCES, build_source, source_config
from foveate.data.index import PROFILE, complete_entries, is_prepared
from foveate.data.profiles import PrepareConfig, from_json
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig
from foveate.train.optim import OptimConfig

METHODS: ModuleRegistry[MethodModule] = ModuleRegistry("method", "foveate.methods", "foveate.methods")
SWITCHES = ("help", "print_config", "dry_run")
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
    *("strategy", "activation_checkpointing", *SHARES),
    *("health_every", "probe", "probe_every", "loggers"),
)

SCRATCH = "none"  # --init of a fine-tuning from random weights
# Where images, lists and runs are, which run.yaml does not repeat: folders may be named after people.
PATHS = ("data", "out", "init", "probe", "split", "split.source", "split.save_as")
OWN_PATHS = "private/paths.yaml"  # in a run folder, readable by its owner alone


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """What every run of the training loop says; abstract, its leaves add what is trained.

    Attributes:
        data: Folder of scans or pictures, or one file, as `source` says; or a cache of `foveate prepare`.
        out: Run folder; the same command again resumes.
        dimension: 2 or 3; found from the files where it is not said.
        size: "paper" for published sizes, "small" for CPUs, tests and first tries.
        steps: Optimizer steps of the whole run; a larger number continues a finished run.
        batch_size: Samples per step, process and micro-batch.
        accumulate: Micro-batches per optimizer step.
        seed: Of every random draw.
        init: Run folder or weights file to start from; empty: random weights.
        min_transfer: Share of the encoder's parameters that `init` must fill, else the run stops.
        num_workers: Processes that read and sample views.
        accelerator: Where to compute.
        devices: Processes per machine, one per device.
        num_nodes: Machines.
        strategy: How processes share the work: "ddp" has the whole network on each, "fsdp" is not there yet.
        sync_batchnorm: Whether batch norm takes its statistics over all processes; on GPUs only.
        activation_checkpointing: Compute the maps inside encoder and decoder blocks twice instead of keeping
            them: less memory, about a third more time.
        precision: Arithmetic of the forward pass.
        log_every: Steps between lines of metrics.jsonl.
        save_every: Steps between checkpoints.
        preview_every: Steps between preview pictures.
        keep_checkpoints: How many of the newest checkpoints stay.
        source: The layout of the data.
        loggers: Some of tensorboard, mlflow and wandb, separated by commas; all write into the run folder.
        prepare: How the cache is made.
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
    accumulate: int = 1
    seed: int = 0
    init: str = ""
    min_transfer: float = 0.9
    num_workers: int = 1
    accelerator: Literal["cpu", "cuda", "mps"] = "cpu"
    devices: int = 1
    num_nodes: int = 1
    strategy: Literal["ddp", "fsdp"] = "ddp"
    sync_batchnorm: bool = False
    activation_checkpointing: bool = False
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    log_every: int = 10
    save_every: int = 1000
    preview_every: int = 1000
    keep_checkpoints: int = 3
    source: SourceConfig
    loggers: str = ""
    prepare: PrepareConfig
    encoder: EncoderConfig
    decoder: DecoderConfig
    optim: OptimConfig


@final
@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """One pre-training run, complete.

    Attributes:
        health_every: Steps between measurements of health; 0 for none.
        holdout: Images that are set aside, never trained on, to measure health on.
        probe: Folder of masks named like images, or a labels.csv: what a probe of the features learns.
        probe_every: Steps between probes.
        method: The pre-training method.
        split: Folder that `foveate split` wrote: only its train.txt and unlabelled.txt are pre-trained on.
            Empty: all but what the data set itself keeps for validation and test.
    """

    health_every: int = 200
    holdout: int = 0
    probe: str = ""
    probe_every: int = 1000
    method: MethodConfig
    split: str = ""


def default_config(given: Mapping[str, Any]) -> PretrainConfig:
    """The first pass: defaults for the names, the dimension and the size that were given."""
    size = cast(Size, choice("size", given.get("size", "paper"), ("small", "paper")))
    dimension = found_dimension(given)
    row = table(dimension, size)
    method = method_defaults(given, dimension, size)
    name = str(given.get("encoder.name", row.encoder))
    entry = encoder_entry(name, dimension)
    norm = cast(Any, str(given.get("encoder.norm", "batch")))
    accelerated = torch.cuda.is_available()
    return PretrainConfig(
        data="",
        out="",
        dimension=dimension,
        size=size,
        steps=row.steps,
        batch_size=row.batch_size,
        accelerator="cuda" if accelerated else "cpu",
        precision="bf16-mixed" if accelerated else "32-true",
        source=SOURCES[str(given.get("source.name", "folder"))].Config(),
        prepare=found_prepare(given),
        method=method,
        encoder=entry.config(name=name, width=entry.widths.get(size, row.width)),
        decoder=DecoderConfig(skips=method.wants_skips, upsample=entry.upsample, norm=norm),
        optim=OptimConfig(name=cast(Any, row.optimizer), lr=row.learning_rate, warmup_steps=row.warmup_steps),
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


def method_defaults(given: Mapping[str, Any], dimension: Dimension, size: Size) -> MethodConfig:
    """The Config of the method that was named, around that of its base where it wraps one."""
    name = str(given.get("method.name", "pcrlv2"))
    config = METHODS[name].Config.preset(dimension, size)
    if not config.default_base:
        return config
    inner = str(given.get("method.base.name", config.default_base))
    accepted = base_names()
    if inner not in accepted:
        raise FoveateError(f"--method.base {inner}: accepted for {name} are {', '.join(accepted)}.")
    return config.around(METHODS[inner].Config.preset(dimension, size))


def base_names() -> list[str]:
    """Methods that another can be put around: those that wrap none themselves."""
    every = METHODS.others("")  # a package that cannot be loaded must not stop the rest
    return [name for name, method in every.items() if not method.Config.default_base]


def choice(key: str, value: object, accepted: tuple[str, ...]) -> str:
    """A value of the first pass, checked by hand because no parser exists yet."""
    if str(value) not in accepted:
        raise FoveateError(f"--{key} {value}: accepted are {', '.join(accepted)}.")
    return str(value)


def found_dimension(given: Mapping[str, Any]) -> Dimension:
    """2 or 3: as said, else as the files of `data` say."""
    if "dimension" in given:
        return cast(Dimension, int(choice("dimension", given["dimension"], ("2", "3"))))
    if given.get("data"):
        if is_prepared(Path(str(given["data"]))):
            return cast(Dimension, len(complete_entries(Path(str(given["data"])))[0].shape) - 1)
        return build_source(source_config(given)).dimension(Path(str(given["data"])))
    raise FoveateError("Say --data FOLDER, from which 2D or 3D is found out, or --dimension 2 or 3.")


def found_prepare(given: Mapping[str, Any]) -> PrepareConfig:
    """How the cache is made: the default, or what a cache that was given as `data` says of itself."""
    data = Path(str(given.get("data", "")))
    if given.get("data") and is_prepared(data):
        return from_json((data / PROFILE).read_text(), data)
    return PrepareConfig()


def resolve(yaml_keys: parsing.Nested, flags: Mapping[str, str], verb: str = "pretrain") -> PretrainConfig:
    """Both passes: the complete configuration of a run of this verb, every key and value checked."""
    given = {**dict(parsing.flatten(yaml_keys)), **flags}
    defaults = default_config(given)
    others: dict[str, Mapping[str, type[Dataclass]]] = {
        "method": {name: each.Config for name, each in METHODS.others(defaults.method.name).items()},
        "source": {name: each.Config for name, each in SOURCES.others(defaults.source.name).items()},
        "encoder": {name: each.config for name, each in ENCODERS.others(defaults.encoder.name).items()},
    }
    if base := defaults.method.wrapped:
        others["method.base"] = {n: METHODS[n].Config for n in base_names() if n != base.name}
    parsing.check_keys(given, defaults, others, verb=verb)
    return parsing.parse(defaults, yaml_keys, flags)


def recipe_path(name: str) -> Path:
    """The YAML of a recipe inside the package, by file name."""
    root = Path(str(files("foveate") / "recipes"))
    known = {path.stem: path for path in sorted(root.rglob("*.yaml"))}
    stem = Path(name).stem
    if stem not in known:
        hint = nearest(stem, list(known))
        raise FoveateError(f"--recipe {name}: no such recipe{hint}. Accepted: {', '.join(known)}.")
    return known[stem]


def layers(flags: dict[str, str]) -> tuple[parsing.Nested, dict[str, str]]:
    """Recipe and config file, the latter on top, and the flags that remain."""
    flags = dict(flags)
    merged: dict[str, Any] = {}
    if recipe := flags.pop("recipe", ""):
        merged |= dict(parsing.flatten(parsing.read_yaml(recipe_path(recipe))))
    if config := flags.pop("config", ""):
        merged |= dict(parsing.flatten(parsing.read_yaml(Path(config))))
        own = own_paths(Path(config))
        own |= {"out": str(Path(config).parent)} if own else {}  # a folder that was moved is where it is
        merged |= {key: path for key, path in own.items() if not merged.get(key)}
    return parsing.nest(merged), flags


def own_paths(file: Path) -> parsing.Nested:
    """Paths, under dotted keys, of the run whose run.yaml is given, if this is its folder and its owner."""
    paths = file.parent / OWN_PATHS
    here = file.name == "run.yaml" and os.access(paths, os.R_OK)
    return dict(parsing.read_yaml(paths)) if here else {}


def from_keys(keys: Mapping[str, Any]) -> PretrainConfig:
    """The configuration that keyword arguments of `foveate.pretrain` describe."""
    return resolve(yaml_of(keys), {})


def yaml_of(keys: Mapping[str, Any]) -> parsing.Nested:
    """Keyword arguments, on top of the recipe and the file that they name, as a YAML would have them."""
    files_named = {name: str(keys[name]) for name in ("recipe", "config") if keys.get(name)}
    base, _ = layers(files_named)
    own = parsing.spelled_out({k: v for k, v in keys.items() if k not in files_named})
    return parsing.nest({**dict(parsing.flatten(base)), **dict(parsing.flatten(own))})


def require(config: PretrainConfig) -> None:
    """What a run cannot do without."""
    for key in ("data", "out"):
        if not getattr(config, key):
            raise FoveateError(f"--{key} is missing; write `foveate pretrain --data FOLDER --out RUN`.")


def help_page(yaml_keys: parsing.Nested, flags: Mapping[str, str]) -> str:
    """All keys of the run that the given names describe."""
    given = {**dict(parsing.flatten(yaml_keys)), **flags}
    told = given if "dimension" in given or given.get("data") else {**given, "dimension": 3}
    config = default_config(told)
    return (
        "foveate pretrain --data FOLDER --out RUN [--method NAME] [--size small] [--KEY VALUE ...]\n\n"
        f"Shown for --method {config.method.name}, --encoder {config.encoder.name}, --dimension "
        f"{config.dimension}, --size {config.size}; name others to see theirs.\n"
        f"{parsing.help_list('methods', METHODS)}\n{parsing.help_list('encoders', ENCODERS)}\n"
        f"{parsing.help_list('sources', SOURCES)}\n\n"
        "  --recipe NAME    a complete run that ships with foveate\n"
        "  --config FILE    a YAML of keys, such as the run.yaml of an earlier run\n"
        "  --print_config   print the complete YAML and stop\n"
        "  --dry_run        build everything, do one step, say what would happen\n\n"
        f"{parsing.help_text(config, ['dimension'])}"
    )


def list_methods() -> str:
    """Every method with the first line of its page, what it looks at and what it leaves behind."""
    rows = []
    for name, method in sorted(METHODS.others("").items()):
        first = (method.__doc__ or "not described").strip().splitlines()[0]
        preset = method_defaults({"method.name": name}, 3, "paper")
        needs = [f"{spec.count} {crop} of {list(spec.grid)}" for crop, spec in preset.crops.items()]
        exports = " and ".join(preset.exports)
        rows += [f"{name:<22}{first}", f"{'':<22}views in 3D: {', '.join(needs)}; exports: {exports}"]
    broken = [name for name in METHODS if name not in METHODS.others("")]
    rows += [f"{name:<22}cannot be loaded; --method {name} says why" for name in broken]
    return "\n".join(rows)

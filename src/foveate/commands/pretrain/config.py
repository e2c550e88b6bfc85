"""The configuration of a pre-training run: its keys, and how the first pass finds their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, final

from foveate.core import key_help
from foveate.core.contracts import MethodConfig
from foveate.core.dims import defaults as table
from foveate.core.types import Dataclass, FoveateError, Size
from foveate.data.catalogue import SOURCES
from foveate.data.named_sets import weights_of
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig
from foveate.runtime.command import Alternatives, Given, Spec
from foveate.runtime.config import (
    RunConfig,
    check_counts,
    check_window,
    choice,
    encoder_entry,
    found_dimension,
    found_prepare,
    not_counted,
    with_window,
)
from foveate.runtime.precision import accelerator_of, devices_of, usual_precision
from foveate.runtime.registries import METHODS, base_names, method_defaults
from foveate.runtime.resources.cpus import usual_workers
from foveate.train.optim import OptimConfig


@final
@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig):
    """One pre-training run, complete.

    Attributes:
        health_every: Steps between health measurements, of which the last is at the end; 0: none.
        holdout: Number of images that are held out of training, to measure health on.
        probe: Labels for a probe of the features: a folder of masks named like the images, or a labels.csv.
        probe_every: Steps between probes.
        method: The pre-training method.
        split: Folder written by `foveate split`: only its train.txt and unlabelled.txt are used. Empty: all
            images except the data set's own validation and test images.
        sets: Names and weights of the data sets in `data`, which sets it; empty: there is one.
    """

    health_every: int = 200
    holdout: int = 0
    probe: str = ""
    probe_every: int = 1000
    method: MethodConfig
    split: str = ""
    sets: str = ""


def default_config(given: Mapping[str, Any]) -> PretrainConfig:
    """The first pass: defaults for the names, the dimension and the size that were given."""
    size = cast(Size, choice("size", given.get("size", "paper"), ("small", "paper")))
    dimension = found_dimension(given)
    row = table(dimension, size)
    method = method_defaults(given, dimension, size)
    name = str(given.get("encoder.name", row.encoder))
    entry = encoder_entry(name, dimension)
    norm = cast(Any, str(given.get("encoder.norm", "batch")))
    accelerator = accelerator_of(given)
    return PretrainConfig(
        data="",
        out="",
        dimension=dimension,
        size=size,
        steps=row.steps,
        batch_size=row.batch_size,
        accelerator=accelerator,
        precision=usual_precision(accelerator),
        num_workers=usual_workers(accelerator, devices_of(given)),
        source=SOURCES[str(given.get("source.name", "folder"))].Config(),
        prepare=with_window(found_prepare(given), given),
        method=method,
        encoder=entry.config(name=name, width=entry.widths.get(size, row.width)),
        decoder=DecoderConfig(skips=method.wants_skips, upsample=entry.upsample, norm=norm),
        optim=OptimConfig(name=cast(Any, row.optimizer), lr=row.learning_rate, warmup_steps=row.warmup_steps),
        sets=weights_of(str(given.get("data", ""))),
    )


def check(config: PretrainConfig, defaults: PretrainConfig) -> None:
    """Refuse numbers that make no run, and what contradicts several data sets in `data`."""
    check_counts(config, probe_every=config.probe_every)
    check_window(config.prepare, config.method.normalisation)
    if config.health_every < 0:
        raise not_counted("health_every", config.health_every)
    if config.data and config.sets != defaults.sets:
        raise FoveateError(
            f"--sets {config.sets}: --data says {defaults.sets or 'one data set'}; omit --sets, and give "
            "weights in --data."
        )
    if config.sets and config.split:
        raise FoveateError(
            f"--split {config.split}: its lists are of one data set, and --data names several; accepted: "
            "caches of `foveate prepare --split` in --data."
        )


def alternatives(config: PretrainConfig) -> Alternatives:
    """Configs of the methods, sources and encoders that were not chosen."""
    others: dict[str, Mapping[str, type[Dataclass]]] = {
        "method": {name: each.Config for name, each in METHODS.others(config.method.name).items()},
        "source": {name: each.Config for name, each in SOURCES.others(config.source.name).items()},
        "encoder": {name: each.config for name, each in ENCODERS.others(config.encoder.name).items()},
    }
    if base := config.method.wrapped:
        others["method.base"] = {n: METHODS[n].Config for n in base_names() if n != base.name}
    return others


def shown(given: Given) -> Given:
    """What `--help` shows where neither images nor a dimension are named."""
    return given if "dimension" in given or given.get("data") else {**given, "dimension": 3}


def note(config: PretrainConfig) -> str:
    """What `--help` says before the keys."""
    return (
        f"Shown for --method {config.method.name}, --encoder {config.encoder.name}, --dimension "
        f"{config.dimension}, --size {config.size}; name others to see theirs.\n"
        f"{key_help.help_list('methods', METHODS)}\n{key_help.help_list('encoders', ENCODERS)}\n"
        f"{key_help.help_list('sources', SOURCES)}"
    )


SPEC = Spec(
    name="pretrain",
    defaults=default_config,
    required={"data": "FOLDER", "out": "RUN"},
    alternatives=alternatives,
    check=check,
    recipes=True,
    shown=shown,
    note=note,
    found=("dimension",),
    often=(
        "data",
        "out",
        "method.name",
        "size",
        "steps",
        "batch_size",
        "encoder.name",
        "init",
        "split",
        "accelerator",
        "devices",
    ),
    examples=(
        "foveate pretrain --data SCANS --out RUN --size small              # a first try on a CPU",
        "foveate pretrain --data SCANS --out RUN --method foveate --steps 20000",
        "foveate pretrain --data SCANS --out RUN --recipe pcrlv2_luna16    # a published run",
        "foveate pretrain --data SCANS --out RUN --split LISTS             # never sees the test images",
    ),
)

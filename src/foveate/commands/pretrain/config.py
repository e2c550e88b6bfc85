"""The configuration of a pre-training run: what can be said, and how the first pass finds the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, final

import torch

from foveate.core import config as parsing
from foveate.core.dims import defaults as table
from foveate.core.types import FoveateError, Size
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders import ENCODERS
from foveate.nets.pyramid import DecoderConfig
from foveate.runtime.config import RunConfig, choice, encoder_entry, found_dimension, found_prepare, yaml_of
from foveate.runtime.registries import METHODS, base_names, method_defaults
from foveate.train.optim import OptimConfig


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
    method: Any
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
        decoder=DecoderConfig(skips=getattr(method, "skips", False), upsample=entry.upsample, norm=norm),
        optim=OptimConfig(name=cast(Any, row.optimizer), lr=row.learning_rate, warmup_steps=row.warmup_steps),
    )


def resolve(yaml_keys: parsing.Nested, flags: Mapping[str, str], verb: str = "pretrain") -> PretrainConfig:
    """Both passes: the complete configuration of a run of this verb, every key and value checked."""
    given = {**dict(parsing.flatten(yaml_keys)), **flags}
    defaults = default_config(given)
    others = {
        "method": {name: each.Config for name, each in METHODS.others(defaults.method.name).items()},
        "source": {name: each.Config for name, each in SOURCES.others(defaults.source.name).items()},
        "encoder": {name: each.config for name, each in ENCODERS.others(defaults.encoder.name).items()},
    }
    if base := getattr(defaults.method, "base", None):
        others["method.base"] = {n: METHODS[n].Config for n in base_names() if n != base.name}
    parsing.check_keys(given, defaults, others, verb=verb)
    return parsing.parse(defaults, yaml_keys, flags)


def from_keys(keys: Mapping[str, Any]) -> PretrainConfig:
    """The configuration that keyword arguments of `foveate.pretrain` describe."""
    return resolve(yaml_of(keys), {})


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

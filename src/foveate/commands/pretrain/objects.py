"""Pre-training from objects of Python: a data set of arrays, an encoder that is a torch module."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import cast

from torch import nn

from foveate.commands.pretrain.config import SPEC, PretrainConfig
from foveate.commands.pretrain.run import pretrain
from foveate.core.dims import LAYERS
from foveate.core.types import Dimension, Ending, FoveateError, Json
from foveate.data.arrays import ArrayDataset, volume_of, write_arrays
from foveate.data.cache.profiles import as_json
from foveate.data.salts import CACHES
from foveate.nets.encoders.catalogue import MODULE
from foveate.nets.encoders.given import described, given
from foveate.nets.weights import store as weights
from foveate.train.logging import say
from foveate.train.progress import progress

MODULE_PREFIX = "encoder.module."  # of the module's own names in a weights file


def pretrain_from(
    data: str | Path | ArrayDataset,
    out: str | Path,
    encoder: nn.Module | Json,
    keys: Mapping[str, Json | Path],
) -> Ending:
    """Pre-train on a folder or a data set, with an encoder by name or a module, which is trained in place."""
    given_keys: dict[str, Json | Path] = {"data": "", "out": str(out), **keys}
    if isinstance(data, str | Path):
        given_keys["data"] = str(data)
    else:
        given_keys = {"dimension": dimension_of(data), **given_keys}
        given_keys["data"] = str(cached(data, SPEC.from_keys({**given_keys, "data": "arrays"})))
    if not isinstance(encoder, nn.Module):
        named = {} if encoder is None else {"encoder": encoder}
        return pretrain(SPEC.from_keys({**given_keys, **named}))
    return with_module(encoder, given_keys)


def with_module(module: nn.Module, keys: dict[str, Json | Path]) -> Ending:
    """Pre-train, and put the weights into the module at the end."""
    dimension = SPEC.from_keys(keys).dimension
    found = described(module, dimension, channels_of(module, dimension))
    said: dict[str, Json] = {
        "name": MODULE,
        "in_channels": found.in_channels,
        "width": found.width,
        "channels": list(found.channels),
        "strides": list(found.strides),
    }
    with ExitStack() as held:
        held.enter_context(given(module))
        config = SPEC.from_keys({**keys, "encoder": said})
        if config.devices * config.num_nodes > 1:
            raise FoveateError("--devices: an encoder that is a torch module is trained by one process.")
        ending = pretrain(config)
        if ending is Ending.FINISHED:
            tensors, _ = weights.read(config.out)
            own = {
                n.removeprefix(MODULE_PREFIX): t for n, t in tensors.items() if n.startswith(MODULE_PREFIX)
            }
            module.load_state_dict(own, strict=True)
    return ending


def channels_of(module: nn.Module, dimension: Dimension) -> int:
    """Image channels that a module reads: those of its first convolution."""
    kind = LAYERS[dimension].conv
    return next((m.in_channels for m in module.modules() if isinstance(m, kind)), 1)


def dimension_of(data: ArrayDataset) -> Dimension:
    """That of the first image."""
    if not len(data):
        raise FoveateError("data holds no image; accepted: at least one.")
    return cast(Dimension, len(volume_of(data[0], 0).spacing_mm))


def cached(data: ArrayDataset, config: PretrainConfig) -> Path:
    """The data set as a cache beside the run, brought up to date."""
    out = Path(config.out).absolute()
    digest = blake2b(f"arrays of {out.name}|{as_json(config.prepare)}".encode(), digest_size=6).hexdigest()
    cache = out.parent / CACHES / digest
    with progress("preparing the cache", len(data)) as show:
        rejects = write_arrays(data, cache, config.prepare, show)
    for reason in rejects:
        say(f"excluded: {reason}")
    return cache

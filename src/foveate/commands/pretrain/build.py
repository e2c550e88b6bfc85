"""A method on its network, from the configuration of a run."""

from __future__ import annotations

import torch

from foveate.commands.pretrain.config import PretrainConfig
from foveate.core.contracts import Method, MethodConfig, Trainable
from foveate.core.networks import Network
from foveate.core.rng import key
from foveate.core.types import FoveateError
from foveate.nets.pyramid import Pyramid, build_pyramid
from foveate.runtime.config import RunConfig
from foveate.runtime.processes import settle
from foveate.runtime.registries import METHODS


def build_method(config: PretrainConfig) -> Method:
    """The method on its network; initial weights are a draw of the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(key(config.seed, "initial weights") >> 1)
        net = build_pyramid(config.encoder, config.decoder, config.dimension)
        method = build_on(net, config.method)
    check_views(config, method, net)
    settle(method, config)
    return method


def build_on(net: Network, config: MethodConfig) -> Method:
    """A method on a network; a wrapping one gets `build_on` to build its base: no method imports another."""
    build = METHODS[config.name].build
    return build(net, config, build_on) if config.wrapped else build(net, config)


def check_views(config: RunConfig, method: Trainable, net: Pyramid) -> None:
    """Refuse views that are no multiple of the network's stride, and batches of one sample."""
    for name, spec in method.crops.items():
        if len(spec.grid) != config.dimension or any(n % net.stride for n in spec.grid):
            raise FoveateError(
                f"method.{name}_crops.grid {list(spec.grid)}: accepted are {config.dimension} multiples of "
                f"{net.stride}, the coarsest stride of --encoder {config.encoder.name}."
            )
    if config.batch_size < 2:
        raise FoveateError(f"--batch_size {config.batch_size}: batch statistics need at least 2 samples.")

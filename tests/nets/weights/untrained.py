"""Runs without a training: random weights with a card."""

import torch

from foveate.core import config as parsing
from foveate.core.dims import LAYERS
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights import store as weights


def card_of(dimension, config, **more):
    """A card as pre-training writes it."""
    return {
        "format": weights.FORMAT,
        "foveate": "0.1.0",
        "commit": "not a checkout",
        "dimension": dimension,
        "axis_order": LAYERS[dimension].axis_order,
        "in_channels": config.in_channels,
        "intensity": {"window": "percentiles", "percentiles": [0.5, 99.5]},
        "normalisation": "zscore",
        "spacing_mm": [0.5, 1.0, 2.5][:dimension],
        "method": {"name": "pcrlv2"},
        "citation": "Somebody et al.",
        "encoder": parsing.to_mapping(config),
        "decoder": None,
        "steps": 10,
        "images": 7,
        "patients": 5,
        "input": {"modalities": {"ct": 0.75, "mr": 0.25}, "spacing_mm": [[0.5, 1, 1, 2, 3.0]] * dimension},
        "weights_licence": "not stated",
        "data_licence": "CC BY 4.0",
        "data_hash": "0123abcd",
        **more,
    }


def write_run(folder, dimension, name, *, card=None, **keys):
    """A run folder with an encoder of random weights and statistics."""
    torch.manual_seed(0)
    config = ENCODERS[name].config(**{"name": name, **keys})
    encoder = ENCODERS[name].build(config, dimension)
    for tensor_name, tensor in encoder.state_dict().items():
        if tensor_name.endswith("running_mean"):
            tensor.uniform_(-0.2, 0.2)
        elif tensor_name.endswith("running_var"):
            tensor.uniform_(0.5, 1.5)
    weights.save({"encoder": encoder}, card_of(dimension, config, **(card or {})), folder / "exported")
    return folder


def ramp(*sizes, batch=1, channels=1):
    """Images in [0, 1] that differ along every axis, and between the two ends of each."""
    image = torch.zeros(batch, channels, *sizes)
    for axis, size in enumerate(sizes):
        along = torch.linspace(0, 1, size) ** (axis + 1)
        image += along.reshape([-1 if i == axis + 2 else 1 for i in range(image.ndim)]) / 2**axis
    image += 0.1 * torch.arange(batch * channels).reshape(batch, channels, *[1] * len(sizes))
    return image / image.max()

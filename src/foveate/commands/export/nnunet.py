"""nnU-Net: the encoder inside a whole ResidualEncoderUNet, for both ways that nnU-Net starts from weights."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import UNIT, Source
from foveate.core.types import FoveateError
from foveate.nets.encoders.resenc import SLOPE, ResEncConfig
from foveate.nets.weights.adapt import reversed_axes
from foveate.nets.weights.card import Card, encoder_config

ADAPTED, WHOLE, ARCHITECTURE, README = "adapt.pth", "full.pth", "architecture.json", "README.txt"
PLANS = "plans.py"
FILES = (ADAPTED, WHOLE, ARCHITECTURE, PLANS, README)
CLASS = "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
NAME = "ResidualEncoderUNet"
IMPORTED = ["conv_op", "norm_op", "dropout_op", "nonlin"]
RENAMED = {"conv1": "conv1", "conv2": "conv2", "norm1": "conv1", "norm2": "conv2"}


def write_nnunet(source: Source, _config: ExportConfig, path: Path) -> list[str]:
    """Weights for either way, the network's description, and the commands."""
    found = encoder_config(source.card)
    if not isinstance(found, ResEncConfig) or source.is_flat or found.norm != "instance":
        raise FoveateError(
            f"--format nnunet: the encoder is {found.name} in {source.dimension}D; accepted: resenc in 3D "
            "with instance norm."
        )
    arguments = architecture(found, source.dimension)
    encoder = dict(encoder_state(source))
    whole = {**encoder, **dict(decoder_state(found))}
    whole |= {f"decoder.encoder.{name.removeprefix('encoder.')}": t for name, t in encoder.items()}
    path.mkdir()
    torch.save({"network_weights": whole}, path / WHOLE)
    torch.save(adaptation(source, found, arguments, encoder), path / ADAPTED)
    said = {"network_class_name": CLASS, "arch_kwargs": arguments, "_kw_requires_import": IMPORTED}
    (path / ARCHITECTURE).write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
    script = files("foveate.commands.export").joinpath("their_plans.py").read_text(encoding="utf-8")
    (path / PLANS).write_text(script, encoding="utf-8")
    lines = commands(source, found)
    (path / README).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def architecture(found: ResEncConfig, dimension: int) -> dict[str, Any]:
    """Arguments of nnU-Net's network, written out."""
    stages = len(found.blocks)
    kind = f"{dimension}d"
    return {
        "n_stages": stages,
        "features_per_stage": [min(found.width * 2**i, found.widest) for i in range(stages)],
        "conv_op": f"torch.nn.modules.conv.Conv{kind}",
        "kernel_sizes": [[3] * dimension for _ in range(stages)],
        "strides": [[2 if i else 1] * dimension for i in range(stages)],
        "n_blocks_per_stage": list(found.blocks),
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": f"torch.nn.modules.instancenorm.InstanceNorm{kind}",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True, "negative_slope": SLOPE},
    }


def encoder_state(source: Source) -> Iterator[tuple[str, Tensor]]:
    """The encoder under nnU-Net's names, every layer under both of its names; axes (z, y, x)."""
    for name, tensor in source.encoder.state_dict().items():
        parts = name.split(".")
        layer, kind = their_layer(parts)
        for alias in aliases(kind):
            turned = reversed_axes(tensor).detach().cpu().contiguous().clone()
            yield f"encoder.{layer}.{alias}.{parts[-1]}", turned


def their_layer(parts: list[str]) -> tuple[str, str]:
    """nnU-Net's layer for one of our names, and whether it is the convolution or the norm of it.

    >>> their_layer("stages.1.0.shortcut.0.weight".split("."))
    ('stages.1.blocks.0.skip.1', 'conv')
    """
    if parts[0] == "stem":
        return "stem.convs.0", "norm" if parts[1] == "1" else "conv"
    _, stage, block, layer, *rest = parts
    if layer == "shortcut":  # after the pooling
        return f"stages.{stage}.blocks.{block}.skip.1", "norm" if rest[0] == "1" else "conv"
    return f"stages.{stage}.blocks.{block}.{RENAMED[layer]}", layer[:4]


def aliases(kind: str) -> tuple[str, str]:
    """Both names that nnU-Net registers a layer under."""
    return kind, f"all_modules.{0 if kind == 'conv' else 1}"


def decoder_state(found: ResEncConfig) -> Iterator[tuple[str, Tensor]]:
    """A fresh decoder, as nnU-Net draws it, from one seed: only complete files are accepted."""
    widths = [min(found.width * 2**i, found.widest) for i in range(len(found.blocks))]
    generator = torch.Generator().manual_seed(0)
    for s, (below, skip) in enumerate(zip(widths[:0:-1], widths[-2::-1], strict=True)):
        shapes = {
            f"transpconvs.{s}": (below, skip, 2, 2, 2),
            f"stages.{s}.convs.0": (skip, 2 * skip, 3, 3, 3),
        }
        for layer, shape in shapes.items():
            weight = torch.empty(shape)
            nn.init.kaiming_normal_(weight, a=SLOPE, generator=generator)
            own = {"weight": weight, "bias": torch.zeros(skip)}
            for name, tensor in own.items():
                if layer.startswith("transpconvs"):
                    yield f"decoder.{layer}.{name}", tensor
                    continue
                norm = torch.ones(skip) if name == "weight" else torch.zeros(skip)
                for kind, values in (("conv", tensor), ("norm", norm)):
                    for alias in aliases(kind):
                        yield f"decoder.{layer}.{alias}.{name}", values.clone()


def adaptation(
    source: Source, found: ResEncConfig, arguments: Mapping[str, Any], encoder: Mapping[str, Tensor]
) -> dict[str, Any]:
    """What `nnUNetv2_train_pretrained` reads; plain types only."""
    card = source.card
    patch = list(reversed(next(iter((card.get("views") or {}).values()), [64] * source.dimension)))
    spacing = list(reversed(card.get("spacing_mm") or [1.0] * source.dimension))
    plan = {"spacing": spacing, "patch_size": patch}
    return {
        "network_weights": dict(encoder),
        "nnssl_adaptation_plan": {
            "architecture_plans": {
                "arch_class_name": NAME,
                "arch_kwargs": dict(arguments),
                "arch_kwargs_requiring_import": IMPORTED,
            },
            "pretrain_plan": {
                "dataset_name": "foveate",
                "plans_name": "foveate",
                "configurations": {"foveate": plan},
            },
            "pretrain_num_input_channels": found.in_channels,
            "recommended_downstream_patchsize": patch,
            "key_to_encoder": "encoder.stages",
            "key_to_stem": "encoder.stem",
            "keys_to_in_proj": ["encoder.stem.convs.0.conv", "encoder.stem.convs.0.all_modules.0"],
            "key_to_lpe": None,
        },
        "architecture_kwargs": dict(arguments),
        "pretrain_patch_size": patch,
        "citations": citations(card),
    }


def citations(card: Card) -> list[dict[str, Any]]:
    """What nnU-Net's log asks its readers to cite."""
    name = (card.get("method") or {}).get("name")
    return [{"type": "method", "name": str(name), "apa_citations": [str(card.get("citation"))]}]


def commands(source: Source, found: ResEncConfig) -> list[str]:
    """How nnU-Net starts from the files."""
    return [
        f"an encoder with {len(found.blocks)} stages and {found.in_channels} image channels for nnU-Net",
        "In this folder, ID being the number of the data set. Released nnU-Net (2.8.1):",
        "  nnUNetv2_plan_and_preprocess -d ID -pl nnUNetPlannerResEncM -c 3d_fullres",
        f"  python {PLANS} ID",
        f"  nnUNetv2_train ID 3d_fullres 0 -p foveatePlans -pretrained_weights {WHOLE}",
        "nnU-Net from git, July 2026 or later, whose commands the released one does not have:",
        f"  nnUNetv2_preprocess_like_nnssl -d ID -n foveate -pc {ADAPTED} -am like_pretrained",
        "  nnUNetv2_train_pretrained ID 3d_fullres 0 -p PLANS",
        "PLANS is the name, without .json, of the file ptPlans__foveate____*.json that the first of these",
        "writes into the folder of the data set below $nnUNet_preprocessed.",
        f"Pre-training read {UNIT} ({source.normalisation}).",
        "nnU-Net's own normalisation differs; training bridges it.",
    ]

"""The folder of a bundle: weights, the Python that it runs, its configuration, and a README."""

from __future__ import annotations

import json
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from foveate.commands.export import hub
from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import UNIT, Source
from foveate.core.tasks import DenseTask
from foveate.core.types import FoveateError
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.profiles import WINDOWS, PrepareConfig, Window, profile_of
from foveate.evaluate.files import mask_suffix
from foveate.evaluate.inference import WindowConfig
from foveate.nets.weights.store import Card
from foveate.runtime.config import from_card
from foveate.runtime.inputs.facts import as_trained, trained_facts

PLAIN = "foveate.commands.export.bundle.plain"
SCRIPTS = ("__init__.py", "encoders.py", "network.py", "images.py")
MODEL, INFERENCE, METADATA, README = (
    "models/model.pt",
    "configs/inference.json",
    "configs/metadata.json",
    "docs/README.md",
)
FILES = (MODEL, INFERENCE, METADATA, README, *(f"scripts/{name}" for name in SCRIPTS))
COMMAND = (
    "python -m monai.bundle run --config_file configs/inference.json --dataset_dir IMAGES --output_dir OUT"
)


def write_bundle(source: Source, config: ExportConfig, path: Path) -> list[str]:
    """A bundle that `monai.bundle run` predicts with."""
    task = segmentation_of(source)
    figures = hub.evaluated(config, source.card)
    for name in FILES:
        (path / name).parent.mkdir(parents=True, exist_ok=True)
    for name in SCRIPTS:
        text = files(PLAIN).joinpath(name).read_text(encoding="utf-8")
        (path / "scripts" / name).write_text(text, encoding="utf-8")
    torch.save(weights_of(source), path / MODEL)
    for name, said in ((INFERENCE, inference(source, task)), (METADATA, metadata(source, task))):
        (path / name).write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    text = hub.readme(source, figures, loading())
    (path / README).write_text(text, encoding="utf-8")
    return [
        f"a MONAI bundle that segments {', '.join(task.class_names)}; it needs MONAI, fire and nibabel "
        "(pictures: Pillow) and no foveate",
        f"Next: cd {path.name}; {COMMAND}",
        "It does not refuse images that are unlike those of training, as `foveate predict` does.",
    ]


def segmentation_of(source: Source) -> DenseTask:
    """The task, which must be one that the bundle's own steps can do."""
    card, task = source.card, source.task
    if not isinstance(task, DenseTask):
        raise FoveateError("--format monai-bundle: RUN makes no masks; accepted: runs of segmentation.")
    prepare, depth = from_card(PrepareConfig, card["intensity"]), depth_of(card)
    differs = {
        f"prepare.spacing_mm {prepare.spacing_mm}": prepare.spacing_mm != "native",
        f"prepare.foreground {prepare.foreground}": prepare.foreground != "keep",
        f"{card['in_channels']} channels": card["in_channels"] != depth,
    }
    if wrong := [what for what, is_so in differs.items() if is_so]:
        raise FoveateError(
            f"--format monai-bundle: RUN has {', '.join(wrong)}; accepted: images of one channel, seen whole "
            "in their own voxel size. --format onnx and torch-export take any."
        )
    return task


def depth_of(card: Card) -> int:
    """Slices that the network sees at once."""
    said = card.get("slices")
    return 1 if said is None else 1 + 2 * from_card(SlicesConfig, said).neighbours


def weights_of(source: Source) -> dict[str, torch.Tensor]:
    """Under the names of the bundle's network; heads of coarser scales served the training alone."""
    finest = max(int(name.split(".")[1]) for name in source.tensors if name.startswith("heads."))
    own = f"heads.{finest}."
    kept = {n: t for n, t in source.tensors.items() if n.startswith(("encoder.", "decoder.", own))}
    return {n.replace(own, "head."): t.detach().cpu().contiguous().clone() for n, t in kept.items()}


def window_of(card: Card) -> Window:
    """Which values read as 0 and 1, for a file that does not say its modality."""
    said = as_trained(from_card(PrepareConfig, card["intensity"]), trained_facts(card, by_voxel=True))
    if said.window == "profile":
        return WINDOWS[profile_of("", said)]
    ends = said.percentiles if said.window == "percentiles" else said.intensity_range
    return Window(kind=said.window, ends=ends)


def inference(source: Source, task: DenseTask) -> dict[str, Any]:
    """What `monai.bundle run` executes."""
    card, window, whole = source.card, window_of(source.card), volumes(source)
    suffix = mask_suffix(3 if whole else source.dimension)
    kind = "int16" if max(task.label_values) > 255 else "uint8"
    turned = (
        [{"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}] if whole else []
    )
    back = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": True,
    }
    steps = [
        {
            "_target_": "LoadImaged",
            "keys": "image",
            "reader": "NibabelReader" if whole else "PILReader",
            "dtype": "$np.float64",
        },
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        *turned,
        {"_target_": "scripts.images.Windowed", "kind": window.kind, "ends": list(window.ends)},
    ]
    written = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "",
        "output_ext": suffix,
        "output_dtype": f"$np.{kind}",
        "separate_folder": False,
        "resample": False,
        "print_log": False,
    }
    decided = {
        "_target_": "scripts.images.Decided",
        "values": list(task.label_values),
        "exclusive": task.activation == "softmax",
    }
    return {
        "imports": ["$import glob", "$import os", "$import numpy as np", "$import torch"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "pattern": f"*{suffix}",
        "output_dir": "$@bundle_root + '/eval'",
        "model_path": f"$@bundle_root + '/{MODEL}'",
        "images": "$sorted(glob.glob(os.path.join(@dataset_dir, @pattern)))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": {
            "_target_": "scripts.network.Network",
            "dimension": source.dimension,
            "encoder": card["encoder"],
            "decoder": card["decoder"],
            "classes": len(task.class_names),
            "normalisation": card["normalisation"],
        },
        "network": "$@network_def.to(@device).eval()",
        "preprocessing": {"_target_": "Compose", "transforms": steps},
        "inferer": {
            "_target_": "scripts.images.Windows",
            "patch": list(task.patch),
            "overlap": WindowConfig().overlap,
            "slices": card.get("slices"),
        },
        "postprocessing": {
            "_target_": "Compose",
            "transforms": [decided, *([back] if whole else []), written],
        },
        "predictor": {
            "_target_": "scripts.images.Predictor",
            **{key: f"@{key}" for key in ("images", "network", "device")},
            **{key: f"@{key}" for key in ("preprocessing", "inferer", "postprocessing")},
        },
        "initialize": [
            "$@network.load_state_dict("
            "torch.load(@model_path, map_location=@device, weights_only=True), strict=True)"
        ],
        "run": ["$@predictor.run()"],
    }


def volumes(source: Source) -> bool:
    """Whether the images are volumes, seen as such or slice by slice."""
    return not source.is_flat or source.card.get("slices") is not None


def metadata(source: Source, task: DenseTask) -> dict[str, Any]:
    """What MONAI's tools read about a bundle, with foveate's card."""
    card, classes = source.card, dict(enumerate(task.class_names))
    known = {str(number): name for number, name in classes.items()}
    shape = list(task.patch)
    array = {"type": "image", "dtype": "float32", "is_patch_data": True, "spatial_shape": shape}
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported by foveate"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"fire": "0.7", "nibabel": version("nibabel")},
        "name": f"foveate segmentation of {', '.join(task.class_names)}",
        "task": "segmentation",
        "description": f"A {card['encoder']['name']} network for {source.dimension}D images.",
        "intended_use": hub.INTENDED,
        "data_source": f"{card.get('images')} images, licence: {card.get('data_licence')}",
        "copyright": f"licence of the weights: {card.get('weights_licence')}",
        "references": [str(card.get("citation"))],
        "network_data_format": {
            "inputs": {
                "image": {
                    **array,
                    "format": "magnitude",
                    "num_channels": card["in_channels"],
                    "value_range": [0, 1],
                    "channel_def": {"0": "image"},
                    "description": f"{card['axis_order']}, {UNIT}",
                }
            },
            "outputs": {
                "pred": {
                    **array,
                    "format": "segmentation",
                    "num_channels": len(known),
                    "value_range": [],
                    "channel_def": known,
                    "description": f"before {task.activation}",
                }
            },
        },
        "label_values": dict(zip(task.class_names, task.label_values, strict=True)),
        "foveate_card": card,
    }


def loading() -> list[str]:
    """How the bundle is run."""
    return [
        "```",
        "pip install monai fire nibabel",
        COMMAND,
        "```",
        "",
        "run in this folder. `--pattern` says which files of IMAGES are images. The network is "
        "`scripts.network.Network` with the arguments in configs/inference.json.",
    ]

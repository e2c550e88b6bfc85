"""The configuration of a bundle: what `monai.bundle run` does, and what MONAI's tools read about it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from foveate.commands.export import hub
from foveate.commands.export.source import UNIT, Source
from foveate.core.dims import LAYERS
from foveate.core.tasks import DenseTask
from foveate.data.cache.profiles import WINDOWS, PrepareConfig, Window, profile_of
from foveate.nets.weights.store import Card
from foveate.runtime.config import from_card
from foveate.runtime.inputs.facts import as_trained, trained_facts
from foveate.scoring.files import mask_suffix
from foveate.scoring.inference import WindowConfig

MODEL = "models/model.pt"
FIRE = "0.7"  # with which MONAI reads its command line
Step = dict[str, Any]


def window_of(card: Card) -> Window:
    """Which values read as 0 and 1, for a file that does not say its modality."""
    said = as_trained(from_card(PrepareConfig, card["intensity"]), trained_facts(card, by_voxel=True))
    if said.window == "profile":
        return WINDOWS[profile_of("", said)]
    if said.window == "percentiles":
        return Window(kind="percentiles", ends=said.percentiles)
    return Window(kind="range", ends=said.intensity_range)


def inference(source: Source, task: DenseTask) -> dict[str, Any]:
    """What `monai.bundle run` executes."""
    card, whole = source.card, volumes(source)
    parts = ("images", "network", "device", "preprocessing", "inferer", "postprocessing")
    suffix = mask_suffix(max(LAYERS) if whole else source.dimension)
    written = {
        "_target_": "SaveImaged",
        "keys": "pred",
        "output_dir": "@output_dir",
        "output_postfix": "",
        "output_ext": suffix,
        "output_dtype": "$np.int16" if max(task.label_values) > 255 else "$np.uint8",
        "separate_folder": False,
        "resample": False,
        "print_log": False,
    }
    load = "torch.load(@model_path, map_location=@device, weights_only=True)"
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
        "preprocessing": composed(before(card, whole)),
        "inferer": {
            "_target_": "scripts.images.Windows",
            "patch": list(task.patch),
            "overlap": WindowConfig().overlap,
            "slices": card.get("slices"),
        },
        "postprocessing": composed([*after(task, whole), written]),
        "predictor": {"_target_": "scripts.images.Predictor", **{key: f"@{key}" for key in parts}},
        "initialize": [f"$@network.load_state_dict({load}, strict=True)"],
        "run": ["$@predictor.run()"],
    }


def composed(steps: Sequence[Step]) -> Step:
    """Steps one after the other."""
    return {"_target_": "Compose", "transforms": list(steps)}


def before(card: Card, whole: bool) -> list[Step]:
    """From a file to values in [0, 1]; `whole`: of volumes, which are turned to RAS+."""
    reader, window = "NibabelReader" if whole else "PILReader", window_of(card)
    turned = {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS", "labels": None}
    return [
        {"_target_": "LoadImaged", "keys": "image", "reader": reader, "dtype": "$np.float64"},
        {"_target_": "EnsureChannelFirstd", "keys": "image"},
        *([turned] if whole else []),
        {"_target_": "scripts.images.Windowed", "kind": window.kind, "ends": list(window.ends)},
    ]


def after(task: DenseTask, whole: bool) -> list[Step]:
    """From the network's numbers to label values on the grid of the file."""
    exclusive = task.activation == "softmax"
    back = {
        "_target_": "Invertd",
        "keys": "pred",
        "transform": "@preprocessing",
        "orig_keys": "image",
        "nearest_interp": True,
    }
    return [
        {
            "_target_": "scripts.images.Decided",
            "values": list(task.label_values),
            "exclusive": exclusive,
        },
        *([back] if whole else []),
    ]


def volumes(source: Source) -> bool:
    """Whether the images are volumes, seen as such or slice by slice."""
    return not source.is_flat or source.card.get("slices") is not None


def metadata(source: Source, task: DenseTask) -> dict[str, Any]:
    """What MONAI's tools read about a bundle, with foveate's card."""
    card = source.card
    return {
        "version": "0.1.0",
        "changelog": {"0.1.0": "exported by foveate"},
        "monai_version": version("monai"),
        "pytorch_version": version("torch").partition("+")[0],
        "numpy_version": version("numpy"),
        "required_packages_version": {"fire": FIRE, "nibabel": version("nibabel")},
        "name": f"foveate segmentation of {', '.join(task.class_names)}",
        "task": "segmentation",
        "description": f"A {card['encoder']['name']} network for {source.dimension}D images.",
        "intended_use": hub.INTENDED,
        "data_source": f"{card.get('images')} images, licence: {card.get('data_licence')}",
        "copyright": f"licence of the weights: {card.get('weights_licence')}",
        "references": [str(card.get("citation"))],
        "network_data_format": formats(card, task),
        "label_values": dict(zip(task.class_names, task.label_values, strict=True)),
        "foveate_card": card,
    }


def formats(card: Card, task: DenseTask) -> dict[str, Any]:
    """Input and output of the network."""
    classes = {str(number): name for number, name in enumerate(task.class_names)}
    array = {"type": "image", "dtype": "float32", "is_patch_data": True, "spatial_shape": list(task.patch)}
    image = {
        **array,
        "format": "magnitude",
        "num_channels": card["in_channels"],
        "value_range": [0, 1],
        "channel_def": {"0": "image"},
        "description": f"{card['axis_order']}, {UNIT}",
    }
    pred = {
        **array,
        "format": "segmentation",
        "num_channels": len(classes),
        "value_range": [],
        "channel_def": classes,
        "description": f"before {task.activation}",
    }
    return {"inputs": {"image": image}, "outputs": {"pred": pred}}

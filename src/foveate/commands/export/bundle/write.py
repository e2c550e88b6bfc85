"""The folder of a bundle: weights, the Python that it runs, its configuration, and a README."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import torch

from foveate.commands.export import hub
from foveate.commands.export.bundle.configs import MODEL, inference, metadata
from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import Source
from foveate.core.tasks import DenseTask
from foveate.core.types import FoveateError
from foveate.data.cache.planes import SlicesConfig
from foveate.data.cache.profiles import PrepareConfig
from foveate.nets.weights.store import Card
from foveate.runtime.config import from_card

PLAIN = "foveate.commands.export.bundle.plain"
SCRIPTS = ("__init__.py", "encoders.py", "network.py", "images.py")
INFERENCE, METADATA, README = "configs/inference.json", "configs/metadata.json", "docs/README.md"
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
        raise FoveateError(
            "--format monai-bundle: RUN makes no masks, and MONAI has no steps that sample for other answers "
            "as in the training; accepted: runs of segmentation. For others: --format onnx or torch-export."
        )
    prepare, depth = from_card(PrepareConfig, card["intensity"]), depth_of(card)
    differs = {
        f"prepare.spacing_mm {prepare.spacing_mm}": prepare.spacing_mm != "native",
        f"prepare.foreground {prepare.foreground}": prepare.foreground != "keep",
        f"prepare.window {prepare.window}": prepare.window == "foreground",
        f"{card['in_channels']} channels": card["in_channels"] != depth,
    }
    if wrong := [what for what, is_so in differs.items() if is_so]:
        raise FoveateError(
            f"--format monai-bundle: RUN has {', '.join(wrong)}; accepted: images of one channel, seen whole "
            "in their own voxel size, with an intensity window of a range or of percentiles. --format onnx "
            "and torch-export take any."
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

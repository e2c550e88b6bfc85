"""foveate: self-supervised pre-training of medical image models that keeps local detail."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from foveate.commands.embed.features import Embedded
    from foveate.commands.export.config import Format
    from foveate.commands.predict.model import LoadedModel
    from foveate.core.networks import Encoder
    from foveate.core.types import Json
    from foveate.data.arrays import ArrayDataset
    from foveate.nets.weights.transfer import TransferReport

__all__ = [
    "__version__",
    "compare",
    "convert",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "load_encoder",
    "load_model",
    "predict",
    "prepare",
    "pretrain",
    "scan",
    "split",
]
__version__ = version("foveate")


def load_encoder(
    source: str | Path, *, min_transfer: float = 1.0, module: nn.Module | None = None
) -> Encoder:
    """The encoder of a run folder or a weights file: `enc(x)` gives feature maps fine to coarse.

    `hf:owner/name` is a repository of the Hugging Face hub, where huggingface_hub is installed.

    The encoder carries `enc.channels`, `enc.strides`, `enc.card` and `enc.report`, and is in evaluation mode.
    A file that fills less than `min_transfer` of it is refused. Files of others: `foveate convert` first.

    Args:
        source: What to load.
        min_transfer: Share of the encoder that the file must fill.
        module: The same network again, for a run of `pretrain(encoder=MODULE)`; it is copied.
    """
    from foveate.nets.weights import store as weights

    if module is None:
        return weights.load_encoder(source, min_transfer=min_transfer)
    from foveate.nets.encoders.given import given

    with given(module):
        return weights.load_encoder(source, min_transfer=min_transfer)


def pretrain(
    *,
    data: str | Path | ArrayDataset,
    out: str | Path,
    encoder: nn.Module | Json = None,
    **keys: Json | Path,
) -> bool:
    """Pre-train as `foveate pretrain` does; True when the run reached its end.

    Args:
        data: Folder of images; or a map-style data set whose items are (array, spacing in mm).
        out: Run folder; called again, it resumes.
        encoder: Name or keys of an encoder; or any torch module that turns images into feature maps, which
            has the trained weights afterwards. `foveate.nets.encoders.monai.MonaiEncoder` makes one of
            MONAI's networks.
        keys: Any key of the configuration, nested ones as mappings: `size="small", method={"name": "byol"}`.
            `recipe` and `config` name a recipe and a YAML file, as on the command line.
    """
    from foveate.commands.pretrain.objects import pretrain_from as run

    return bool(run(data, out, encoder, keys))


def finetune(*, data: str | Path, out: str | Path, task: str, init: str | Path, **keys: Json | Path) -> bool:
    """Fine-tune as `foveate finetune` does; True when the run reached its end.

    Args:
        data: Folder, table or list of labelled images.
        out: Run folder; called again, it resumes.
        task: "segmentation", "classification", "detection", "candidates" or "localization", or a mapping
            of its keys with its name.
        init: Run folder or weights file to start from, or "none".
        keys: Any key of the configuration, as for `pretrain`.
    """
    from foveate.commands.finetune.config import SPEC
    from foveate.commands.finetune.run import finetune as run

    given = {"data": str(data), "out": str(out), "task": task, "init": str(init), **keys}
    return bool(run(SPEC.from_keys(given)))


def load_model(run: str | Path, *, accelerator: Literal["cpu", "cuda"] = "cpu") -> LoadedModel:
    """A fine-tuned run as a `torch.nn.Module`: `model(images)` gives outputs, `model.predict(...)` answers.

    `predict` takes a file or an array (x, y, z), prepares it as the images of training were, and gives a
    label map on its own grid, or for whole images the values by name.

    Args:
        run: Folder of a fine-tuning run, or its weights file.
        accelerator: Where to compute.
    """
    from foveate.commands.predict.model import LoadedModel

    return LoadedModel(run, accelerator)


def scan(data: str | Path, *, out: str | Path, **keys: Json | Path) -> str:
    """List what a folder holds, as `foveate scan` does; a summary.

    Args:
        data: Folder or image file.
        out: Folder of the inventory.
        keys: Any key of the configuration.
    """
    from foveate.commands.scan.config import SPEC
    from foveate.commands.scan.run import scan as run

    return run(SPEC.from_keys({"data": str(data), "out": str(out), **keys}))


def split(data: str | Path, *, out: str | Path, **keys: Json | Path) -> str:
    """Write patient-grouped splits, as `foveate split` does; a table of the parts.

    Args:
        data: Data set.
        out: Folder of the lists.
        keys: Any key of the configuration: `fractions=[0.1], seed=1`.
    """
    from foveate.commands.split.config import SPEC
    from foveate.commands.split.run import split as run

    return run(SPEC.from_keys({"data": str(data), "out": str(out), **keys}))


def prepare(*, data: str | Path, out: str | Path, **keys: Json | Path) -> int:
    """Decode a folder into a cache, as `foveate prepare` does; how many images it holds.

    Args:
        data: Folder of images.
        out: Folder of the cache; called again, it goes on.
        keys: Any key of the configuration: `prepare={"profile": "ct"}`.
    """
    from foveate.commands.prepare.config import SPEC
    from foveate.commands.prepare.run import prepare as run

    return len(run(SPEC.from_keys({"data": str(data), "out": str(out), **keys})))


def predict(*, run: str | Path, data: str | Path, out: str | Path, **keys: Json | Path) -> bool:
    """Predict files, as `foveate predict` does; True when none failed.

    Args:
        run: Folder of a fine-tuning run, or its weights file.
        data: Folder of images, or one file.
        out: Folder for the results; called again, it goes on.
        keys: Any key of the configuration.
    """
    from foveate.commands.predict.config import SPEC
    from foveate.commands.predict.run import predict as start

    return start(SPEC.from_keys({"run": str(run), "data": str(data), "out": str(out), **keys}))


def evaluate(*, run: str | Path, data: str | Path, out: str | Path, **keys: Json | Path) -> dict[str, Json]:
    """Score a run, as `foveate evaluate` does; the content of its `summary.json`.

    Args:
        run: Folder of a fine-tuning run.
        data: Labelled images.
        out: Folder for the results.
        keys: Any key of the configuration: `part="all"`.
    """
    from foveate.commands.evaluate.config import SPEC
    from foveate.commands.evaluate.run import evaluate as start
    from foveate.core.files import read_json

    start(SPEC.from_keys({"run": str(run), "data": str(data), "out": str(out), **keys}))
    return read_json(Path(out) / "summary.json") or {}


def embed(*, run: str | Path, data: str | Path, out: str | Path, **keys: Json | Path) -> Embedded:
    """Features of images, as `foveate embed` writes them: `found.features` is the table, a row an image.

    Args:
        run: Folder of a run, or its weights file.
        data: Folder of images, or a cache.
        out: Folder for the features; called again, it goes on.
        keys: Any key of the configuration: `suggest=20`.
    """
    from foveate.commands.embed.config import SPEC
    from foveate.commands.embed.run import embed as start

    return start(SPEC.from_keys({"run": str(run), "data": str(data), "out": str(out), **keys}))


def export(run: str | Path, *, format: Format, out: str | Path, **keys: Json | Path) -> list[str]:
    """Write weights for another library, as `foveate export` does; lines on what it is and how to load it.

    Args:
        run: Folder of a run, or its weights file.
        format: For whom: "huggingface", "torchvision", "monai", "nnunet", "onnx" or "torch-export".
        out: What is written.
        keys: Any key of the configuration: `force=True`.
    """
    from foveate.commands.export.config import SPEC
    from foveate.commands.export.run import export as start

    return start(SPEC.from_keys({"run": str(run), "format": format, "out": str(out), **keys}))


def compare(config: str | Path | Mapping[str, Json], *, out: str | Path) -> list[dict[str, str]]:
    """Compare arms as `foveate compare` does; the rows of its `table.csv`.

    Args:
        config: The YAML file of the comparison, or its content as a mapping.
        out: Folder of the comparison; called again, it goes on.
    """
    import csv
    from pkgutil import resolve_name

    from foveate.core.config import read_yaml
    from foveate.core.types import Dataclass
    from foveate.runtime.command import Spec

    spec: Spec[Dataclass] = resolve_name(
        "foveate.commands.compare.config:SPEC"
    )  # by name, as the command line
    if isinstance(config, str | Path):
        found = spec.resolve(read_yaml(Path(config)), {"out": str(out)}, Path(config).parent)
    else:
        found = spec.resolve(dict(config), {"out": str(out)})
    resolve_name("foveate.commands.compare.run:compare")(found)
    with (Path(out) / "table.csv").open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def convert(file: str | Path, *, out: str | Path, **keys: Json | Path) -> TransferReport:
    """Convert weights of another project, as `foveate convert` does; what became of every tensor.

    Args:
        file: Weights file, or a run folder.
        out: The new .safetensors; a card and the report are written beside it.
        keys: Any key of the configuration: `in_channels=1`.
    """
    from foveate.commands.convert.config import SPEC
    from foveate.commands.convert.run import convert as start

    return start(Path(file), SPEC.from_keys({"file": str(file), "out": str(out), **keys}))

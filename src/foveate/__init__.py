"""foveate: self-supervised pre-training of medical image models that keeps local detail."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from foveate.core.networks import Encoder
    from foveate.core.types import Json

__all__ = ["__version__", "finetune", "load_encoder", "pretrain"]
__version__ = version("foveate")


def load_encoder(source: str | Path, *, min_transfer: float = 1.0) -> Encoder:
    """The encoder of a run folder or a weights file: `enc(x)` gives feature maps fine to coarse.

    It carries `enc.channels`, `enc.strides`, `enc.card` and `enc.report`, and is in evaluation mode. A file
    that fills less than `min_transfer` of the encoder is refused. Files of others: `foveate convert` first.
    """
    from foveate.nets.weights import store as weights

    return weights.load_encoder(source, min_transfer=min_transfer)


def pretrain(*, data: str | Path, out: str | Path, **keys: Json | Path) -> bool:
    """Pre-train as `foveate pretrain` does; True when the run reached its end.

    Args:
        data: Folder of images.
        out: Run folder; called again, it resumes.
        keys: Any key of the configuration, nested ones as mappings: `size="small", encoder={"width": 4}`.
            `recipe` and `config` name a recipe and a YAML file, as on the command line.
    """
    from foveate.commands.pretrain.config import SPEC
    from foveate.commands.pretrain.run import pretrain as run

    return bool(run(SPEC.from_keys({"data": str(data), "out": str(out), **keys})))


def finetune(*, data: str | Path, out: str | Path, task: str, init: str | Path, **keys: Json | Path) -> bool:
    """Fine-tune as `foveate finetune` does; True when the run reached its end.

    Args:
        data: Folder, table or list of labelled images.
        out: Run folder; called again, it resumes.
        task: "segmentation" or "classification", or a mapping of its keys with its name.
        init: Run folder or weights file to start from, or "none".
        keys: Any key of the configuration, as for `pretrain`.
    """
    from foveate.commands.finetune.config import SPEC
    from foveate.commands.finetune.run import finetune as run

    given = {"data": str(data), "out": str(out), "task": task, "init": str(init), **keys}
    return bool(run(SPEC.from_keys(given)))

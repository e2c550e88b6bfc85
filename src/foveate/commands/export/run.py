"""`foveate export`: the weights of a run in the form that another library reads, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from foveate.commands.export import graphs, hub, nnunet, state_dicts
from foveate.commands.export.bundle import write as bundle
from foveate.commands.export.config import ExportConfig, Format
from foveate.commands.export.source import Source
from foveate.core.types import Ending, FoveateError
from foveate.nets.weights import store as weights
from foveate.runtime.finetuned import load_task
from foveate.train.logging import say

Writer = Callable[[Source, ExportConfig, Path], list[str]]  # to a new path; what the user should know
WRITERS: dict[Format, Writer] = {
    "huggingface": hub.write_folder,
    "monai": state_dicts.write_monai,
    "monai-bundle": bundle.write_bundle,
    "nnunet": nnunet.write_nnunet,
    "onnx": graphs.write_onnx,
    "torch-export": graphs.write_torch_export,
    "torchvision": state_dicts.write_torchvision,
}
SUFFIXES: dict[Format, tuple[str, ...]] = {  # of a file; none: a folder
    "huggingface": (),
    "monai": (".safetensors", ".pth"),
    "monai-bundle": (),
    "nnunet": (),
    "onnx": (".onnx",),
    "torch-export": (".pt2",),
    "torchvision": (".safetensors", ".pth"),
}
FOLDERS = tuple(map(frozenset, (hub.FILES, nnunet.FILES, bundle.FILES)))  # what an exported folder holds


def run_export(config: ExportConfig) -> Ending:
    """Export, and say what was written and how it is loaded."""
    for line in export(config):
        say(line)
    return Ending.FINISHED


def export(config: ExportConfig) -> list[str]:
    """Write the export; lines on what it is and how it is loaded."""
    out = Path(config.out)
    check_out(out, config)
    source = open_source(config)
    scratch = new_scratch(out)
    try:
        made = scratch / out.name
        lines = WRITERS[config.format](source, config, made)
        for path in [made] if made.is_file() else files_in(made):
            with path.open("rb+") as stream:
                os.fsync(stream.fileno())
        if out.is_dir():  # an earlier export: gone only when the new one is complete
            out.rename(scratch / "before")
        made.replace(out)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return [f"{out}: {lines[0]}", *lines[1:]]


def open_source(config: ExportConfig) -> Source:
    """The weights of --run with what they build; the card says the licences that were given."""
    tensors, card = weights.read(config.run)
    if config.licence:
        card = {**card, "weights_licence": config.licence}
    if config.data_licence:
        card = {**card, "data_licence": config.data_licence}
    task = load_task(config.run)[0] if "task" in card else None
    return Source(tensors=tensors, card=card, encoder=weights.load_encoder(Path(config.run)), task=task)


def new_scratch(out: Path) -> Path:
    """An empty folder beside the result, on the same file system."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".export", dir=out.parent))
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None


def check_out(out: Path, config: ExportConfig) -> None:
    """Refuse an --out of another form, and one that exists, unless it is an export that --force replaces."""
    suffixes = SUFFIXES[config.format]
    if suffixes and out.suffix not in suffixes:
        raise FoveateError(
            f"--out {out}: accepted for --format {config.format} are names that end in "
            f"{' or '.join(suffixes)}."
        )
    if not os.path.lexists(out):
        return
    if not config.force:
        raise FoveateError(f"--out {out} exists already; nothing was written. --force replaces it.")
    if out.is_symlink() or out.is_dir() != (not suffixes):
        kind = "a file" if suffixes else "a folder"
        raise FoveateError(f"--out {out} is not {kind}; accepted: {kind}, or a new name.")
    if out.is_dir() and not is_export(out):
        raise FoveateError(f"--out {out} holds other files than an export; accepted: a new folder.")


def is_export(folder: Path) -> bool:
    """Whether a folder holds nothing but an export of foveate, or nothing at all."""
    names = {path.relative_to(folder).as_posix() for path in files_in(folder)}
    return not names or names in FOLDERS


def files_in(folder: Path) -> list[Path]:
    """All of them, without what Python keeps of modules that were run there."""
    found = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return [path for path in found if path.is_symlink() or not path.is_dir()]

"""Files of weights that somebody else wrote, read without running anything that is in them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from foveate.core.types import FoveateError, printable

PLAIN = 'torch.save(file["state_dict"], "plain.pth")'
WAY_OUT = (
    f"Where you trust the file, open it in Python with what it needs installed and write {PLAIN}; "
    "plain tensors are read."
)
# What checkpoints hold beside tensors, as training scripts leave it: their arguments, their best score.
HARMLESS = (
    "argparse.Namespace",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.dtype",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "pathlib.WindowsPath",
    "pathlib.PureWindowsPath",
)
MOST_METADATA = 1_000_000  # characters
PREFERRED = ("state_dict", "network_weights", "model_state_dict", "model", "net")


@final
class Forgotten:
    """Stands where a file holds an object that is none of our business: takes anything, keeps nothing."""

    def __new__(cls, *_args: object, **_keys: object) -> Forgotten:
        """Whatever the arguments."""
        return super().__new__(cls)

    def __setstate__(self, state: object) -> None:
        """Forget it."""


def read_file(path: Path) -> tuple[object, dict[str, str]]:
    """Everything in a file of weights: its nested content, and the metadata of a safetensors file."""
    if not path.is_file():
        raise FoveateError(f"{path}: there is no such file; accepted: .safetensors, .pth, .pt, .ckpt, .bin.")
    try:
        with path.open("rb") as stream:
            start = stream.read(9)
    except OSError as error:
        raise FoveateError(f"{path} cannot be read: {error.strerror}.") from None
    if path.suffix == ".safetensors" or (len(start) == 9 and start[8:9] == b"{"):
        return read_safetensors(path)
    return read_pickle(path), {}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata; the library checks shapes and offsets against the file's length."""
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = dict(stream.metadata() or {})
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, RuntimeError, OverflowError) as error:
        raise FoveateError(
            f"{path} is not a safetensors file that can be read: {printable(error)}."
        ) from None
    if any(len(value) > MOST_METADATA for value in metadata.values()):
        raise FoveateError(
            f"{path} holds more than {MOST_METADATA:,} characters of metadata; that is no card."
        )
    return tensors, metadata


def read_pickle(path: Path) -> object:
    """What `torch.save` wrote: tensors and plain values; a few named classes become `Forgotten`."""
    stand_ins: list[Any] = [(Forgotten, name) for name in HARMLESS]
    try:
        program = is_program(path)
        if not program:
            with torch.serialization.safe_globals(stand_ins):
                return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a malformed file raises whatever it likes
        raise FoveateError(refused(path, error)) from None
    raise FoveateError(f"{path} is a TorchScript program, which would be run; accepted: its weights alone.")


def is_program(path: Path) -> bool:
    """Whether a file is TorchScript, which has a table of constants beside its code."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())


def refused(path: Path, error: Exception) -> str:
    """Why a pickle was not read, and the way out."""
    if needs := re.search(r"GLOBAL (\S+)", str(error)):
        return (
            f"{path} is a pickle that asks for more than tensors ({printable(needs[1])}), and nothing in it "
            f"was run. {WAY_OUT}"
        )
    inner = re.search(r"WeightsUnpickler error: (.*)", str(error))
    why = inner[1] if inner else f"{type(error).__name__}: {first_line(error)}"
    return (
        f"{path} is no file of weights that can be read, and nothing in it was run ({printable(why)}); "
        f"accepted: .safetensors, and .pth, .pt, .ckpt or .bin of torch. {WAY_OUT}"
    )


def first_line(error: BaseException) -> str:
    """What an exception says first."""
    return (str(error).strip() or "no reason given").splitlines()[0]


def weights_inside(content: object, path: Path) -> tuple[dict[str, Tensor], str]:
    """The largest mapping of names to tensors in a file's content, and the key it was found under."""
    found = list(mappings(content))
    if not found:
        raise FoveateError(f"{path} holds no mapping of names to tensors, so no weights.")
    order = {name: -i for i, name in enumerate(reversed(PREFERRED), 1)}
    found.sort(key=lambda item: (-len(item[1]), order.get(item[0].split(".")[-1], 1)))
    key, tensors = found[0]
    for name, tensor in tensors.items():
        check_extent(name, tensor, path)
    return tensors, key


def mappings(content: object, key: str = "", depth: int = 3) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Every mapping that holds tensors, with the dotted key it lies under."""
    if not isinstance(content, Mapping):
        return
    tensors = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if tensors:
        yield key, tensors
    for name, value in content.items() if depth else ():
        yield from mappings(value, f"{key}.{name}" if key else str(name), depth - 1)


def check_extent(name: str, tensor: Tensor, path: Path) -> None:
    """Refuse a tensor that says it has more values than it holds: to touch it would fill the memory."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise FoveateError(f"{path}: {printable(name)} is sparse or quantised; accepted: dense tensors.")
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        shape = tuple(tensor.shape)
        raise FoveateError(f"{path}: {printable(name)} declares the shape {shape} and holds fewer values.")

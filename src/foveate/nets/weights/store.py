"""Weights in and out: one safetensors file with a card inside."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save as serialised
from torch import Tensor, nn

from foveate.core.files import replace_file, replace_text
from foveate.core.networks import Encoder
from foveate.core.types import FoveateError, printable
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights.card import FORMAT, Card, check_card, encoder_config, parse_card
from foveate.nets.weights.families import resemblance
from foveate.nets.weights.files import read_file, read_safetensors, weights_inside
from foveate.nets.weights.hub import WEIGHTS as HUB, from_hub, on_hub
from foveate.nets.weights.transfer import TransferReport, transfer

__all__ = [
    "FORMAT",
    "Card",
    "TransferReport",
    "check_card",
    "load_encoder",
    "read",
    "save",
    "transfer",
    "write",
]

CARD, CHECKSUM = "card.json", "weights_sha256"
FOLDS = "folds.json"  # in the folder of a cross-validation
FROM_BACKUP = (
    f"Put both back from a backup, or run the training command again, which exports them anew from its "
    f"checkpoints. Where you changed {CARD} or the weights on purpose, remove {CARD}."
)


def save(parts: Mapping[str, nn.Module], card: Card, folder: Path) -> Path:
    """Write `weights.safetensors` with names prefixed by part, and beside it its card with its checksum."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    path, beside = folder / "weights.safetensors", folder / CARD
    beside.unlink(
        missing_ok=True
    )  # a crash before the new one is there leaves weights that nothing speaks of
    write(tensors, card, path)
    content = {**card, CHECKSUM: checksum(path)}
    replace_text(beside, json.dumps(content, indent=1, sort_keys=True) + "\n")
    return path


def write(tensors: Mapping[str, Tensor], card: Card, path: Path) -> None:
    """One file, whole or not at all."""
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    text = json.dumps(card, indent=1, sort_keys=True)
    content = serialised(own, metadata={"card": text})  # one entry: the order of several is not stable
    replace_file(path, lambda stream: stream.write(content))


def locate(source: str | Path) -> Path:
    """The weights file that a run folder, a path or a name on the hub (`hf:owner/name`) means."""
    if on_hub(source):
        return from_hub(source)
    path = Path(source)
    file = path / "exported" / "weights.safetensors" if path.is_dir() else path
    if path.is_dir() and not file.exists():
        file = path / HUB  # as `foveate export --format huggingface` leaves it
    if file.is_file():
        return file
    if (path / FOLDS).is_file():
        raise FoveateError(
            f"{path} is a cross-validation; accepted here: one of its folds, {path / 'fold_0'}."
        )
    if path.is_dir():
        raise FoveateError(f"{path} holds no exported/weights.safetensors: it has not reached its end.")
    raise FoveateError(f"{path}: there is no such file; accepted: a run folder or its weights.safetensors.")


def read(source: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of a run or a file."""
    path = locate(source)
    check_beside(path)
    if path.suffix in (".pth", ".pt", ".ckpt", ".bin", ".tar"):
        raise FoveateError(stranger(path, list(weights_inside(read_file(path)[0], path)[0])))
    tensors, metadata = read_safetensors(path)
    if "card" not in metadata:
        raise FoveateError(stranger(path, list(tensors)))
    card = parse_card(metadata["card"], str(path))
    check_size(card, tensors, path)
    return tensors, card


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_beside(path: Path) -> None:
    """Refuse exported weights that are not those that the card beside them was written with.

    A file that was copied alone has no card beside it, and cards of before have no checksum.
    """
    beside = path.parent / CARD
    if path.name != "weights.safetensors" or not beside.is_file():
        return
    try:
        content = json.loads(beside.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError):
        content = None
    if not isinstance(content, dict):
        raise FoveateError(f"{beside} is damaged: it is no card. {FROM_BACKUP}")
    if CHECKSUM in content and content.pop(CHECKSUM) != checksum(path):
        raise FoveateError(
            f"{path} is damaged, or is not the file that {beside} was written for: another {CHECKSUM}. "
            f"{FROM_BACKUP}"
        )


def stranger(path: Path, names: list[str]) -> str:
    """What to do with a file that is not ours."""
    shown = ", ".join(printable(name) for name in names[:2])
    return (
        f"{path} is not a foveate weights file (it has no card). Its names ({shown} ...) look most like "
        f"those of {resemblance(names)}; `foveate convert FILE --out NEW.safetensors` brings such files in."
    )


def check_size(card: Card, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a card that describes a far larger network than the file has weights for."""
    config = encoder_config(card)
    values = sum(tensor.numel() for name, tensor in tensors.items() if name.startswith("encoder."))
    widest = max(ENCODERS[config.name].widest(config), config.in_channels)
    if widest**2 > max(values, 1):
        raise FoveateError(
            f"{path}: its card describes layers of {printable(widest)} channels, and the file holds only "
            f"{values:,} values of the encoder."
        )


def load_encoder(source: str | Path, *, min_transfer: float = 1.0) -> Encoder:
    """The encoder of a run, a weights file or `hf:owner/name`: `enc(x)` gives maps fine to coarse.

    It has `enc.channels`, `enc.strides`, `enc.card` and `enc.report`, and is in evaluation mode.
    """
    tensors, card = read(source)
    encoder = ENCODERS[card["encoder"]["name"]].build(encoder_config(card), card["dimension"])
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    report = transfer({"encoder": encoder}, own, min_share=min_transfer, source=str(source))
    object.__setattr__(encoder, "card", card)
    object.__setattr__(encoder, "report", report)
    return encoder.eval()

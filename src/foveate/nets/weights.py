"""Weights in and out: one safetensors file with a card inside, and a report of what went where."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from foveate.core.types import FoveateError
from foveate.nets.encoders import ENCODERS

FORMAT = "foveate/1"
Card = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What happened to every name when weights entered a network."""

    matched: tuple[str, ...]
    missing: tuple[str, ...]  # in the network, not in the file: they stay as they were
    misshapen: tuple[str, ...]
    unused: tuple[str, ...]  # in the file, not in the network
    share: float  # of the network's parameters that the file filled

    def summary(self) -> str:
        """One line for the log."""
        rest = f"{len(self.missing)} left as they were, {len(self.misshapen)} of another shape"
        unused = f"{len(self.unused)} of the file unused"
        return f"weights: {len(self.matched)} tensors loaded ({self.share:.0%}), {rest}, {unused}"


def save(parts: Mapping[str, nn.Module], card: Card, folder: Path) -> Path:
    """Write `weights.safetensors` with names prefixed by part, and `card.json` beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        f"{part}.{name}": tensor.detach().cpu().contiguous()
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }
    text = json.dumps(card, indent=1, sort_keys=True)
    path = folder / "weights.safetensors"
    partial = path.with_suffix(".partial")
    save_file(tensors, partial, metadata={"card": text})  # one entry: the order of several is not stable
    partial.replace(path)
    (folder / "card.json").write_text(text + "\n", encoding="utf-8")
    return path


def locate(source: str | Path) -> Path:
    """The weights file that a run folder or a path means."""
    path = Path(source)
    file = path / "exported" / "weights.safetensors" if path.is_dir() else path
    if file.is_file():
        return file
    if path.is_dir():
        raise FoveateError(f"{path} holds no exported/weights.safetensors: it has not reached its end.")
    raise FoveateError(f"{path}: there is no such file; accepted: a run folder or its weights.safetensors.")


def read(source: str | Path) -> tuple[dict[str, Tensor], Card]:
    """Tensors and card of a run or a file."""
    path = locate(source)
    try:
        with safe_open(path, framework="pt") as stream:
            metadata = stream.metadata() or {}
            tensors = {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118 - not a dict
        card = json.loads(metadata["card"])
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        reason = "it has no card" if isinstance(error, KeyError) else str(error)
        raise FoveateError(
            f"{path} is not a foveate weights file ({reason}); accepted: exported/weights.safetensors."
        ) from None
    if card.get("format") != FORMAT:
        raise FoveateError(f"{path}: card format {card.get('format')!r}; this version reads {FORMAT!r}.")
    return tensors, card


def transfer(
    parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], min_share: float
) -> TransferReport:
    """Copy every tensor whose name and shape fit, and refuse a transfer that fills too little.

    The share counts the parameters of those parts that the file holds at all: an encoder-only file may
    start an encoder with a decoder.
    """
    held = {name.split(".")[0] for name in tensors}
    wanted = {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        if part in held
        for name, tensor in module.state_dict().items()
    }
    common = wanted.keys() & tensors.keys()
    matched = sorted(name for name in common if wanted[name].shape == tensors[name].shape)
    filled = sum(wanted[name].numel() for name in matched)
    report = TransferReport(
        matched=tuple(matched),
        missing=tuple(sorted(wanted.keys() - tensors.keys())),
        misshapen=tuple(sorted(common - set(matched))),
        unused=tuple(sorted(tensors.keys() - wanted.keys())),
        share=filled / max(1, sum(tensor.numel() for tensor in wanted.values())),
    )
    if report.share < min_share:
        bad = ", ".join([*report.misshapen, *report.missing][:5]) or f"its parts are {sorted(held)}"
        raise FoveateError(
            f"--init fills {report.share:.0%} of the network, less than {min_share:.0%}: {bad}. "
            "Use the encoder and decoder of the file's card."
        )
    for name in matched:
        wanted[name].copy_(tensors[name])
    return report


def load_encoder(source: str | Path) -> nn.Module:
    """The encoder of a run or a weights file: `enc(x)` gives maps fine to coarse.

    It has `enc.channels`, `enc.strides` and `enc.card`, and is in evaluation mode.
    """
    tensors, card = read(source)
    entry = ENCODERS[card["encoder"]["name"]]
    encoder = entry.build(entry.config(**card["encoder"]), card["dimension"])
    own = {name: tensor for name, tensor in tensors.items() if name.startswith("encoder.")}
    transfer({"encoder": encoder}, own, min_share=1.0)
    object.__setattr__(encoder, "card", card)
    return encoder.eval()

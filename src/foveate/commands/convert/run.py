"""`foveate convert`: weights of another project, or of foveate for another input, as a file with a card."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from hashlib import file_digest
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn

from foveate.commands.convert.config import ConvertConfig
from foveate.core import config as parsing
from foveate.core.dims import LAYERS
from foveate.core.files import replace_text
from foveate.core.types import Dimension, Ending, FoveateError
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.weights import store as weights
from foveate.nets.weights.adapt import Inflation
from foveate.nets.weights.card import Card, encoder_config
from foveate.nets.weights.families import blocks_note, check_strides
from foveate.nets.weights.files import read_file, weights_inside
from foveate.nets.weights.recognise import Match, misfit, recognise
from foveate.nets.weights.transfer import BOOKKEEPING, TransferReport, transfer
from foveate.runtime.folder import commit
from foveate.train.logging import CONSOLE, say


@dataclass(frozen=True, kw_only=True)
class LoadedWeights:
    """The weights of a file, under foveate's names."""

    tensors: dict[str, Tensor]
    card: Card
    notes: tuple[str, ...]
    min_share: float


def run_convert(config: ConvertConfig) -> Ending:
    """Convert, and print the report."""
    show(convert(Path(config.file), config), config)
    return Ending.FINISHED


def convert(source: Path, config: ConvertConfig) -> TransferReport:
    """Read, recognise, adapt and write weights; returns the transfer report."""
    out = Path(config.out)
    check_out(source, out)
    loaded = load_weights(source, config)
    encoder, dimension = target(loaded.card, config)
    parts: dict[str, nn.Module] = {"encoder": ENCODERS[encoder.name].build(encoder, dimension)}
    own = {n: t for n, t in loaded.tensors.items() if n.startswith("encoder.")}
    inflation: Inflation = config.inflate
    report = transfer(
        parts, own, min_share=loaded.min_share, inflation=inflation, source=str(source), notes=loaded.notes
    )
    tensors = {f"encoder.{n}": t for n, t in parts["encoder"].state_dict().items()}
    tensors = {n: t for n, t in tensors.items() if n not in report.random or n.endswith(BOOKKEEPING)}
    rest = {n: t for n, t in loaded.tensors.items() if n.startswith("decoder.")}
    kept = rest if dimension == loaded.card["dimension"] and loaded.card.get("decoder") else {}
    card = {**loaded.card, "dimension": dimension, "in_channels": encoder.in_channels}
    card |= {"encoder": parsing.to_mapping(encoder), "axis_order": LAYERS[dimension].axis_order}
    if dimension != loaded.card["dimension"]:
        card |= {"decoder": None, "spacing_mm": None}
    if report.adapted:
        card["adapted"] = sorted(set(report.adapted.values()))
    write(tensors | kept, card, report, out)
    return report


def write(tensors: Mapping[str, Tensor], card: Card, report: TransferReport, out: Path) -> None:
    """What is known of the weights, and they themselves last: where they are, everything is."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_text(out.with_suffix(".card.json"), json.dumps(card, indent=1) + "\n")
        replace_text(out.with_suffix(".transfer.json"), report.to_json())
        weights.write(tensors, card, out)
    except OSError as error:
        raise FoveateError(f"--out {out} cannot be written: {error.strerror}.") from None


def check_out(source: Path, out: Path) -> None:
    """Refuse an --out that exists or has another suffix, and a missing file."""
    if out.suffix != ".safetensors":
        raise FoveateError(f"--out {out}: accepted are names that end in .safetensors.")
    if out.exists():
        raise FoveateError(f"--out {out} exists already; nothing was written. Choose another name.")
    if not source.exists():
        raise FoveateError(f"{source}: there is no such file; accepted: a file of weights, or a run folder.")


def load_weights(source: Path, config: ConvertConfig) -> LoadedWeights:
    """A file of foveate as it is, any other one renamed by its family's table."""
    if source.is_dir():
        source = weights.locate(source)
    content, metadata = read_file(source)
    if "card" in metadata:
        tensors, card = weights.read(source)
        return LoadedWeights(tensors=tensors, card=card, notes=(), min_share=config.min_transfer)
    tensors, key = weights_inside(content, source)
    if config.prefix:
        start = config.prefix
        tensors = {n.removeprefix(start): t for n, t in tensors.items() if n.startswith(start)}
        if not tensors:
            raise FoveateError(f"--prefix {start}: no name in {source} starts with it.")
    said = {**content, **exported(metadata)} if isinstance(content, Mapping) else content
    match = recognise(tensors, str(source), config.family, said)
    if match.fit < config.min_transfer:
        raise FoveateError(misfit(match, str(source), config.min_transfer))
    notes = notes_of(match, key, check_strides(match.family, content), blocks_note(match.family, said))
    ours = {n: t for n, t in match.translation.tensors.items() if n.split(".")[0] in match.parts}
    return LoadedWeights(
        tensors=ours,
        card=card_of(match, source),
        notes=notes,
        min_share=min(config.min_transfer, match.report.share),
    )


def exported(metadata: Mapping[str, str]) -> dict[str, Any]:
    """What `foveate export` said of a safetensors file."""
    try:
        return {"export": json.loads(metadata["export"])}
    except (KeyError, ValueError, RecursionError):
        return {}


def notes_of(match: Match, key: str, *more: str) -> tuple[str, ...]:
    """Lines for the terminal on how a file was read."""
    left = match.translation
    notes = [
        f"family: {match.family.name} ({match.family.title}), weights under {key or 'the top of the file'}",
        f"encoder: {match.encoder.name} in {match.dimension}D",
        *more,
        f"not converted: {len(left.dropped)} tensors of heads and copies" if left.dropped else "",
        f"not known to the family: {', '.join(left.unknown[:3])}" if left.unknown else "",
        f"also matches: {', '.join(match.others)}; choose with --family" if match.others else "",
    ]
    return tuple(note for note in notes if note)


def target(card: Card, config: ConvertConfig) -> tuple[Any, Dimension]:
    """The encoder that is to hold the weights."""
    encoder = encoder_config(card)
    names = set(asdict(encoder))
    asked = {"in_channels": config.in_channels, "window": config.window}
    changes: dict[str, Any] = {key: value for key, value in asked.items() if value}
    if "window" in changes and "window" not in names:
        raise FoveateError(f"--window {config.window}: {encoder.name} has no attention window.")
    dimension = cast(Dimension, card["dimension"])
    if config.inflate != "no":
        if dimension != min(LAYERS) or not encoder.name.startswith("resnet"):
            raise FoveateError(
                f"--inflate {config.inflate}: this is {encoder.name} in {dimension}D; accepted: 2D ResNets."
            )
        dimension = cast(Dimension, max(LAYERS))
    return replace(encoder, **changes), dimension


def content_hash(path: Path) -> str:
    """A hash of a file's bytes, read in pieces."""
    with path.open("rb") as stream:
        return file_digest(stream, "sha256").hexdigest()


def card_of(match: Match, source: Path) -> Card:
    """What is known of foreign weights. No path and no identity."""
    known = match.family.card
    return {
        "format": weights.FORMAT,
        "foveate": version("foveate"),
        "commit": commit(),
        "dimension": match.dimension,
        "axis_order": LAYERS[match.dimension].axis_order,
        "in_channels": match.encoder.in_channels,
        "intensity": known["intensity"],
        "normalisation": known["normalisation"],
        "spacing_mm": known["spacing_mm"],
        "method": {"name": match.family.name},
        "family": match.family.name,
        "source_sha256": content_hash(source),
        "encoder": parsing.to_mapping(match.encoder),
        "decoder": parsing.to_mapping(match.decoder) if match.decoder else None,
        "views": None,
        "steps": None,
        "data": None,
        "weights_licence": known.get("weights_licence", "not stated in the file: ask whoever made it"),
        "data_licence": "not stated in the file",
        "citation": known["citation"],
    }


def show(report: TransferReport, config: ConvertConfig) -> None:
    """The report in the terminal, and where things are."""
    CONSOLE.print(report.table())
    say(f'{config.out}; card and report beside it. Next: --init {config.out}, or foveate.load_encoder("...")')

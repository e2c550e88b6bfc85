"""Which known network a foreign file holds, and its weights under our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from torch import Tensor, nn

from foveate.core.networks import EncoderConfig
from foveate.core.types import Dimension, FoveateError, printable
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.weights.families import (
    Family,
    Translation,
    derived,
    families,
    nearest_families,
    translate,
    with_all_blocks,
)
from foveate.nets.weights.transfer import TransferReport, counted, fitted


@final
@dataclass(frozen=True, kw_only=True)
class Match:
    """One way to read a file.

    Attributes:
        family: Whose table names it.
        dimension: Of the network.
        encoder: Its configuration.
        decoder: The decoder's, where the file holds one that fits completely.
        parts: The network, by part; its weights are still random.
        translation: The file's weights under our names.
        report: What fits.
        fit: Values that fit, of those of the encoder and of the file's encoder together.
        whole: The same with the decoder, where there is one.
        others: Further families that would read the file in the same way.
    """

    family: Family
    dimension: Dimension
    encoder: EncoderConfig
    decoder: DecoderConfig | None
    parts: dict[str, nn.Module]
    translation: Translation
    report: TransferReport
    fit: float
    whole: float
    others: tuple[str, ...] = field(default=())


def matches(family: Family, tensors: Mapping[str, Tensor], content: object) -> list[Match]:
    """Every candidate of a family that the shapes of the file allow, described."""
    translation = translate(family, tensors)
    found = []
    for candidate in family.candidates:
        arguments = derived(family, translation.tensors, candidate["dimension"])
        if arguments is not None:
            arguments = with_all_blocks(family, arguments, content)
            match = describe(family, candidate, arguments, translation)
            found += [match] if match else []
    return found


def describe(
    family: Family, candidate: Mapping[str, Any], arguments: dict[str, Any], translation: Translation
) -> Match | None:
    """A candidate built and compared with the file; None where the shapes contradict it."""
    keys, dimension = candidate["encoder"], candidate["dimension"]
    entry, tensors = ENCODERS[keys["name"]], translation.tensors
    config = entry.config(**{**arguments, **keys})
    values = sum(t.numel() for name, t in tensors.items() if name.startswith("encoder."))
    if entry.widest(config) ** 2 > values:
        return None
    decoder = DecoderConfig(**candidate["decoder"]) if "decoder" in candidate else None
    try:
        net = build_pyramid(config, decoder or DecoderConfig(upsample=entry.upsample), dimension)
    except (FoveateError, RuntimeError, ValueError):
        return None
    parts: dict[str, nn.Module] = {"encoder": net.encoder}
    if decoder and any(name.startswith("decoder.") for name in tensors):
        parts["decoder"] = net.decoder
    whole = overlap(parts, tensors, "")
    if "decoder" in parts and overlap(parts, tensors, "decoder.") < 1:
        del parts["decoder"]
    return Match(
        family=family,
        dimension=dimension,
        encoder=config,
        decoder=decoder if "decoder" in parts else None,
        parts=parts,
        translation=translation,
        report=fitted(parts, tensors)[1],
        fit=overlap(parts, tensors, "encoder."),
        whole=whole,
    )


def overlap(parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], prefix: str) -> float:
    """Values that fit, of all that the network or the file has under a prefix."""
    wanted = {f"{part}.{n}": t for part, m in parts.items() for n, t in m.state_dict().items()}
    names = [n for n in wanted.keys() | tensors.keys() if n.startswith(prefix) and counted(n)]
    fits = [n for n in names if n in wanted and n in tensors and wanted[n].shape == tensors[n].shape]
    total = sum((wanted[n] if n in wanted else tensors[n]).numel() for n in names)
    return float(sum(wanted[n].numel() for n in fits) / max(1, total))


def recognise(tensors: Mapping[str, Tensor], name: str, only: str = "", content: object = None) -> Match:
    """The best reading of a file.

    Args:
        tensors: Of the file, under its own names.
        name: Of the file, for messages.
        only: The one family to try; empty: all.
        content: Everything else in the file, which may say how many blocks there are.
    """
    if only and only not in families():
        raise FoveateError(f"--family {only}: accepted are {', '.join(families())}.")
    ordered = [f for f in nearest_families(tensors) if not only or f.name == only]
    found = [match for family in ordered for match in attempts(family, tensors, content, strict=bool(only))]
    if not found:
        raise FoveateError(unknown(ordered[0], tensors, name))
    best = max(found, key=lambda match: (match.fit, match.whole))  # the first of equals: the nearest family
    alike = {m.family.name for m in found if (m.fit, m.whole) == (best.fit, best.whole)}
    return replace(best, others=tuple(sorted(alike - {best.family.name})))


def attempts(family: Family, tensors: Mapping[str, Tensor], content: object, *, strict: bool) -> list[Match]:
    """The matches of a family; two weights of one name are an error only where the family is certain."""
    try:
        return matches(family, tensors, content)
    except FoveateError:
        if strict or nearest_families(tensors)[0] is family:
            raise
        return []


def unknown(nearest: Family, tensors: Mapping[str, Tensor], name: str) -> str:
    """Why no family reads a file."""
    shown = ", ".join(printable(n) for n in sorted(tensors)[:4])
    return (
        f"{name} is of no known family. Its {len(tensors)} names ({shown} ...) look most like those of "
        f"{nearest.name} ({nearest.title}), and nothing that decides on the network fits. Known are: "
        f"{', '.join(families())}; what each needs is in docs/weights.md."
    )


def misfit(match: Match, name: str, min_transfer: float) -> str:
    """Why the best reading of a file is not good enough."""
    problems = [text for text in match.report.misfits() if text.startswith("encoder.")]
    strange = [printable(n) for n in match.translation.unknown]
    named = match.encoder.name
    text = (
        f"{name} looks like {match.family.name} ({match.family.title}) with the encoder {named} in "
        f"{match.dimension}D, but only {match.fit:.1%} of the weights fit (--min_transfer {min_transfer:g}): "
        f"{listed(problems)}."
    )
    return text + (f" Names of the file that the family does not know: {listed(strange)}." if strange else "")


def listed(texts: list[str], most: int = 4) -> str:
    """The first few and how many more."""
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")

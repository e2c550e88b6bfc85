"""What goes where when weights enter a network: matched, adapted, left at random, unused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from foveate.core.networks import Encoder
from foveate.core.types import FoveateError, printable
from foveate.nets.pyramid import Decoder
from foveate.nets.weights.adapt import Adapted, Inflation, adapt
from foveate.nets.weights.families import resemblance

if TYPE_CHECKING:
    from rich.table import Table

# Buffers that follow from the network's own shape or only count: never asked of a file.
BOOKKEEPING = ("num_batches_tracked", "relative_position_index")
SHOWN = 6  # names of each kind in a table


@dataclass(frozen=True, kw_only=True)
class TransferReport:
    """What happened to every name when weights entered a network.

    Attributes:
        matched: Names whose tensors were copied as they were.
        adapted: Names whose tensors were changed to fit, and how.
        random: Names of the network that keep what was drawn for them; those of `misshapen` are among them.
        misshapen: Names that the file has in a shape that cannot be adapted, and why.
        unused: Names of the file that the network does not have.
        share: Of the encoder's parameters and running statistics that the file filled.
        notes: How the file's card differs from the input that it will see.
    """

    matched: tuple[str, ...]
    adapted: dict[str, str] = field(default_factory=dict)
    random: tuple[str, ...] = ()
    misshapen: dict[str, str] = field(default_factory=dict)
    unused: tuple[str, ...] = ()
    share: float
    notes: tuple[str, ...] = ()

    def summary(self) -> str:
        """One line for the log."""
        counts = (
            f"{len(self.matched)} tensors matched, {len(self.adapted)} adapted, "
            f"{len(self.random)} left at random, {len(self.unused)} of the file unused"
        )
        return f"weights: {self.share:.0%} of the encoder initialised; {counts}"

    def to_json(self) -> str:
        """Everything, for a file beside the run."""
        return json.dumps(asdict(self), indent=1) + "\n"

    def misfits(self) -> list[str]:
        """Names that did not fit, the encoder's first."""
        wrong = [f"{name} ({why})" for name, why in self.misshapen.items()]
        absent = [f"{name} (not in the file)" for name in self.random if name not in self.misshapen]
        extra = [f"{name} (not in the network)" for name in self.unused]
        ordered = sorted(wrong + absent, key=lambda text: not text.startswith("encoder."))
        return [printable(text) for text in ordered + extra]

    def table(self) -> Table:
        """The report for a terminal; names of the file are escaped."""
        from rich.table import Table
        from rich.text import Text

        table = Table(title=self.summary(), title_justify="left", show_edge=False)
        for column in ("", "tensors", "names"):
            table.add_column(column, overflow="fold")
        for kind, names in self.rows().items():
            shown = [printable(name) for name in names[:SHOWN]]
            shown += [f"... and {len(names) - SHOWN} more"] if len(names) > SHOWN else []
            table.add_row(kind, str(len(names)), Text("\n".join(shown)))
        return table

    def rows(self) -> dict[str, list[str]]:
        """What the table lists; matched names only by their number."""
        apart = [name for name in self.random if name not in self.misshapen]
        rows = {
            "adapted": [f"{name}: {how}" for name, how in self.adapted.items()],
            "wrong shape": [f"{name}: {why}" for name, why in self.misshapen.items()],
            "random": apart,
            "unused": list(self.unused),
            "note": list(self.notes),
        }
        return {kind: names for kind, names in rows.items() if names}


def counted(name: str) -> bool:
    """Whether a file is expected to bring this tensor."""
    return not name.endswith(BOOKKEEPING)


def tensors_of(parts: Mapping[str, nn.Module]) -> dict[str, Tensor]:
    """Every tensor of the parts, by its name in a weights file."""
    return {
        f"{part}.{name}": tensor
        for part, module in parts.items()
        for name, tensor in module.state_dict().items()
    }


def image_readers(parts: Mapping[str, nn.Module]) -> set[str]:
    """Names of the weights whose axis 1 are the channels of the image."""
    return {f"{part}.{m.input_weight}" for part, m in parts.items() if isinstance(m, Encoder)}


def own_channels(parts: Mapping[str, nn.Module]) -> dict[str, int]:
    """Weights that may join the encoder's map to the decoder's, with the number of the latter's channels."""
    return {
        f"{part}.{name}": count
        for part, module in parts.items()
        if isinstance(module, Decoder)
        for name, count in module.own_channels.items()
    }


def fitted(
    parts: Mapping[str, nn.Module], tensors: Mapping[str, Tensor], inflation: Inflation = "no"
) -> tuple[dict[str, Tensor], TransferReport]:
    """The tensors that fit, in the network's shapes, and the report; nothing is copied."""
    wanted, readers, joins = tensors_of(parts), image_readers(parts), own_channels(parts)
    fits: dict[str, Tensor] = {}
    adapted: dict[str, str] = {}
    misshapen: dict[str, str] = {}
    for name in wanted.keys() & tensors.keys():
        given, shape = tensors[name], wanted[name].shape
        if given.is_floating_point() != wanted[name].is_floating_point():
            misshapen[name] = f"{given.dtype} in the file, {wanted[name].dtype} here"
        elif given.shape == shape:
            fits[name] = given
        elif counted(name):
            made = adapt(
                name,
                given,
                shape,
                reads_image=name in readers,
                inflation=inflation,
                from_below=joins.get(name),
            )
            if isinstance(made, Adapted):
                fits[name], adapted[name] = made.tensor, made.how
            else:
                misshapen[name] = f"{tuple(given.shape)} in the file, {tuple(shape)} here: {made}"
    report = TransferReport(
        matched=tuple(sorted(fits.keys() - adapted.keys())),
        adapted=dict(sorted(adapted.items())),
        random=tuple(sorted(name for name in wanted if counted(name) and name not in fits)),
        misshapen=dict(sorted(misshapen.items())),
        unused=tuple(sorted(name for name in tensors.keys() - wanted.keys() if counted(name))),
        share=filled_share(wanted, fits),
    )
    return fits, report


def filled_share(wanted: Mapping[str, Tensor], fits: Mapping[str, Tensor]) -> float:
    """Of the encoder's values that the fitting tensors fill; of all where there is no encoder."""
    names = [name for name in wanted if counted(name)]
    own = [name for name in names if name.startswith("encoder.")] or names
    return sum(wanted[n].numel() for n in own if n in fits) / max(1, sum(wanted[n].numel() for n in own))


def transfer(
    parts: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    *,
    min_share: float,
    inflation: Inflation = "no",
    source: str = "the file",
    notes: tuple[str, ...] = (),
) -> TransferReport:
    """Copy every tensor that fits or can be adapted, and refuse a transfer that fills too little.

    Args:
        parts: Where the weights go, by the prefix of their names: "encoder", "decoder".
        tensors: The weights of a file.
        min_share: Least share of the encoder's values that must be filled.
        inflation: What becomes of 2D kernels in a 3D network.
        source: What the message calls the file.
        notes: Named differences of the input, from `check_card`, that the report carries.
    """
    fits, report = fitted(parts, tensors, inflation)
    report = replace(report, notes=notes)
    refuse_non_finite(fits, source)
    if report.share < min_share:
        raise FoveateError(short(report, list(tensors), min_share, source))
    wanted = tensors_of(parts)
    with torch.no_grad():
        for name, tensor in fits.items():
            wanted[name].copy_(tensor)
    return report


def refuse_non_finite(tensors: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights that are not numbers."""
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FoveateError(
                f"{source} holds NaN or infinite values in {printable(name)}; nothing was loaded."
            )


def short(report: TransferReport, names: list[str], min_share: float, source: str) -> str:
    """Why a transfer was refused, and what may be done about it."""
    misfits = report.misfits()
    more = f" and {len(misfits) - 5} more" if len(misfits) > 5 else ""
    own = any(name.startswith("encoder.") for name in names)
    hint = (
        "Use the encoder (and its arguments) of the file's card."
        if own
        else f"Its names look like those of {resemblance(names)}: `foveate convert` brings such files in."
    )
    return (
        f"{source} fills {report.share:.0%} of the encoder, less than --min_transfer {min_share:g}. Did not "
        f"fit: {', '.join(misfits[:5])}{more}. {hint}"
    )

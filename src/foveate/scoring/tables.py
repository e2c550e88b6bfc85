"""The lines of a comparison as Markdown, CSV, LaTeX."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from foveate.core.files import csv_text
from foveate.scoring.comparison import Line
from foveate.scoring.statistics import Estimate

SPECIAL = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "+-": r"$\pm$", "<": r"$<$"}
NUMBERS = ("mean", "seed_sd", "low", "high", "p", "p_holm", "seeds", "patients")


def interval(found: Estimate, sign: str = "") -> str:
    """Mean, standard deviation over seeds, interval."""
    spread = "" if math.isnan(found.seed_sd) else f" ({found.seed_sd:.3f})"
    return f"{found.mean:{sign}.3f}{spread} [{found.low:{sign}.3f}, {found.high:{sign}.3f}]"


def compared(found: Estimate | None) -> str:
    """A difference with its interval, corrected p and verdict."""
    if found is None:
        return "-"
    p = "p < 0.001" if found.p_holm < 0.001 else f"p = {found.p_holm:.3f}"
    said = found.verdict().partition(" (+-")[0]  # the interval beside it says as much
    return f"{found.mean:+.3f} [{found.low:+.3f}, {found.high:+.3f}], {p}: {said}"


def resolving(line: Line) -> str:
    """The smallest difference that a line can resolve."""
    if line.score is None:
        return "-"
    size = "unknown" if math.isnan(line.resolves) else f"{line.resolves:.3f}"
    return f"{size}, exploratory" if line.exploratory else size


def cells_of(
    lines: Sequence[Line], references: Sequence[str], hours: Mapping[tuple[str, str], float]
) -> dict[str, list[list[str]]]:
    """Rows of text for every task; the first is the head. The probe stands beside what it probes."""
    probes = {(x.group[0], x.group[1], x.group[3]): x for x in lines if x.group[2] == "probe"}
    head = ["arm", "labels", "score (sd over seeds) [95 %]", *(f"minus {r}" for r in references)]
    head += ["resolves", "sd over pre-trainings", "frozen encoder", "training hours", "note"]
    tables: dict[str, list[list[str]]] = {}
    for line in lines:
        task, arm, way, labels = line.group
        if way == "probe":
            continue
        probe = probes.get((task, arm, labels))
        shown = interval(probe.score) if probe and probe.score else "-"
        sd = "-" if math.isnan(line.pretraining_sd) else f"{line.pretraining_sd:.3f}"
        row = [arm, str(labels), interval(line.score) if line.score else "-"]
        row += [compared(line.against.get(reference)) for reference in references]
        note = "; ".join(filter(None, [line.note, f"probe: {probe.note}" if probe and probe.note else ""]))
        row += [resolving(line), sd, shown, f"{hours.get((task, arm), 0.0):.2f}", note]
        tables.setdefault(task, [head]).append(row)
    return tables


def as_markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table for people."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    text = ["| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |" for row in rows]
    return "\n".join([text[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *text[1:]])


def as_latex(rows: Sequence[Sequence[str]]) -> str:
    """A tabular without packages."""

    def escaped(cell: str) -> str:
        for plain, special in SPECIAL.items():
            cell = cell.replace(plain, special)
        return cell

    body = [" & ".join(map(escaped, row)) + r" \\" for row in rows]
    lines = [
        rf"\begin{{tabular}}{{{'l' * len(rows[0])}}}",
        r"\hline",
        body[0],
        r"\hline",
        *body[1:],
        r"\hline",
    ]
    return "\n".join([*lines, r"\end{tabular}"])


def as_csv(lines: Sequence[Line], references: Sequence[str]) -> str:
    """Every number of every line."""
    parts = ["score", *(f"minus_{reference}" for reference in references)]
    names = [f"{part}_{number}" for part in parts for number in NUMBERS]
    verdicts = [f"{part}_verdict" for part in parts[1:]]
    head = ["task", "arm", "way", "labels", *names, *verdicts, "resolves", "pretraining_sd", "note"]
    rows = []
    for line in lines:
        found = [line.score, *(line.against.get(reference) for reference in references)]
        cells = [text_of(value) for each in found for value in numbers_of(each)]
        said = ["" if each is None else each.verdict() for each in found[1:]]
        rows.append(
            [*line.group, *cells, *said, *map(text_of, (line.resolves, line.pretraining_sd)), line.note]
        )
    return csv_text(head, rows)


def numbers_of(found: Estimate | None) -> Sequence[float]:
    """In the order of `NUMBERS`; NaN where there is no estimate."""
    if found is None:
        return [math.nan] * len(NUMBERS)
    spread, p_values = (found.mean, found.seed_sd, found.low, found.high), (found.p, found.p_holm)
    return [*spread, *p_values, found.seeds, found.patients]


def text_of(value: float) -> str:
    """A number, nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.6g}"

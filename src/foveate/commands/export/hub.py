"""A folder as the Hugging Face hub has it: weights, configuration, and a README that says what they are."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from foveate.commands.export.config import ExportConfig
from foveate.commands.export.source import UNIT, Source
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

WEIGHTS, CONFIG, README = "model.safetensors", "config.json", "README.md"
FILES = (WEIGHTS, CONFIG, README)
LIBRARY = "foveate"
LICENCES = {  # that the hub knows by these names
    *("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gpl-3.0"),
}
PIPELINES = {"segmentation": "image-segmentation", "classification": "image-classification"}
INTENDED = (
    "Research on medical images of the kind described above. This is not a medical device: nobody has "
    "checked it for use on patients."
)
ENCODER_USE = (
    "As the starting point of a fine-tuning, or for features of images. The encoder alone answers no medical "
    "question."
)
TASK_USE = "To reproduce and to study the task above on images like those of training."


def write_folder(source: Source, config: ExportConfig, path: Path) -> list[str]:
    """The three files."""
    figures = evaluated(config, source.card)
    path.mkdir()
    weights.write(source.tensors, source.card, path / WEIGHTS)
    said = {
        "library_name": LIBRARY,
        "model_type": f"foveate-{source.card['encoder']['name']}",
        **{key: value for key, value in source.card.items() if key != "format"},
        "format": source.card["format"],
    }
    (path / CONFIG).write_text(json.dumps(said, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    text = readme(source, figures, loading(source.card.get("task")))
    (path / README).write_text(text, encoding="utf-8")
    return [
        "weights, configuration and README for the Hugging Face hub; read the README before you publish it",
        f'Next: foveate.load_encoder("{path.name}"), or --init {path.name}',
    ]


def evaluated(config: ExportConfig, card: weights.Card) -> dict[str, Any] | None:
    """What `foveate evaluate` found for these weights; None where no folder was named."""
    if not config.evaluation:
        return None
    path = Path(config.evaluation) / "summary.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        known = (found["weights_data_hash"], found["task"])
        rows = {name: each["value"] for name, each in found["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise FoveateError(
            f"--evaluation {config.evaluation}: {path.name} is not there, not readable, or of boxes of a "
            "table; accepted: the folder that `foveate evaluate` wrote for RUN."
        ) from None
    mine = (card.get("data_hash"), card.get("task", {}).get("name"))
    if known != mine or not rows:
        raise FoveateError(f"--evaluation {config.evaluation} is of another run; accepted: one of RUN.")
    return dict(found)


def readme(source: Source, figures: Mapping[str, Any] | None, how: Sequence[str]) -> str:
    """The model card; `how`: lines on how it is loaded."""
    card = source.card
    task = card.get("task", {}).get("name")
    what = f"A {card['encoder']['name']} encoder for {source.dimension}D medical images"
    sections = {
        f"foveate {card['encoder']['name']}, {source.dimension}D": [f"{what}{origin(card, task)}"],
        "Method": method(card),
        "Training data": data(card),
        "Input": input_lines(source),
        "Intended use": [TASK_USE if task else ENCODER_USE, INTENDED],
        "Evaluation": evaluation(figures),
        "Licence": licence(card),
        "How to load it": how,
    }
    titles = [("#" if i == 0 else "##") + f" {title}" for i, title in enumerate(sections)]
    text = "\n\n".join(
        f"{title}\n\n" + "\n".join(lines) for title, lines in zip(titles, sections.values(), strict=True)
    )
    return f"---\n{front(card, task)}---\n\n{text}\n"


def front(card: weights.Card, task: str | None) -> str:
    """What the hub reads, as YAML."""
    said = str(card.get("weights_licence", ""))
    known = said.lower() in LICENCES
    keys = {
        "library_name": LIBRARY,
        "license": said.lower() if known else "other",
        **({} if known else {"license_name": said}),
        "pipeline_tag": PIPELINES.get(str(task), "image-feature-extraction"),
        "tags": ["medical-imaging", f"{card['dimension']}d", *([] if task else ["self-supervised"])],
    }
    return str(yaml.safe_dump(keys, sort_keys=False))


def origin(card: weights.Card, task: str | None) -> str:
    """Where the weights are from, in one clause."""
    if task:
        return f", fine-tuned for {task} of {listed(card.get('class_names'))}."
    name = card.get("method", {}).get("name")
    return (
        f", converted from weights of the family {name}."
        if "family" in card
        else f", pre-trained with {name}."
    )


def method(card: weights.Card) -> list[str]:
    """How they were trained."""
    rows = {
        "method": card.get("method", {}).get("name"),
        "reference": card.get("citation"),
        "task": card.get("task", {}).get("name"),
        "started from": started_from(card),
        "steps": card.get("steps"),
        "samples seen": card.get("samples"),
        "precision": card.get("precision"),
        "foveate": f"{card.get('foveate')} ({card.get('commit')})",
    }
    return table(rows)


def started_from(card: weights.Card) -> str | None:
    """The weights that the run started from."""
    before = card.get("initial_weights")
    if before:
        named = before.get("method") or {}
        return f"weights of {named.get('name', 'others')}; their reference: {before.get('citation')}"
    return "random weights" if card.get("started_from") in (None, "random weights") else "weights of others"


def data(card: weights.Card) -> list[str]:
    """The images in counts and modalities; nothing about a single one."""
    facts = card.get("input") or {}
    shares = (facts.get("modalities") or {}).items()
    spacing = facts.get("spacing_mm")
    rows = {
        "images": card.get("images"),
        "patients": card.get("patients") or "not known",
        "modalities": ", ".join(f"{name} {share:.0%}" for name, share in shares) or "not known",
        "channels": card.get("in_channels"),
        "spacing in mm, smallest to largest": ", ".join(f"{s[0]:g} to {s[-1]:g}" for s in spacing or []),
        "licence of the images": card.get("data_licence"),
    }
    return table(rows)


def input_lines(source: Source) -> list[str]:
    """What the network reads."""
    card = source.card
    return table(
        {
            "axes": f"(batch, {card['in_channels']}, {', '.join(source.axes)}): {card['axis_order']}",
            "values": f"{UNIT}; the window: `{json.dumps(card.get('intensity'))}`",
            "normalisation": source.normalisation,
            "spacing in mm, median of training": card.get("spacing_mm"),
            "feature maps at strides": listed(source.encoder.strides),
            "channels of the maps": listed(source.encoder.channels),
        }
    )


def evaluation(figures: Mapping[str, Any] | None) -> list[str]:
    """The metrics with their intervals."""
    if figures is None:
        return ["None was given. `foveate export --evaluation FOLDER` puts that of `foveate evaluate` here."]
    head = f"{figures['cases']} images of {figures['patients']} patients, part: {figures['part']}."
    rows = ["| metric | value | 95 % interval over patients |", "|---|---|---|"]
    for name, each in figures["metrics"].items():
        low, high, value = each.get("low"), each.get("high"), each["value"]
        interval = "" if low is None or high is None else f"{low:.3f} to {high:.3f}"
        rows.append(f"| {name} | {'not defined' if value is None else f'{value:.4g}'} | {interval} |")
    notes = [figures["note"], ""] if figures.get("note") else []
    return [head, "", *notes, *rows]


def licence(card: weights.Card) -> list[str]:
    """Of the weights, and of what they started from."""
    before = card.get("initial_weights") or {}
    return table({"weights": card.get("weights_licence"), "initial weights": before.get("weights_licence")})


def loading(task: object) -> list[str]:
    """How foveate reads it."""
    lines = ["```", "import foveate", 'encoder = foveate.load_encoder("FOLDER")', "```"]
    return (
        [*lines, "", "`foveate predict --run FOLDER/model.safetensors` predicts with it."] if task else lines
    )


def table(rows: Mapping[str, object]) -> list[str]:
    """Rows of what is known."""
    known = {name: cell(value) for name, value in rows.items() if value not in (None, "")}
    return ["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in known.items())]


def cell(value: object) -> str:
    """A value in one cell."""
    return " ".join(str(value).replace("|", "\\|").split())


def listed(values: object) -> str:
    """Values with commas."""
    return ", ".join(map(str, values)) if isinstance(values, list | tuple) else str(values)

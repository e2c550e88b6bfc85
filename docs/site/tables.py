"""Tables of the keys of every command, from the Config classes that the commands themselves read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_type_hints

from foveate.cli import OWN
from foveate.core.config import field_values, is_config
from foveate.core.key_help import accepted_values, attribute_help, summary_of, written
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.runtime.registries import METHODS, TASKS

COMMANDS = {command.name: command for command in OWN}
NAMED = {"method": METHODS, "encoder": ENCODERS, "task": TASKS, "source": SOURCES}
HEAD = "| key | accepted | default | meaning |\n|---|---|---|---|\n"


def groups_of(config: object, prefix: str = "") -> Iterator[tuple[str, object]]:
    """A Config and those in it, with the words before their keys."""
    yield prefix, config
    for name, value in field_values(config).items():
        if is_config(value):
            yield from groups_of(value, f"{prefix}{name}.")


def cell(text: str) -> str:
    """Text that stays within one cell of a table."""
    return text.replace("|", r"\|").replace("<", r"\<").replace("*", r"\*")


def table_of(config: object, prefix: str) -> str:
    """The keys of one Config, without those of the Configs in it."""
    hints, meanings = get_type_hints(type(config)), attribute_help(type(config))
    rows = [
        f"| `--{prefix}{name}` | `{cell(accepted_values(hints[name]))}` "
        f"| {f'`{written(value)}`' if written(value) else ''} | {cell(meanings.get(name, ''))} |"
        for name, value in field_values(config).items()
        if not is_config(value)
        and not (name == "name" and prefix.rstrip(".").split(".")[-1] in (*NAMED, "base"))
    ]
    return HEAD + "\n".join(rows) if rows else ""


def variants(command: str) -> Iterator[tuple[str, str, object]]:
    """Every (title, prefix, Config) of a command that some choice of names gives."""
    spec, seen = COMMANDS[command].load_spec(), set()
    choices = [{}, *({f"{what}.name": name} for what, names in NAMED.items() for name in names.own)]
    for dimension in (2, 3):
        for chosen in choices:
            try:
                found = spec.defaults({"task.name": "segmentation", **chosen, "dimension": dimension})
            except FoveateError:  # an encoder of the other dimension
                continue
            of = "".join(f" {name}" for name in chosen.values())
            for prefix, config in groups_of(found):
                own = prefix.partition(".")[0] in NAMED
                key = (prefix, type(config))
                if key in seen or (own and not chosen):
                    continue
                seen.add(key)
                title = prefix.rstrip(".") or "the command's own"
                yield (
                    f"{title}{of if own else ''}: {summary_of(type(config))}" if prefix else title,
                    prefix,
                    config,
                )

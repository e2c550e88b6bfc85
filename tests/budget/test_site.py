"""The site shows every key, command and public name, and none that is not there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import foveate
from foveate.cli import OWN
from foveate.core.config import field_values, is_config
from foveate.core.key_help import attribute_help

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "site" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)
LISTED = json.loads((Path(foveate.__file__).parent / "listing.json").read_text())["keys"]


def shown(command):
    """The keys in the tables of a command."""
    text = "\n".join(tables.table_of(config, prefix) for _, prefix, config in tables.variants(command))
    return set(re.findall(r"^\| `--([\w.]+)`", text, re.MULTILINE))


@pytest.mark.parametrize("name", [c.name for c in OWN if not c.load_spec().keys])
def test_every_key_is_on_the_page(name):
    of_choices = {f"{what}.name" for what in tables.NAMED} | {"config", "recipe"}
    accepted = {key for key in LISTED[name] if not key.startswith("method.base.")}  # those of that method
    assert accepted - of_choices == {key for key in shown(name) if not key.startswith("method.base.")}


def test_every_command_is_on_the_page():
    page = (ROOT / "docs" / "reference" / "keys.md").read_text(encoding="utf-8")
    assert re.findall(r"^```\{keys\} (\w+)$", page, re.MULTILINE) == [command.name for command in OWN]


def test_every_public_name_is_explained():
    page = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    public = [name for name in foveate.__all__ if not name.startswith("_")]
    assert [name for name in public if not re.search(rf"\b{name}\(", page)] == []


def words(text):
    return {word.rstrip("s") for word in re.findall(r"[a-z]+", text.lower())}


@pytest.mark.parametrize("command", [c.name for c in OWN if not c.load_spec().keys])
def test_a_meaning_says_more_than_the_name(command):
    empty = [
        f"{prefix}{name}: {meaning}"
        for _, prefix, config in tables.variants(command)
        for name, meaning in attribute_help(type(config)).items()
        if not is_config(field_values(config).get(name))
        and not words(meaning) - words(f"{prefix} {name}".replace("_", " ")) - {"the", "a", "of"}
    ]
    assert empty == []

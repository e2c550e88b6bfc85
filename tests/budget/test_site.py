"""The site shows every key, command and public name, and none that is not there."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

import foveate
from foveate.cli import OWN, SWITCHES
from foveate.core.config import field_values, is_config
from foveate.core.key_help import attribute_help
from foveate.runtime.command import SHORT

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("tables", ROOT / "docs" / "site" / "tables.py")
tables = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tables)
LISTED = json.loads((Path(foveate.__file__).parent / "listing.json").read_text())["keys"]

PAGES = [ROOT / "README.md", *(p for p in (ROOT / "docs").rglob("*.md") if "adr" not in p.parts)]
FOREIGN = {  # options of pytest, torchrun, SLURM, containers, nnssl and scripts of benchmarks/
    *("pyargs", "foveate_method", "foveate_encoder", "foveate_task", "foveate_target", "version", "exclude"),
    *("nnodes", "nproc_per_node", "nodes", "ntasks", "shm", "dataset_dir", "output_dir", "config_file"),
    *("miniature", "picture"),
}
EARLIER = {"pass", "workers"}  # keys of 0.1.0, on the page about versions
EXAMPLES = {"key", "method.strength"}  # of the architecture and of the tutorial's own method
NAMED_KEY = re.compile(r"(?<![\w-])--([a-z][\w.]*+)(?![\w ]*-->)")  # not the arrows of a drawing


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


def unknown_keys(text):
    """Keys that a text names and no command accepts; `--task.*` and `--method.KEY` name a group."""
    accepted = {key for keys in LISTED.values() for key in keys}
    groups = {key[:end] for key in accepted for end in range(len(key)) if key[end] == "."}
    known = accepted | groups | set(SHORT) | set(SWITCHES) | FOREIGN | EARLIER | EXAMPLES
    found = {re.sub(r"\.[A-Z]\w*$", "", key).rstrip(".") for key in NAMED_KEY.findall(text)}
    return sorted(found - known)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_a_key_or_function_that_a_page_names_exists(page):
    text = page.read_text(encoding="utf-8")
    assert unknown_keys(text) == []
    functions = re.findall(r"(?<![\w./\"-])foveate\.([a-z]\w*)\(", text)
    assert [name for name in functions if not hasattr(foveate, name)] == []


def test_a_key_that_does_not_exist_is_found():
    assert (
        unknown_keys("`--steps 4 --task.crops.* --method.KEY --channels.colour keep`, raw --scan--> list")
        == []
    )
    assert unknown_keys("`--stepz 4 --task.crop.grid --method.KEY`") == ["stepz", "task.crop.grid"]


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

"""What answers without torch: the listing is what the commands accept, and nothing heavy is imported."""

import difflib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import foveate
from foveate.cli import OWN
from foveate.core.config import flatten, to_mapping
from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.runtime.registries import METHODS, TASKS, base_names, list_own_methods

FILE = Path(foveate.__file__).parent / "listing.json"
CHOICES = [
    {},
    *({"method.name": name} for name in METHODS.own),
    *(
        {"method.name": "region_contrast", "method.base.name": name}
        for name in base_names()
        if name in METHODS.own
    ),
    *({"task.name": name} for name in TASKS.own),
    *({"encoder.name": name} for name in ENCODERS.own),
    *({"source.name": name} for name in SOURCES.own),
]


def keys_of(spec):
    """Every key that some choice of names gives a command."""
    keys = {"config", *(["recipe"] if spec.recipes else [])}
    for dimension in (2, 3):
        for chosen in CHOICES:
            try:
                found = spec.defaults({"dimension": dimension, "task.name": "segmentation", **chosen})
            except FoveateError:  # an encoder of the other dimension
                continue
            keys |= {key.removeprefix("grid.") for key, _ in flatten(to_mapping(found))}
    return sorted(keys)


def test_the_listing_is_what_commands_accept():
    keys = {command.name: keys_of(command.load_spec()) for command in OWN}
    made = {"keys": keys, "methods": list_own_methods()}
    if os.environ.get("LISTING_UPDATE"):
        FILE.write_text(json.dumps(made, indent=0) + "\n", encoding="utf-8")
    changes = [*differences(json.loads(FILE.read_text(encoding="utf-8")), made)]
    assert not changes, "LISTING_UPDATE=1 python -m pytest tests/test_listing.py writes listing.json anew"


def differences(old, new):
    """Keys of commands, and lines of `foveate methods`, that are new (+) or gone (-)."""
    for what in {**old["keys"], **new["keys"]}:
        before, now = (set(listing["keys"].get(what, ())) for listing in (old, new))
        yield from [f"+ {what} --{key}" for key in sorted(now - before)]
        yield from [f"- {what} --{key}" for key in sorted(before - now)]
    if old["methods"] != new["methods"]:
        yield from difflib.ndiff(old["methods"], new["methods"])


def test_a_listing_that_is_older_than_the_code_says_which_keys_it_lacks():
    old = {"keys": {"plan": ["data", "gone"]}, "methods": []}
    new = {"keys": {"plan": ["data"], "scan": ["out"]}, "methods": ["toy"]}
    assert [*differences(old, new)] == ["- plan --gone", "+ scan --out", "+ toy"]
    assert [*differences(new, new)] == []


@pytest.mark.parametrize(
    ("arguments", "word", "code"),
    [
        (["--help"], "foveate pretrain --data", 0),
        (["--version"], "foveate", 0),
        (["methods"], "arXiv:2301.00772", 0),
        (["pretrian"], "did you mean pretrain", 2),
        (["pretrain", "--data", "x", "--stepps", "3"], "did you mean steps", 2),
        (["finetune", "--task", "segmentation", "--tasc.classes", "x"], "there is no such key", 2),
    ],
)
def test_answers_without_torch(arguments, word, code):
    program = (
        "import sys, foveate.cli as cli; code = cli.main(sys.argv[1:]); "
        "print('HEAVY', sorted({'torch', 'monai', 'scipy'} & set(sys.modules))); sys.exit(code)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, check=False
    )
    assert run.returncode == code, run.stderr
    assert word in run.stdout + run.stderr
    assert "HEAVY []" in run.stdout

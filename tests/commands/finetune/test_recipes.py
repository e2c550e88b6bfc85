"""Every recipe of fine-tuning is a run that only lacks data, weights and a place to go."""

from pathlib import Path

import pytest

import foveate
from foveate.commands.finetune import config as finetune_settings
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from foveate.runtime.command import layers

RECIPES = sorted((Path(foveate.__file__).parent / "recipes/finetune").glob("*.yaml"))
HEADER = ("command", "data", "hardware", "hours", "score")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_resolves_and_says_what_it_costs(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [sum(line.startswith(f"# {word} ") for line in lines) for word in HEADER] == [1] * len(HEADER)
    assert f"--recipe {path.stem} " in " ".join(lines)
    nested, rest = layers({"recipe": path.stem, "init": "none", "out": "run"}, recipes="finetune")
    given = dict(parsing.flatten(nested))
    rest |= {} if "dimension" in given else {"dimension": "2"}
    resolved = dict(parsing.flatten(parsing.to_mapping(finetune_settings.SPEC.resolve(nested, rest))))
    assert {key: resolved[key] for key in given} == given


def test_a_recipe_of_another_command_is_not_taken():
    with pytest.raises(FoveateError, match=r"--recipe pgl_ct: no such recipe.* Accepted: brats18, btcv, "):
        layers({"recipe": "pgl_ct"}, recipes="finetune")

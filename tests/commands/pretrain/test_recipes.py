"""Every recipe of the package is a run that only lacks data and a place to go."""

from pathlib import Path

import pytest

import foveate
from foveate.commands.pretrain import config as settings
from foveate.commands.pretrain.build import build_method
from foveate.core import config as parsing
from foveate.runtime.command import layers

RECIPES = sorted((Path(foveate.__file__).parent / "recipes/pretrain").rglob("*.yaml"))
HEADER = ("command", "data", "hardware", "hours", "score")


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.parametrize("size", ["", "small"])
def test_a_recipe_resolves_and_says_what_it_costs(path, size, tmp_path):
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [sum(line.startswith(f"# {word} ") for line in lines) for word in HEADER] == [1] * len(HEADER)
    assert f"--recipe {path.stem} " in " ".join(lines)
    flags = {"recipe": path.stem, "data": str(tmp_path), "out": str(tmp_path / "run")}
    nested, rest = layers({**flags, "size": size} if size else flags, recipes="pretrain")
    config = settings.SPEC.resolve(nested, rest)
    given = dict(parsing.flatten(nested))
    settings.SPEC.require({**given, **rest})
    resolved = dict(parsing.flatten(parsing.to_mapping(config)))
    assert {key: resolved[key] for key in given if key not in rest} == {
        k: v for k, v in given.items() if k not in rest
    }
    again = parsing.spelled_out(parsing.to_mapping(config))
    assert settings.SPEC.resolve(again, {}) == config
    if size == "small" and "encoder.width" not in given:
        assert sum(p.numel() for p in build_method(config).parameters()) > 0


ABLATIONS = {
    "siamese_only": ["method.middle_weight: 1.0 -> 0.0", "method.pixel_weight: 1.0 -> 0.0"],
    "pixels_only": ["method.local_weight: 1.0 -> 0.0", "method.siamese_weight: 1.0 -> 0.0"],
    "single_scale": ["method.scales: all -> [2]"],
    "with_skips": ["decoder.skips: False -> True"],
    "mlp_projector": ["method.projector: bn -> mlp"],
    "shared_scale": ["method.scale_sampling: per_pair -> shared"],
    "multicrop_locals": [
        "method.local_crops.inside",
        "method.local_crops.source_sizes",
        "method.local_crops.volume_share",
    ],
}


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_changes_what_it_names_and_nothing_else(name):
    nested, _ = layers({"recipe": f"pcrlv2_{name}"}, recipes="pretrain")
    plain, ablated = settings.SPEC.resolve({"dimension": 3}, {}), settings.SPEC.resolve(nested, {})
    found = parsing.differences(parsing.to_mapping(plain), parsing.to_mapping(ablated), ())
    assert len(found) == len(ABLATIONS[name])
    assert all(a.startswith(b) for a, b in zip(sorted(found), ABLATIONS[name], strict=True))

"""What a run writes down of its first samples: where their views lie, and what the method marks in them."""

import json

import numpy as np
import pytest
import torch
from tests.conftest import tiny_keys, write_cohort

import foveate
from foveate.pages.scenes import read_scenes
from foveate.runtime.report.runs import VIEWS
from foveate.views.alignment import seen_by_both
from foveate.views.geometry import apply, invert


def scenes_of(tmp_path, dimension, method, **keys):
    write_cohort(tmp_path / "data", dimension)
    run = tmp_path / "run"
    given = tiny_keys(dimension, tmp_path / "data", run, method, steps=1, health_every=0, **keys)
    assert foveate.pretrain(**given)
    return {scene.name: scene for scene in read_scenes(run / VIEWS)}


def test_a_voxel_is_seen_by_both_views_where_it_lies_in_the_other(tmp_path):
    rng = torch.Generator().manual_seed(0)
    affines = torch.eye(2, 3, dtype=torch.float64) + 0.3 * torch.rand(1, 2, 2, 3, generator=rng)
    affines[0, 1, :, 2] += 3
    found = seen_by_both(affines, (6, 7))
    for here, there in ((0, 1), (1, 0)):
        for voxel in np.ndindex(6, 7):
            place = apply(affines[0, here], torch.tensor([voxel], dtype=torch.float64))
            x, y = apply(invert(affines[0, there]), place)[0].tolist()
            assert bool(found[0, here][voxel]) == (0 <= x <= 5 and 0 <= y <= 6), voxel
    assert found.any()
    assert not found.all()


def test_the_overlap_of_pgl_is_marked_in_both_views(tmp_path):
    scenes = scenes_of(tmp_path, 3, {"name": "pgl"})
    assert list(scenes)[:3] == ["sample 1: its image", "sample 1: global view 1", "sample 1: global view 2"]
    names = [box.name for box in scenes["sample 1: its image"].boxes]
    assert names == ["global view 1", "global view 2"]
    for number in (1, 2):
        (layer,) = scenes[f"sample 1: global view {number}"].layers
        assert layer.name == "overlap"
        assert 0 < layer.regions.sum() <= layer.regions.size


def test_swapped_patches_are_marked(tmp_path):
    method = {"name": "context_restoration"}
    (layer,) = scenes_of(tmp_path, 2, method)["sample 1: global view 1"].layers
    assert layer.name == "swapped"
    assert 0 < layer.regions.mean() < 1


def test_super_pixels_are_marked(tmp_path):
    method = {"name": "region_contrast", "base": {"name": "byol"}}
    (layer,) = scenes_of(tmp_path, 2, method)["sample 2: global view 2"].layers
    assert layer.name == "superpixels"
    assert len(np.unique(layer.regions)) > 3


def test_of_a_slice_of_a_volume_its_own_image_is_shown(tmp_path):
    write_cohort(tmp_path / "data", 3, count=3)
    run = tmp_path / "run"
    keys = tiny_keys(2, tmp_path / "data", run, {"name": "simsiam"}, steps=1, health_every=0)
    keys["method"]["global_crops"]["grid"] = [32, 32]
    assert foveate.pretrain(**keys)
    (first, *_) = read_scenes(run / VIEWS)
    assert first.image.ndim == 2
    assert {box.corners.shape for box in first.boxes} == {(4, 2)}


@pytest.mark.parametrize(("every", "written"), [(0, False), (1, True)])
def test_previews_that_are_off_switch_it_off(tmp_path, every, written):
    assert bool(scenes_of(tmp_path, 2, {"name": "simsiam"}, preview_every=every)) == written


@pytest.mark.parametrize(("every", "steps"), [(200, [3]), (2, [2, 3]), (0, [])])
def test_health_is_measured_at_the_end_unless_it_is_off(tmp_path, every, steps):
    write_cohort(tmp_path / "data", 2)
    run = tmp_path / "run"
    keys = tiny_keys(2, tmp_path / "data", run, {"name": "simsiam"}, steps=3, preview_every=0)
    assert foveate.pretrain(**{**keys, "health_every": every})
    rows = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    assert [row["step"] for row in rows if "health_seconds" in row] == steps

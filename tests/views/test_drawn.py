"""What is drawn ahead is what a step would draw, whatever happens to a batch on its way."""

import pickle
from collections.abc import Mapping

import pytest
import torch
from lightning_fabric.plugins.precision.utils import _convert_fp_tensor
from lightning_fabric.utilities.apply_func import apply_to_collection
from torch.utils.data._utils.pin_memory import pin_memory

from foveate.core.types import Batch, Progress
from foveate.testing.test_method import first_batch
from foveate.views.appearance import Appearance, CropLook
from foveate.views.drawn import draw_ahead, drawn
from foveate.views.pipeline import corrupt_views, corrupted_crop

CPU = torch.device("cpu")
EVERY = Appearance(
    blur_sigma=(0.3, 1.0),
    blur_probability=0.5,
    noise_std=(0.0, 0.1),
    brightness=0.2,
    brightness_probability=0.5,
    contrast=0.2,
    log_gamma=(-0.2, 0.2),
    gamma_probability=0.5,
    bias_field=0.3,
    bezier_strength=1.0,
    bezier_probability=0.5,
    shuffle_window=(4, 3),
    paint_windows=3,
    swap_patch=(2, 2),
    swap_patch_largest=(5, 4),
    swap_count=4,
    cutout_size=(3, 3),
    cutout_count=2,
)
LOOK = CropLook(crop="global", appearance=EVERY)


def batch_of(index=(5, 9, 2)):
    views = torch.rand(len(index), 2, 1, 18, 14, generator=torch.Generator().manual_seed(0))
    return Batch(crops={"global": views}, affines={}, regions={}, labels={}, index=index)


def never(_draw, _batch, _seed):
    raise AssertionError("drawn in the step")


def journeys(batch):
    """What torch and Fabric do to a batch between a worker and `forward`."""
    copied = pickle.loads(pickle.dumps(batch))
    pinned = pin_memory(batch)  # makes lists of tuples
    rounded = apply_to_collection(batch, torch.Tensor, _convert_fp_tensor, dst_type=torch.bfloat16)
    return [copied, pinned, rounded]


def same(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]):
    pairs = [(one[name], other[name]) for name in one]
    return one.keys() == other.keys() and all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)


def test_what_came_along_is_to_the_bit_what_a_step_would_draw(monkeypatch):
    batch = draw_ahead(batch_of(), [LOOK, LOOK], 7)
    expected = LOOK.draw(batch, 7)
    assert {"swap", "paint", "cutout", "blur_rows", "bezier", "shuffle_window"} <= set(expected)
    monkeypatch.setattr(CropLook, "draw", never)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor, *_: tensor)  # wants a GPU
    for there in journeys(batch):
        assert same(drawn(there, LOOK, 7, CPU), expected)


def test_views_under_draws_that_came_along_are_those_of_corrupt():
    batch = batch_of()
    expected = corrupt_views(batch["crops"]["global"], batch["index"], EVERY, seed=7, name="global")
    for made in (batch, draw_ahead(batch, [LOOK], 7)):
        assert torch.equal(corrupted_crop(made, "global", EVERY, channels=1, seed=7), expected)


def test_what_is_of_other_samples_or_another_seed_is_not_used():
    batch = draw_ahead(batch_of(), [LOOK], 7)
    part: Batch = {**batch, "crops": {"global": batch["crops"]["global"][:2]}, "index": batch["index"][:2]}
    assert same(drawn(part, LOOK, 7, CPU), LOOK.draw(batch_of((5, 9)), 7))
    assert same(drawn(batch, LOOK, 8, CPU), LOOK.draw(batch_of(), 8))


@pytest.mark.parametrize("dimension", [2, 3])
@pytest.mark.parametrize("name", ["pcrlv2", "masked", "pgl", "region_contrast", "models_genesis"])
def test_a_step_draws_nothing_that_could_have_come_along(tiny, dimension, name, monkeypatch):
    """And draws can be sent to workers that are spawned."""
    _, method, batch = first_batch(tiny(dimension, method={"name": name}))
    draws = list(method.draws)
    assert pickle.loads(pickle.dumps(draws)) == draws
    for kind in {type(draw) for draw in draws}:
        monkeypatch.setattr(kind, "draw", never)
    assert method(batch, Progress(0, 10, 0))
    del batch["drawn"]
    with pytest.raises(AssertionError, match="drawn in the step"):
        method(batch, Progress(0, 10, 0))

"""Context Restoration and Models Genesis: what is restored from what, and by which decoder."""

import pytest
import torch

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.config import SPEC
from foveate.core.types import FoveateError, Progress
from foveate.testing.test_method import first_batch


def looks(tiny, dimension, name, **change):
    _, method, batch = first_batch(tiny(dimension, method={"name": name, **change}))
    return method, batch, *method.looks(batch, 0)


@pytest.mark.parametrize("dimension", [2, 3])
def test_context_restoration_keeps_every_voxel_and_moves_some(tiny, dimension):
    _, _, clean, swapped = looks(tiny, dimension, "context_restoration")
    assert clean.std() == pytest.approx(1, abs=0.01)
    ordered = (x.flatten(1).sort(1).values for x in (clean, swapped))
    torch.testing.assert_close(*ordered, rtol=0, atol=1e-5)
    moved = (clean - swapped).abs().amax(1) > 1e-4
    assert 0.02 < moved.float().mean() < 0.6


@pytest.mark.parametrize("error", ["l2", "l1", "huber"])
def test_weights_on_moved_voxels(tiny, error):
    method, batch, clean, swapped = looks(tiny, 3, "context_restoration", error=error)
    plain = method(batch, Progress(0, 10, 0))["restoration"].item()
    weighted, *_ = looks(tiny, 3, "context_restoration", error=error, moved_weight=5.0)
    heavy = weighted(batch, Progress(0, 10, 0))["restoration"].item()
    errors = {
        "l2": torch.nn.MSELoss(reduction="none"),
        "l1": torch.nn.L1Loss(reduction="none"),
        "huber": torch.nn.SmoothL1Loss(reduction="none"),
    }[error](method.restore(method.net(swapped)), clean)
    moved = (clean - swapped).abs() > 1e-5
    factor = torch.where(moved, 5.0, 1.0)
    assert plain == pytest.approx(errors.mean().item(), rel=1e-5)
    assert heavy == pytest.approx((errors * factor).sum().item() / factor.sum().item(), rel=1e-2)
    assert heavy != pytest.approx(plain, rel=1e-3)


def test_context_restoration_without_a_swap_is_refused(tiny):
    with pytest.raises(FoveateError, match="nothing to restore"):
        build_method(tiny(3, method={"name": "context_restoration", "global_appearance": {"swap_count": 0}}))


@pytest.mark.parametrize("dimension", [2, 3])
def test_models_genesis_restores_the_clean_view_from_damage(tiny, dimension):
    _, batch, clean, damaged = looks(tiny, dimension, "models_genesis")
    assert torch.equal(clean, batch["crops"]["global"].flatten(0, 1))
    assert (damaged != clean).flatten(1).any(1).all()
    assert damaged.min() >= 0
    assert damaged.max() <= 1
    linear, _, target, _ = looks(
        tiny, dimension, "models_genesis", restoration="linear", global_appearance={"normalisation": "zscore"}
    )
    assert linear.normalisation == "zscore"
    assert target.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", ["context_restoration", "models_genesis"])
def test_restoring_methods_have_skips_by_default_and_others_do_not(name):
    assert SPEC.resolve({"dimension": 3, "method": {"name": name}}, {}).decoder.skips
    assert not SPEC.resolve({"dimension": 3}, {}).decoder.skips


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_light_decoder_trains_and_has_fewer_weights(tiny, dimension):
    light = tiny(
        dimension, method={"name": "context_restoration"}, decoder={"light": True, "skips": False}, steps=2
    )
    full = tiny(dimension, method={"name": "context_restoration"}, decoder={"skips": False})
    sizes = [sum(p.numel() for p in build_method(c).net.decoder.parameters()) for c in (light, full)]
    assert sizes[0] < 0.5 * sizes[1]
    assert [list(build_method(c).exported()) for c in (light, full)] == [
        ["encoder"],
        ["encoder", "decoder"],
    ]
    assert run.pretrain(light)
    with pytest.raises(FoveateError, match="has no skips"):
        build_method(tiny(dimension, method={"name": "context_restoration"}, decoder={"light": True}))

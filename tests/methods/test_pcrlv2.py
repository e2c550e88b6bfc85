"""PCRLv2's own promises: what is computed, what is drawn, what each switch does."""

import itertools
from collections import Counter
from dataclasses import replace

import pytest
import torch

import parity
import pcrlv2_transcription as transcription
from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import Progress
from foveate.methods.pcrlv2 import PCRLv2
from foveate.runtime.steps import batches_from

GRIDS = {2: ([64, 64], [32, 32]), 3: ([16, 16, 8], [8, 8, 8])}
DIMENSIONS = pytest.mark.parametrize("dimension", [2, 3])


def published_pair(dimension, seed=5):
    """The transcription and the method with the same hashed weights, and inputs for both."""
    plain = transcription.hashed_network(dimension, 4, seed)
    weights = plain.state_dict()
    method = parity.published_method(dimension, list(weights[parity.STEM[dimension]].shape))
    method.load_state_dict({parity.translate(name, dimension): x for name, x in weights.items()})
    return plain, method.train(), transcription.hashed_inputs(seed, dimension, 4, *GRIDS[dimension])


def terms_of(method, x, scales, beta=0.7):
    return method.terms([x["target"]], [x["x1"], x["x2"]], x["locals"].transpose(0, 1), scales, beta)


def total(losses):
    return torch.stack(list(losses.values())).sum()


class Calls(Counter):
    """How often each named module ran forward."""

    def __init__(self, module):
        super().__init__()
        for name, child in module.named_modules():
            child.register_forward_hook(lambda *_, name=name: self.update([name]))

    def below(self, prefix):
        """Calls of the modules directly below a prefix, without those that never ran."""
        depth = prefix.count(".") + 1
        return {
            n[len(prefix) + 1 :]: c for n, c in self.items() if n.startswith(prefix) and n.count(".") == depth
        }


@DIMENSIONS
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_undrawn_heads_are_not_computed_at_the_same_loss(dimension, scale):
    """Only the drawn head runs, once: for view 1. The transcription runs every head for every view."""
    plain, method, x = published_pair(dimension)
    local = transcription.recorded_pairs(6, scale, plain.scales)
    expected = transcription.published_total(transcription.published_losses(plain, x, scale, local), 0.7)
    calls = Calls(method)
    losses = terms_of(method, x, ([scale], local))
    assert calls.below("restore.heads") == {str(scale): 1}
    assert calls.below("restore.final")["0"] == 1
    assert abs(total(losses).item() - expected.item()) < 1e-9
    wanted = [{scale, *(s for _, j, s in local if j == view)} for view in (0, 1)] + [{s for *_, s in local}]
    assert calls.below("embed") == Counter(str(s) for scales in wanted for s in scales)


@DIMENSIONS
@pytest.mark.parametrize("scale", [0, 1, 2])
def test_a_shared_scale_stops_the_decoder_there(dimension, scale):
    """View 2 and the sub-crops go no further than the drawn scale; view 1 is restored in full."""
    _, method, x = published_pair(dimension)
    calls = Calls(method)
    terms_of(method, x, ([scale], [(k, j, scale) for k in range(6) for j in (0, 1)]))
    blocks = range(len(method.net.channels))
    assert calls.below("net.decoder.blocks") == {str(i): 3 if i <= scale else 1 for i in blocks}


def gradient(method, x, scales):
    """The gradient of the total in one vector."""
    method.zero_grad()
    total(terms_of(method, x, scales)).backward()
    return torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in method.parameters()]
    )


def moments(gradients):
    """The exact mean over equally likely draws, and the total variance relative to its squared length."""
    stack = torch.stack(gradients)
    mean = stack.mean(0)
    return mean, float((stack - mean).square().sum(1).mean() / mean.square().sum())


# Sub-crops, scales, variance of shared and of per_pair.
VARIANCES = [
    (1, (0, 2), (0.8034, 0.5413)),
    pytest.param(1, (0, 1, 2), (4.978, 3.052), marks=pytest.mark.slow),  # 31 gradients in the place of 11
    pytest.param(2, (1, 2), (0.9256, 0.9595), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("crops", "scales", "variances"), VARIANCES)
def test_shared_per_pair_and_all_have_the_same_expected_gradient(crops, scales, variances):
    """All S draws of `shared` and all S^(1 + 2K) of `per_pair`, in 3D at width 4 with hashed weights.

    The variances are measured here, as a share of the squared length of the expected gradient.
    """
    _, method, x = published_pair(3)
    x = {**x, "locals": x["locals"][:crops]}
    every = [(k, j) for k in range(crops) for j in (0, 1)]
    shared, shared_variance = moments([gradient(method, x, ([s], [(*e, s) for e in every])) for s in scales])
    draws = itertools.product(scales, repeat=1 + len(every))
    pairs = [([s], [(*e, i) for e, i in zip(every, drawn, strict=True)]) for s, *drawn in draws]
    per_pair, pair_variance = moments([gradient(method, x, drawn) for drawn in pairs])
    averaged = gradient(method, x, (list(scales), [(*e, s) for e in every for s in scales]))
    longest = averaged.abs().max()
    assert (shared - averaged).abs().max() <= 1e-9 * longest
    assert (per_pair - averaged).abs().max() <= 1e-9 * longest
    assert (shared_variance, pair_variance) == pytest.approx(variances, rel=1e-3)


TERMS = {"pixel", "middle", "siamese", "local"}
SWITCHES = {
    "pixels only": ({"siamese_weight": 0, "local_weight": 0}, {}, {"pixel", "middle"}),
    "siamese only": ({"pixel_weight": 0, "middle_weight": 0}, {}, {"siamese", "local"}),
    "single scale": ({"scales": [2]}, {}, TERMS),
    "with skips": ({}, {"decoder": {"skips": True}}, TERMS),
    "mlp projector": ({"projector": "mlp"}, {}, TERMS),
    "shared scale": ({"scale_sampling": "shared"}, {}, TERMS),
    "all scales": ({"scale_sampling": "all"}, {}, TERMS),
    "both restored": ({"restore_views": "both"}, {}, TERMS),
    "multi-crop": (
        {"local_crops": {"inside": "", "source_sizes": [], "volume_share": [0.05, 0.3]}},
        {},
        TERMS,
    ),
}


def first_batch(config):
    fabric, method = run.build_fabric(config), build_method(config)
    cache = open_cache(config)
    return method, next(batches_from(config, cache, method, fabric, 0))


@DIMENSIONS
@pytest.mark.parametrize("switch", SWITCHES)
def test_every_switch_runs_with_its_terms(tiny, dimension, switch):
    keys, others, expected = SWITCHES[switch]
    config = tiny(dimension, method=keys, **others)
    method, batch = first_batch(config)
    losses = method(batch, Progress(0, 4, 0))
    assert set(losses) == expected
    assert all(torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in method.parameters())
    if switch == "single scale":
        assert {s for s, *_ in [method.draw(2, Progress(step, 9, 0))[0] for step in range(9)]} == {2}
        assert list(method.restore.heads) == list(method.embed) == ["2"]


@DIMENSIONS
def test_restoring_both_views_averages_them(dimension):
    _, method, x = published_pair(dimension)
    scales = ([1], [(0, 0, 1)])
    targets, views = [x["target"], 1 - x["target"]], [x["x1"], x["x2"]]
    crops = x["locals"].transpose(0, 1)
    one, other = (method.terms(targets[i:], views[i:] + views[:i], crops, scales, 0.7) for i in (0, 1))
    both = PCRLv2(method.net, replace(method.config, restore_views="both")).double()
    both.load_state_dict(method.state_dict())
    found = both.terms(targets, views, crops, scales, 0.7)
    for name in ("pixel", "middle"):
        assert found[name].item() == pytest.approx((one[name] + other[name]).item() / 2, rel=1e-12)


@DIMENSIONS
def test_the_middle_weight_decays_unless_constant(tiny, dimension):
    """On a half cosine over the run's own length: 1, 1/2 and 0 at its start, middle and end."""
    method, batch = first_batch(tiny(dimension))
    constant, _ = first_batch(tiny(dimension, method={"middle_decay": "constant"}))
    constant.load_state_dict(method.state_dict())
    targets, views, crops = method.looks(batch, 0)
    scales = method.draw(2, Progress(0, 8, 0))
    found = [
        [
            m.terms(targets, views, crops, scales, Progress(step, 8, 0).half_cosine)["middle"].item()
            for step in (0, 4, 8)
        ]
        for m in (method, constant)
    ]
    (start, half, end), steady = found
    assert half == pytest.approx(start / 2, rel=1e-6)
    assert end == pytest.approx(0, abs=1e-9)
    assert steady == pytest.approx([start] * 3, rel=1e-6)


@pytest.fixture(scope="module", params=[2, 3])
def drawing(request):
    return published_pair(request.param)[1]


def test_draws_repeat_and_the_pair_knows_nothing_of_the_crops(drawing):
    for step in range(50):
        progress = Progress(step, 50, 3)
        assert drawing.draw(6, progress) == drawing.draw(6, progress)
        assert drawing.draw(6, progress)[0] == drawing.draw(2, progress)[0]
    seeds = [[drawing.draw(6, Progress(step, 50, seed)) for step in range(50)] for seed in (3, 4)]
    assert seeds[0] != seeds[1]


def test_scales_are_drawn_uniformly_and_independently(drawing):
    """Chi-square over 3000 steps; 30 is beyond the 0.9999 quantile at 4 degrees of freedom, and 55 at 24."""
    count = len(drawing.scales)
    draws = [drawing.draw(2, Progress(step, 3000, 0)) for step in range(3000)]
    columns = [[pair[0] for pair, _ in draws]]
    columns += [[local[i][2] for _, local in draws] for i in range(4)]
    for column in columns:
        assert chi_square(Counter(column), range(count), 3000) < 30
    for a, b in itertools.combinations(columns, 2):
        both = Counter(zip(a, b, strict=True))
        assert chi_square(both, itertools.product(range(count), repeat=2), 3000) < 55


def chi_square(found, cells, total_count):
    cells = list(cells)
    expected = total_count / len(cells)
    return sum((found[cell] - expected) ** 2 / expected for cell in cells)

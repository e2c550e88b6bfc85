"""PGL: the aligned term against a slow loop, levels, and what it does with an overlap too thin to count."""

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from foveate.core.types import Progress
from foveate.methods.pgl import Branch
from foveate.testing.test_method import first_batch


def built(tiny, dimension, **change):
    _, method, batch = first_batch(tiny(dimension, method={"name": "pgl", **change}))
    return method.double(), {**batch, "crops": {k: v.double() for k, v in batch["crops"].items()}}


def slow_local(method, batch):
    """Cell by cell: where it lies in the volume, SciPy's interpolation, the squared distance."""
    views = method.views(batch, 0)
    online, target = (
        [branch(x)["local"].detach() for x in views] for branch in (method.online, method.target)
    )
    guess = [method.predictors["local"](z.movedim(1, -1).flatten(0, -2)) for z in online]
    shape = online[0].movedim(1, -1).shape
    p = [g.reshape(shape).movedim(-1, 1).detach().numpy() for g in guess]
    z = [t.numpy() for t in target]
    cells, size = np.array(p[0].shape[2:]), np.array(views[0].shape[2:])
    total, count = 0.0, 0
    for b, affines in enumerate(batch["affines"]["global"].double().numpy()):
        lows, highs = [], []
        for affine in affines:
            ends = np.stack([affine[:, :-1] @ e + affine[:, -1] for e in (-0.5 + 0 * size, size - 0.5)])
            lows.append(ends.min(0))
            highs.append(ends.max(0))
        low, high = np.maximum(*lows), np.minimum(*highs)
        for cell in np.ndindex(*cells):
            place = low + (np.array(cell) + 0.5) * (high - low) / cells
            at = []
            for affine in affines:
                index = np.linalg.solve(affine[:, :-1], place - affine[:, -1])
                at.append((index + 0.5) * cells / size - 0.5)
            if any((a < -1e-4).any() or (a > cells - 1 + 1e-4).any() for a in at):
                continue
            read = lambda maps, v: np.array(  # noqa: E731
                [map_coordinates(c, at[v][:, None], order=1, mode="nearest")[0] for c in maps[v][b]]  # noqa: B023
            )
            for one, other in ((0, 1), (1, 0)):
                a, t = read(p, one), read(z, other)
                total += ((a / np.linalg.norm(a) - t / np.linalg.norm(t)) ** 2).sum()
            count += 1
    return total / max(1, count), count


@pytest.mark.parametrize("dimension", [2, 3])
def test_the_local_term_is_the_slow_loop(tiny, dimension):
    rotation = {"global_crops": {"rotation_degrees": 0.0}}
    method, batch = built(tiny, dimension, **rotation)
    slow, count = slow_local(method, batch)
    assert count > 10
    assert method(batch, Progress(0, 10, 0))["local"].item() == pytest.approx(slow, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "decoded", "exports"),
    [
        ({"level": 0}, 1, ["encoder"]),
        ({"level": 2}, 3, ["encoder", "decoder"]),
        ({"features": "encoder", "level": 0}, 0, ["encoder"]),
        ({"features": "encoder", "level": 2}, 0, ["encoder"]),
        ({"global_weight": 0.5}, 1, ["encoder"]),
        ({"local_weight": 0.0, "global_weight": 1.0}, 0, ["encoder"]),
    ],
)
def test_levels_and_terms(tiny, change, decoded, exports):
    method, batch = built(tiny, 3, **change)
    assert len(method.net.decoder.blocks) == decoded
    assert list(method.exported()) == exports
    losses = method(batch, Progress(0, 10, 0))
    weights = {"local": method.config.local_weight, "global": method.config.global_weight}
    assert list(losses) == [term for term, weight in weights.items() if weight]
    sum(losses.values()).backward()
    trained = {n: p for n, p in method.named_parameters() if p.requires_grad}
    assert [n for n, p in trained.items() if p.grad is None] == []
    finest = method.online(method.views(batch, 0)[0])
    if "local" in finest:
        from_encoder = change.get("features") == "encoder"
        stride = (method.net.encoder.strides[::-1] if from_encoder else method.net.strides)[
            method.config.level
        ]
        assert finest["local"].shape[2:] == tuple(n // stride for n in batch["crops"]["global"].shape[3:])


def test_local_weight_0_is_byol_with_its_target(tiny):
    method, batch = built(tiny, 3, local_weight=0.0, global_weight=1.0)
    z = [Branch(method.net, method.projectors, method.config)(x)["global"] for x in method.views(batch, 0)]
    p = [method.predictors["global"](side) for side in z]
    cosines = [torch.cosine_similarity(a, b) for a, b in ((p[0], z[1]), (p[1], z[0]))]
    assert method(batch, Progress(0, 10, 0))["global"].item() == pytest.approx(
        sum(2 - 2 * c.mean().item() for c in cosines)
    )


def test_views_that_share_no_whole_cell_cost_nothing_and_break_nothing(tiny):
    method, batch = built(tiny, 3)
    batch["affines"]["global"][:, 1, :, -1] = batch["affines"]["global"][:, 0, :, -1] + 500.0
    del batch["drawn"]  # it is of views that meet
    loss = method(batch, Progress(0, 10, 0))["local"]
    loss.backward()
    assert loss.item() == 0
    assert all(torch.isfinite(p.grad).all() for p in method.parameters() if p.requires_grad)


def test_the_preview_shows_one_place_twice(tiny):
    method, batch = built(tiny, 3, global_appearance={"noise_probability": 0.0, "blur_probability": 0.0})
    pictures = method.preview(batch, Progress(0, 10, 0))
    one, two = pictures["overlap in 1"].flatten(1), pictures["overlap in 2"].flatten(1)
    for a, b in zip(one, two, strict=True):
        assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.8

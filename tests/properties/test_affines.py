"""Algebra of affines, and ramps seen through them."""

import torch
from hypothesis import given, settings, strategies as st

from foveate.views import geometry as g
from foveate.views.low_pass import low_pass_margin, low_pass_of


@st.composite
def views(draw, margin=0.0):
    """A view of a volume of at least 12 voxels an axis: (affine, grid)."""
    n = draw(st.sampled_from([2, 3]))
    each = lambda s: draw(st.tuples(*[s] * n))  # noqa: E731
    low = each(st.integers(0, 6))
    size, grid = each(st.integers(4, 14)), each(st.integers(2, 9))
    affine = g.view_affine(
        low,
        [a + b for a, b in zip(low, size, strict=True)],
        grid,
        flips=each(st.booleans()),
        angles_degrees=draw(st.tuples(*[st.floats(-40, 40)] * (n * (n - 1) // 2))),
        zooms=each(st.floats(0.8, 1.25)),
        spacing_mm=each(st.floats(0.5, 3)),
    )
    return affine, grid


def points(n):
    return torch.rand(5, n, generator=torch.Generator().manual_seed(n), dtype=torch.float64) * 10


@settings(max_examples=40, deadline=None)
@given(views(), views())
def test_compose_invert_apply(first, second):
    (a, _), (b, _) = first, second
    p = points(len(a))
    assert torch.allclose(g.apply(g.invert(a), g.apply(a, p)), p, atol=1e-8)
    identity = g.compose(g.invert(a), a)
    assert torch.allclose(identity, torch.eye(len(a) + 1, dtype=torch.float64)[:-1], atol=1e-8)
    if len(a) == len(b):
        assert torch.allclose(g.apply(g.compose(a, b), p), g.apply(a, g.apply(b, p)), atol=1e-8)
        stacked = g.compose(torch.stack([a, b]), torch.stack([b, a]))
        assert torch.allclose(stacked[1], g.compose(b, a))


@settings(max_examples=60, deadline=None)
@given(views())
def test_a_ramp_shows_the_mapped_coordinates(view):
    affine, grid = view
    shape = (21, 25, 23)[: len(grid)]
    axes = [torch.arange(s, dtype=torch.float64) for s in shape]
    ramp = torch.stack(torch.meshgrid(*axes, indexing="ij"))  # channel i holds coordinate i
    seen = g.sample(ramp, affine, grid).flatten(1)
    cells = torch.stack(torch.meshgrid(*[torch.arange(c).double() for c in grid], indexing="ij"))
    where = g.apply(affine, cells.flatten(1).T).T
    margin = low_pass_margin(low_pass_of(affine.tolist()))
    reach = torch.tensor(margin)[:, None]  # the low-pass bends a ramp at the edge only
    size = torch.tensor(shape)[:, None]
    inside = ((where >= reach) & (where <= size - 1 - reach)).all(0)
    assert torch.allclose(seen[:, inside], where[:, inside], atol=1e-8)
    beyond = ((where < -0.5 - 1e-9) | (where > size - 0.5 + 1e-9)).any(0)
    assert not seen[:, beyond].any()

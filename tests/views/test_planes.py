"""2D views by `grid_sample` are those by gathers, wherever they leave their image."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.views.interpolate import sample_linear
from foveate.views.low_pass import Summed
from foveate.views.planes import sample_planes


def rand(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_property_views_are_those_of_gathers(data):
    """Turned by any angle, columns that move along one axis only, extents that end inside a voxel."""
    number = lambda low, high: data.draw(st.floats(low, high))  # noqa: E731
    grid = data.draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    images, affines, extents = [], [], []
    for _ in range(data.draw(st.integers(1, 3))):
        shape = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
        images.append(rand(2, *shape))
        linear = np.array([[number(-3, 3) for _ in range(2)] for _ in range(2)])
        linear *= data.draw(st.sampled_from([np.ones((2, 2)), np.eye(2), np.eye(2)[::-1], np.zeros((2, 2))]))
        affines.append(np.column_stack([linear, [number(-6, 14), number(-6, 14)]]))
        extents.append([size - number(0, 0.9) for size in shape])
    affines, extents = np.array(affines), np.array(extents)
    cells = np.moveaxis(np.indices(grid), 0, -1).reshape(-1, 2)
    places = np.einsum("vij,cj->vci", affines[:, :, :2], cells) + affines[:, None, :, 2]
    unsure = np.minimum(np.abs(places + 0.5), np.abs(places - extents[:, None] + 0.5)).min(2) < 1e-9
    found = sample_planes((Summed(image, 0.25, 2.0) for image in images), affines, grid, extents)
    expected = sample_linear([(image - 0.25) * 2 for image in images], affines, grid, extents)
    differ = (found - expected).abs().amax(1).reshape(len(images), -1) > 1e-10
    assert not (differ.numpy() & ~unsure).any()
    assert found.shape == (len(images), 2, *grid)


def test_a_row_exactly_on_an_edge_is_kept_as_by_gathers():
    image, extent = torch.ones(1, 4, 9, dtype=torch.float64), np.array([[4.0, 9.0]])
    for row in ([0.5, 0, -0.5], [-0.5, 0, 3.5], [0, 0, 3.5], [0, 0, 3.6]):
        affine = np.array([[row, [0.3, 0.5, -0.5]]])
        found = sample_planes([Summed(image, 0.0, 1.0)], affine, (9, 9), extent)
        assert torch.equal(found, sample_linear([image], affine, (9, 9), extent))


@pytest.mark.parametrize("turn", [0.0, 0.2])
def test_cells_beyond_every_edge_are_zero(turn):
    image = torch.ones(1, 8, 8)
    affine = np.array([[[1.0, turn, -4.0], [-turn, 1.0, -4.0]]])
    view = sample_planes([Summed(image, 0.0, 1.0)], affine, (16, 16), np.array([[8.0, 8.0]]))[0, 0]
    for edge in (view[0], view[-1], view[:, 0], view[:, -1]):
        assert not edge.any()
    assert view[8, 8] == pytest.approx(1)
    assert 48 <= view.sum() <= 64


def test_single_precision_of_places_moves_no_value_by_much():
    image = rand(1, 900, 1100)
    affine = np.array([[[3.1, 0.4, 20.0], [-0.3, 3.4, 90.0]]])
    wide, narrow = (
        sample_planes([Summed(each, 0.0, 1.0)], affine, (224, 224), np.array([[900.0, 1100.0]]))
        for each in (image, image.float())
    )
    assert (wide - narrow).abs().max() < 5e-4  # of white noise; places are good to 1e-4 voxels

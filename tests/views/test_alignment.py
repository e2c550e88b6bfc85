"""Where two views overlap equal places have equal coordinates, under any crop, flip, scale, anisotropy."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies as st

from foveate.core.types import CropSpec, FoveateError
from foveate.views import geometry as g
from foveate.views.alignment import (
    aligned,
    cell_affines,
    cell_centres,
    inside,
    meet,
    overlap_affines,
    overlap_of,
    read,
    shares,
)
from foveate.views.boxes import draw_boxes, iou
from foveate.views.pipeline import draw_affines


def read_together(maps, affines, view):
    return aligned(maps, overlap_of(affines, view, maps[0].shape[2:]))


def view_of(draw, n, shape, grid):
    low = [draw(st.integers(0, shape[i] - 4)) for i in range(n)]
    high = [draw(st.integers(low[i] + 4, shape[i])) for i in range(n)]
    return g.view_affine(
        low,
        high,
        grid,
        flips=[draw(st.booleans()) for _ in range(n)],
        angles_degrees=[0.0] * (n * (n - 1) // 2),
        zooms=[1.0] * n,
        spacing_mm=[1.0] * n,
    )


@st.composite
def scenes(draw):
    """Two views of each of three volumes, with feature maps of another size on every axis."""
    n = draw(st.sampled_from([2, 3]))
    cells = [draw(st.integers(1, 6)) for _ in range(n)]
    view = [c * draw(st.sampled_from([1, 2, 4])) for c in cells]
    shape = [draw(st.integers(8, 200)) for _ in range(n)]
    views = [torch.stack([view_of(draw, n, shape, view) for _ in range(2)]) for _ in range(3)]
    return n, cells, view, torch.stack(views).float()


def coordinates(affines, view, cells):
    """Source coordinates of every feature cell's centre, by a slow loop: (B, n, *cells)."""
    maps = np.zeros((len(affines), len(cells), *cells))
    for b, affine in enumerate(affines.double().numpy()):
        for cell in np.ndindex(*cells):
            centre = [(i + 0.5) * v / c - 0.5 for i, v, c in zip(cell, view, cells, strict=True)]
            maps[(b, slice(None), *cell)] = affine[:, :-1] @ centre + affine[:, -1]
    return torch.from_numpy(maps).float()


@settings(max_examples=60, deadline=None)
@given(scenes())
def test_ramp_maps_agree_wherever_cells_count(scene):
    n, cells, view, affines = scene
    maps = [coordinates(affines[:, v], view, cells) for v in (0, 1)]
    (one, two), valid = read_together(maps, affines, view)
    assert one.shape == two.shape == (3, n, *cells)
    assert valid.shape == (3, *cells)
    gap = ((one - two).abs() * valid[:, None]).max()
    assert gap < 1e-3
    common = overlap_affines(affines[:, 0].double(), affines[:, 1].double(), view, cells)
    places = coordinates(common, cells, cells)
    assert ((one - places).abs() * valid[:, None]).max() < 1e-3


def two_views(low, high, grid, flips=(False, False)):
    boxes = [((0,) * len(grid), high[0]), (low, high[1])]
    pair = [
        g.view_affine(
            a,
            b,
            grid,
            flips=[flip] * len(grid),
            angles_degrees=[0.0] * (len(grid) * (len(grid) - 1) // 2),
            zooms=[1.0] * len(grid),
            spacing_mm=[1.0] * len(grid),
        )
        for (a, b), flip in zip(boxes, flips, strict=True)
    ]
    return torch.stack(pair)[None]


def test_cells_nearer_than_half_a_cell_to_a_border_do_not_count():
    """Boxes of 16 with cells of 4 overlap on [8, 16): of 4 common cells the outer ones lie 1 voxel inside."""
    affines = two_views((8, 0), ((16, 16), (24, 16)), (16, 16))
    grid = meet(affines[:, 0], affines[:, 1], (16, 16), (4, 4))
    assert grid.valid[0].tolist() == [[False] * 4, [True] * 4, [True] * 4, [False] * 4]


@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
def test_unaligned_maps_do_not_agree(flips):
    """The negative control of the ramp test: half a cell of mistake is seen."""
    affines = two_views((4, 8), ((32, 32), (36, 40)), (16, 16), flips)
    maps = [coordinates(affines[:, v], (16, 16), (8, 8)) for v in (0, 1)]
    (one, two), valid = read_together(maps, affines, (16, 16))
    assert ((one - two).abs() * valid[:, None]).max() < 1e-3
    edges = affines.clone()
    edges[:, 1, :, -1] += 2.0  # half a feature cell
    (one, two), valid = read_together(maps, edges, (16, 16))
    assert ((one - two).abs() * valid[:, None]).max() > 1


def test_turned_views_agree_too():
    axes = {"flips": [False] * 3, "spacing_mm": [1.0, 1.0, 2.0]}
    pair = [
        g.view_affine((4, 6, 2), (40, 38, 30), (16, 16, 16), angles_degrees=a, zooms=z, **axes)
        for a, z in (([10.0, -8.0, 5.0], [1.0, 1.1, 0.9]), ([-7.0, 3.0, 9.0], [1.0, 0.95, 1.0]))
    ]
    affines = torch.stack(pair)[None].float()
    maps = [coordinates(affines[:, v], (16, 16, 16), (8, 8, 8)) for v in (0, 1)]
    (one, two), valid = read_together(maps, affines, (16, 16, 16))
    assert valid.float().mean() > 0.3
    assert ((one - two).abs() * valid[:, None]).max() < 1e-3


def test_views_that_do_not_meet_have_no_cell():
    affines = two_views((40, 0), ((16, 16), (56, 16)), (16, 16))
    assert not meet(affines[:, 0], affines[:, 1], (16, 16), (4, 4)).valid.any()


def test_cells_are_centred_and_the_edge_cells_count_from_their_centres():
    affine = g.box_affine((0, 0), (8, 8), (8, 8))[None]
    cells = cell_affines(affine, (8, 8), (2, 2))
    assert cells[0].tolist() == [[4.0, 0.0, 1.5], [0.0, 4.0, 1.5]]
    same = torch.eye(2, 3, dtype=torch.float64)[None]
    assert inside(same, (3, 3)).all()
    shifted = same + torch.tensor([[0, 0, 0.2], [0, 0, 0]])
    assert inside(shifted, (3, 3))[0].tolist() == [[True] * 3, [True] * 3, [False] * 3]
    image = torch.rand(1, 2, 3, 3)
    torch.testing.assert_close(read(image, g.lattice(g.to_unit(same, image.shape[2:]), (3, 3))), image)


SPECS = [
    (
        (60, 50, 20),
        CropSpec(count=2, grid=(32, 32, 16), grid_scale=(1.1, 1.4), min_iou=0.1, flip_axes=(0, 1, 2)),
    ),
    ((300, 200), CropSpec(count=2, grid=(96, 64), grid_scale=(1.1, 1.4), min_iou=0.1, flip_axes=(0, 1))),
]


@pytest.mark.parametrize(("shape", "spec"), SPECS)
def test_views_of_a_scaled_grid_overlap_and_some_cell_counts(shape, spec):
    """110 to 140 % of the grid, drawn per axis, clamped to the volume; never without overlap."""
    seen, counted = [], 0
    for index in range(300):
        boxes = draw_boxes(shape, {"global": spec}, seed=0, index=index)["global"]
        assert iou(*boxes) >= 0.1
        for box in boxes:
            for size, cells, room in zip(box.size, spec.grid, shape, strict=True):
                assert min(round(1.1 * cells) - 1, room) <= size <= min(round(1.4 * cells) + 1, room)
        seen.append(boxes[0].size[1] / spec.grid[1])
        affines = draw_affines(boxes, "global", spec, [1.0] * len(shape), seed=0, index=index)
        valid = meet(*affines[None].unbind(1), spec.grid, [n // 4 for n in spec.grid]).valid
        counted += bool(valid.any())
    assert min(seen) < 1.15
    assert max(seen) > 1.35
    assert counted >= 297


def test_a_box_has_one_rule_for_its_size():
    spec = CropSpec(count=1, grid=(8, 8), grid_scale=(1.0, 1.2), source_sizes=((8, 8),))
    with pytest.raises(FoveateError, match="both say how large a box is"):
        draw_boxes((20, 20), {"global": spec}, seed=0, index=0)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_shares_of_the_image_are_those_of_a_loop(data):
    n = data.draw(st.sampled_from([2, 3]))
    cells = [data.draw(st.integers(1, 4)) for _ in range(n)]
    view = [c * data.draw(st.sampled_from([1, 2, 3])) for c in cells]
    shapes = [[data.draw(st.integers(8, 90)) for _ in range(n)] for _ in range(2)]
    rows = [torch.stack([view_of(data.draw, n, shape, view) for _ in range(2)]) for shape in shapes]
    affines = torch.stack(rows)  # (B, V, n, n+1)
    found = shares(affines.float(), cell_centres(view, cells), torch.tensor(shapes))
    assert found.shape == (2, 2, int(np.prod(cells)), n)
    for b, v in np.ndindex(2, 2):
        for p, cell in enumerate(np.ndindex(*cells)):
            centre = [
                (k + 0.5) * size / count - 0.5 for k, size, count in zip(cell, view, cells, strict=True)
            ]
            for axis in range(n):
                voxel = float(affines[b, v, axis, n])
                voxel += sum(float(affines[b, v, axis, k]) * centre[k] for k in range(n))
                wanted = min(1.0, max(0.0, (voxel + 0.5) / shapes[b][axis]))
                assert float(found[b, v, p, axis]) == pytest.approx(wanted, abs=1e-4)


def test_the_faces_of_an_image_are_at_0_and_1():
    whole = g.box_affine([0, 0], [40, 10], [4, 1])[None, None]
    corners = torch.tensor([[-0.5, -0.5], [3.5, 0.5], [-2.0, 0.0]])
    found = shares(whole, corners, torch.tensor([[40, 10]]))
    assert found[0, 0].tolist() == [[0.0, 0.0], [1.0, 1.0], [0.0, 0.5]]

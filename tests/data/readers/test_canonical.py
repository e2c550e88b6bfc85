"""There and back: any orientation of axes, any flip, oblique or sheared."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from nibabel.affines import apply_affine

from foveate.data.readers.canonical import (
    canonical_affine,
    canonical_volume,
    orientation_of,
    source_affine,
    to_canonical,
    to_source,
)
from foveate.data.readers.refusals import RefusalError

SHAPE = (3, 4, 5)
RAMP = np.arange(60).reshape(SHAPE)


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from(list(permutations(range(3)))),
    flips=st.sampled_from(list(product((-1, 1), repeat=3))),
    lean=st.lists(st.floats(-0.3, 0.3), min_size=9, max_size=9),
    offset=st.lists(st.floats(-500, 500), min_size=3, max_size=3),
)
def test_every_voxel_keeps_its_place_and_comes_back(order, flips, lean, offset):
    affine = np.eye(4)
    affine[:3, :3] = ((np.eye(3) + np.reshape(lean, (3, 3))) @ np.diag(np.multiply(flips, (0.5, 1, 3))))[
        :, order
    ]
    affine[:3, 3] = offset
    orientation = orientation_of(affine)
    turned, moved = to_canonical(RAMP, orientation), canonical_affine(affine, orientation, SHAPE)
    for index in np.ndindex(turned.shape):
        source = np.argwhere(turned[index] == RAMP)[0]
        np.testing.assert_allclose(apply_affine(moved, index), apply_affine(affine, source), atol=1e-9)
    assert (np.diag(moved[:3, :3]) > 0).all()
    np.testing.assert_array_equal(to_source(turned, orientation), RAMP)
    np.testing.assert_allclose(source_affine(moved, orientation, turned.shape), affine, atol=1e-9)


@pytest.mark.parametrize("affine", [np.diag([1.0, 1, 0, 1]), np.full((4, 4), np.nan)])
def test_affine_without_inverse_is_refused(affine):
    with pytest.raises(RefusalError, match="inverted"):
        canonical_volume(RAMP, affine)

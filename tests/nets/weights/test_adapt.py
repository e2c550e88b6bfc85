"""Adaptations of single weights against what they promise and against SciPy."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings, strategies as st
from scipy.ndimage import zoom

from foveate.nets.weights.adapt import Adapted, adapt, change_channels, inflate, resize_table, window_of

CONV = {2: F.conv2d, 3: F.conv3d}


@pytest.mark.parametrize("dimension", [2, 3])
@given(channels=st.integers(2, 6), seed=st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_replicated_image_gives_what_it_gave(dimension, channels, seed):
    generator = torch.Generator().manual_seed(seed)
    one = torch.randn(5, 1, *[3] * dimension, generator=generator, dtype=torch.float64)
    many = torch.randn(5, channels, *[3] * dimension, generator=generator, dtype=torch.float64)
    image = torch.randn(1, 1, *[6] * dimension, generator=generator, dtype=torch.float64)
    stacked = image.repeat(1, channels, *[1] * dimension)
    conv = CONV[dimension]
    assert torch.allclose(conv(stacked, change_channels(one, channels)), conv(image, one), atol=1e-12)
    assert torch.allclose(conv(image, change_channels(many, 1)), conv(stacked, many), atol=1e-12)


def test_other_channel_counts_have_no_answer_and_say_so():
    weight, wanted = torch.zeros(8, 3, 7, 7), torch.Size((8, 4, 7, 7))
    said = adapt("encoder.conv1.weight", weight, wanted, reads_image=True, inflation="no")
    assert said == "3 image channels do not become 4; only 1 -> n and n -> 1 are defined"
    inner = adapt("encoder.layer1.0.conv1.weight", weight, wanted, reads_image=False, inflation="no")
    assert inner == "another shape"


@pytest.mark.parametrize("how", ["mean", "centre"])
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_an_inflated_kernel_sees_in_a_constant_stack_what_it_saw_in_a_slice(how, kernel):
    weight = torch.randn(4, 2, kernel, kernel, dtype=torch.float64)
    image = torch.randn(1, 2, 9, 9, dtype=torch.float64)
    deep = F.conv3d(image[..., None].expand(1, 2, 9, 9, kernel), inflate(weight, kernel, how))
    assert torch.allclose(deep[..., 0], F.conv2d(image, weight), atol=1e-12)


def test_a_2d_kernel_is_inflated_only_when_asked():
    weight, wanted = torch.ones(4, 2, 3, 3), torch.Size((4, 2, 3, 3, 3))
    arguments = {"reads_image": False}
    assert adapt("w", weight, wanted, inflation="no", **arguments) == "a 2D kernel in a 3D network"
    assert adapt("w", weight, wanted, inflation="mean", **arguments).tensor.shape == wanted
    assert (
        adapt("w", weight, torch.Size((4, 2, 3, 3, 5)), inflation="mean", **arguments).tensor.shape[-1] == 5
    )
    assert adapt("w", weight, torch.Size((4, 3, 3, 3, 3)), inflation="mean", **arguments) == "another shape"


@pytest.mark.parametrize(("dimension", "old", "new"), [(2, 7, 4), (2, 4, 8), (3, 3, 4), (3, 4, 2)])
def test_position_tables_are_resized_as_scipy_does(dimension, old, new):
    before, after = 2 * old - 1, 2 * new - 1
    table = torch.randn(before**dimension, 3, dtype=torch.float64)
    made = resize_table(table, torch.Size((after**dimension, 3)))
    assert made.how == f"positions of window {old} -> {new}"
    for head in range(3):
        grid = table[:, head].reshape([before] * dimension).numpy()
        expected = zoom(grid, after / before, order=1, grid_mode=False)
        np.testing.assert_allclose(made.tensor[:, head].reshape(expected.shape), expected, atol=1e-12)


def test_tables_of_other_heads_or_of_no_window_are_refused():
    assert resize_table(torch.zeros(25, 3), torch.Size((81, 4))) == "another number of heads"
    assert not isinstance(resize_table(torch.zeros(24, 3), torch.Size((81, 3))), Adapted)
    assert not isinstance(resize_table(torch.zeros(25, 3), torch.Size((125, 3))), Adapted)  # 2D to 3D
    assert window_of(16, 2) is None

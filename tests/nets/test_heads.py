"""Projectors and predictors of the global and dense methods."""

import pytest
import torch
from torch import nn

from foveate.nets.heads import mlp, per_cell, pooled


@pytest.mark.parametrize("shape", [(5, 4), (3, 4, 2)])
def test_layers_per_cell_are_1x1_convolutions(shape):
    torch.manual_seed(0)
    layers = mlp((6, 10, 7))
    conv, norm = (nn.Conv2d, nn.BatchNorm2d) if len(shape) == 2 else (nn.Conv3d, nn.BatchNorm3d)
    twin = nn.Sequential(conv(6, 10, 1, bias=False), norm(10), nn.ReLU(), conv(10, 7, 1))
    with torch.no_grad():
        for mine, theirs in zip(layers.parameters(), twin.parameters(), strict=True):
            theirs.copy_(mine.reshape(theirs.shape))
    x = torch.randn(2, 6, *shape)
    torch.testing.assert_close(per_cell(layers, x), twin(x))
    for mine, theirs in zip(layers.buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_an_mlp_has_a_norm_between_all_layers_and_at_the_end_where_asked():
    kinds = [type(layer).__name__ for layer in mlp((4, 8, 8, 2), last_norm=True)]
    inner = ["Linear", "BatchNorm1d", "ReLU"]
    assert kinds == [*inner, *inner, "Linear", "BatchNorm1d"]
    assert [type(layer).__name__ for layer in mlp((4, 2))] == ["Linear"]
    assert [layer.bias is None for layer in mlp((4, 8, 2)) if isinstance(layer, nn.Linear)] == [True, False]


def test_rows_are_cells_of_a_map_without_space():
    layers, rows = mlp((4, 8, 3)), torch.randn(6, 4)
    torch.testing.assert_close(per_cell(layers, rows), layers(rows))
    assert torch.equal(pooled(rows[..., None].expand(6, 4, 2)), rows)  # of two the mean is exact


def test_a_pooled_map_of_bfloat16_keeps_what_tells_samples_apart():
    rng = torch.Generator().manual_seed(0)
    features = torch.rand(2, 3, 4, 4, 4, generator=rng) + 4
    assert torch.equal(pooled(features), features.flatten(2).mean(2))
    coarse = features.bfloat16()
    assert torch.equal(pooled(coarse), coarse.float().flatten(2).mean(2))
    assert pooled(features.double()).dtype == torch.float64

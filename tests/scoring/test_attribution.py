"""Grad-CAM against the class activation map that a linear head on pooled maps has in closed form."""

import pytest
import torch
from torch import nn

from foveate.scoring.attribution import grad_cam


class Maps(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, x):
        return [x, self.conv(x)]


@pytest.mark.parametrize(("conv", "shape"), [(nn.Conv2d, (8, 12)), (nn.Conv3d, (4, 6, 8))])
def test_oracle_of_a_pooled_linear_head(conv, shape):
    torch.manual_seed(0)
    encoder, head = Maps(conv(1, 5, 3, padding=1)), nn.Linear(5, 3)
    images, targets = torch.randn(2, 1, *shape), torch.tensor([2, 0])
    found = grad_cam(encoder, lambda x: head(encoder(x)[-1].flatten(2).mean(2)), images, targets)
    for i, k in enumerate(targets):
        cam = torch.einsum("c,c...->...", head.weight[k], encoder(images)[-1][i]).relu()
        assert torch.allclose(found[i], cam / cam.max(), atol=1e-5)


def test_contract_a_map_that_speaks_against_is_cold():
    encoder = Maps(nn.Conv2d(1, 1, 1))
    nn.init.constant_(encoder.conv.weight, 1.0)
    nn.init.zeros_(encoder.conv.bias)
    cold = grad_cam(
        encoder, lambda x: -encoder(x)[-1].flatten(2).mean(2), torch.ones(1, 1, 4, 4), torch.tensor([0])
    )
    assert cold.max() == 0


def test_contract_gradients_of_parameters_stay_untouched():
    encoder = Maps(nn.Conv2d(1, 1, 1))
    with torch.no_grad():
        grad_cam(
            encoder, lambda x: encoder(x)[-1].flatten(2).mean(2), torch.ones(1, 1, 4, 4), torch.tensor([0])
        )
    assert encoder.conv.weight.grad is None

"""The kernel over places and its loss against slow loops, and the losses that are settings of it."""

import math

import numpy as np
import pytest
import torch

from foveate.core.types import FoveateError
from foveate.losses.contrast import nt_xent
from foveate.losses.places import BOX_VARIANCE, CUT, Kernel, Places, answered, place_contrast


def cells_of(samples=3, views=2, count=4, axes=2, seed=0):
    """Cells of some views, anywhere."""
    rng = torch.Generator().manual_seed(seed)
    rows, number = samples * views * count, torch.arange(samples * views).repeat_interleave(count)

    def drawn(*shape):
        return torch.rand(rows, *shape, generator=rng, dtype=torch.float64)

    return Places(
        sample=number // views,
        view=number,
        place=20 * drawn(axes),
        width=4 + 4 * drawn(),
        position=drawn(axes),
        extent=0.3 * drawn(axes),
        region=(3 * drawn()).floor(),
    )


def slow_kernel(cells, kernel):
    c, n = Places(*(x.numpy() for x in cells)), len(cells.view)

    def near(ratio):
        if kernel.falloff == "step":
            return float(ratio < 1)
        return math.exp(-ratio / 2) if math.exp(-ratio / 2) > CUT else 0.0

    found = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            if c.sample[i] != c.sample[j]:
                ratio = 0.0
                for a in range(c.position.shape[1]):
                    box = BOX_VARIANCE * (c.extent[i, a] ** 2 + c.extent[j, a] ** 2)
                    box = box if kernel.falloff == "gaussian" else 0.0
                    ratio += (c.position[i, a] - c.position[j, a]) ** 2 / (kernel.rho**2 + box)
                found[i, j] = kernel.weight * near(ratio)
            elif c.view[i] != c.view[j]:
                if kernel.gated and not (c.region[i] == c.region[j] > 0):
                    continue
                width = kernel.sigma**2 * (c.width[i] ** 2 + c.width[j] ** 2) / 2
                found[i, j] = near(((c.place[i] - c.place[j]) ** 2).sum() / width)
    return found


@pytest.mark.parametrize(
    "kernel",
    [
        Kernel(),
        Kernel(gamma=0.5, rho=0.15, sigma=1.5),
        Kernel(gamma=0.0, sigma=math.inf, gated=True),
        Kernel(falloff="step", gated=True, rho=0.25),
    ],
)
@pytest.mark.parametrize("axes", [2, 3])
def test_the_kernel_is_the_slow_loop(kernel, axes):
    cells = cells_of(axes=axes)
    slow = slow_kernel(cells, kernel)
    assert 0 < (slow > 0).sum() < 0.7 * slow.size
    assert np.allclose(kernel(cells).numpy(), slow, rtol=1e-9, atol=0)
    assert np.allclose(slow, slow.T)
    assert answered(kernel(cells)).item() == pytest.approx((slow.sum(1) > 0).mean())


def slow_contrast(z, kernel, view, tau):
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        others = [j for j in range(len(z)) if view[j] != view[i]]
        if not sum(kernel[i, j] for j in others):
            continue
        denominator = sum(math.exp(z[i] @ z[j] / tau) for j in others)
        told = {j: math.log(math.exp(z[i] @ z[j] / tau) / denominator) for j in others}
        losses.append(-sum(kernel[i, j] * told[j] for j in others) / sum(kernel[i, j] for j in others))
    return np.mean(losses), len(losses)


def test_the_loss_is_the_slow_loop_and_leaves_out_cells_with_nothing_to_find():
    cells, kernel = cells_of(), Kernel(gamma=0.3, sigma=0.5, rho=0.02, falloff="step")
    rows = torch.randn(len(cells.view), 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    table = kernel(cells)
    slow, counted = slow_contrast(rows.numpy(), table.numpy(), cells.view.tolist(), 0.2)
    assert 0 < counted < len(rows)
    assert place_contrast(rows, table, cells.view, 0.2).item() == pytest.approx(slow, rel=1e-9)


def wholes(samples=5, position=None):
    """Two views of some images, a cell for each view, samples one after the other."""
    number = torch.arange(2 * samples)
    where = torch.zeros(2 * samples, 1) if position is None else position.repeat_interleave(2)[:, None]
    return Places(
        sample=number // 2,
        view=number,
        place=torch.arange(2.0 * samples)[:, None],
        width=torch.ones(2 * samples),
        position=where,
        extent=torch.zeros_like(where),
        region=torch.zeros(2 * samples),
    )


@pytest.mark.parametrize("falloff", ["gaussian", "step"])
def test_whole_views_without_other_images_are_simclr(falloff):
    rng = torch.Generator().manual_seed(2)
    first, second = (torch.randn(5, 7, generator=rng) for _ in range(2))
    rows, cells = torch.stack([first, second], 1).flatten(0, 1), wholes()
    table = Kernel(sigma=math.inf, gamma=0.0, falloff=falloff)(cells)
    ours = place_contrast(rows, table, cells.view, 0.1).item()
    assert ours == pytest.approx(nt_xent(first, second, 0.1).item(), rel=1e-6)


def slow_positional(z, position, threshold, tau):
    """Zeng et al.: every view j but i whose position differs by less than t is a positive of i."""
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = []
    for i in range(len(z)):
        denominator = sum(math.exp(z[i] @ z[k] / tau) for k in range(len(z)) if k != i)
        positives = [j for j in range(len(z)) if j != i and abs(position[i] - position[j]) < threshold]
        told = [math.log(math.exp(z[i] @ z[j] / tau) / denominator) for j in positives]
        losses.append(-np.mean(told))
    return np.mean(losses)


def test_whole_views_at_a_threshold_of_position_are_positional_contrast():
    rng = torch.Generator().manual_seed(3)
    rows = torch.randn(12, 6, generator=rng, dtype=torch.float64)
    position = torch.rand(6, generator=rng, dtype=torch.float64)
    cells = wholes(6, position)
    table = Kernel(sigma=math.inf, gamma=1.0, rho=0.35, falloff="step")(cells)
    assert 12 < (table > 0).sum() < 12 * 11
    slow = slow_positional(rows.numpy(), position.repeat_interleave(2).numpy(), 0.35, 0.1)
    assert place_contrast(rows, table, cells.view, 0.1).item() == pytest.approx(slow, rel=1e-6)


def test_a_batch_with_nothing_to_find_costs_nothing_and_breaks_nothing():
    cells, rows = wholes(3), torch.randn(6, 4, requires_grad=True)
    loss = place_contrast(rows, torch.zeros(6, 6), cells.view, 0.1)
    loss.backward()
    assert loss.item() == 0
    assert not rows.grad.any()


@pytest.mark.parametrize("wrong", [{"sigma": 0.0}, {"rho": -0.1}, {"gamma": -1.0}, {"sigma": math.nan}])
def test_what_is_no_distance_is_refused(wrong):
    with pytest.raises(FoveateError, match=r"accepted are sigma and rho above 0, gamma from 0"):
        Kernel(**wrong)

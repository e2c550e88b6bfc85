"""MoCo, SimCLR, VICReg and masked images against slow oracles, alone and on two processes."""

import numpy as np
import pytest
import torch
import torch.distributed as dist
from tests.forks import Fork

from foveate.commands.pretrain.build import build_method
from foveate.core.types import FoveateError, Progress
from foveate.losses.agreement import off_covariance, spread_shortfall
from foveate.losses.contrast import nt_xent
from foveate.losses.gather import joined
from foveate.losses.places import Kernel, place_contrast, sites
from foveate.methods.masked import blocks, draw_mask
from foveate.methods.moco import enqueue
from foveate.testing.test_method import first_batch
from foveate.train import health


def built(tiny, dimension, name, **keys):
    _, method, batch = first_batch(tiny(dimension, method={"name": name, **keys}))
    return method.double(), {**batch, "crops": {k: v.double() for k, v in batch["crops"].items()}}


def unit(rows):
    rows = rows.detach().numpy()
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.mark.parametrize("dimension", [2, 3])
def test_moco_finds_its_key_in_the_queue_as_a_slow_loop_does(tiny, dimension):
    method, batch = built(tiny, dimension, "moco")
    with torch.no_grad():
        for p in method.target.parameters():
            p.mul_(1.1).add_(0.01)
    first, second = method.views(batch, 0)
    q, k = unit(method.online(first)), unit(method.target(second))
    queue, losses = method.queue.numpy().copy(), []
    for a, b in zip(q, k, strict=True):
        others = sum(np.exp(a @ row / 0.2) for row in queue)
        losses.append(-np.log(np.exp(a @ b / 0.2) / (np.exp(a @ b / 0.2) + others)))
    assert method(batch, Progress(0, 10, 0))["contrast"].item() == pytest.approx(np.mean(losses), rel=1e-9)
    state = {n: x.clone() for n, x in method.target.state_dict().items()}
    with torch.no_grad():
        method.projector[0].weight.add_(1.0)
    method.after_step(Progress(0, 10, 0))
    assert np.allclose(method.queue[: len(k)].numpy(), k, rtol=1e-12, atol=0)
    assert np.array_equal(method.queue[len(k) :].numpy(), queue[len(k) :])
    assert method.cursor.item() == len(k)
    online = method.online.state_dict()
    m = method.config.momentum
    for name, value in method.target.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(
                value, m * state[name] + (1 - m) * online[name], rtol=1e-12, atol=1e-12
            )


def test_the_queue_is_a_ring_and_keeps_the_newest():
    queue, cursor, slow = torch.zeros(5, 1), torch.zeros((), dtype=torch.long), []
    for step, count in enumerate((2, 2, 3, 1, 7, 2)):
        keys = (10.0 * (step + 1) + torch.arange(count))[:, None]
        enqueue(queue, cursor, keys)
        slow += keys[:, 0].tolist()
        assert {*slow[-5:]} <= {*queue[:, 0].tolist(), *([] if len(slow) >= 5 else [0.0])}
    assert sorted(queue[:, 0].tolist()) == sorted(slow[-5:])


def test_looking_at_moco_leaves_no_key_behind(tiny):
    _, method, batch = first_batch(tiny(2, method={"name": "moco"}))
    health.measure(method, batch, Progress(0, 10))
    assert len(method.fresh) == 0
    method(batch, Progress(0, 10))
    assert len(method.fresh) == 2


def test_simclr_is_the_slow_loop():
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(3, 4, generator=rng, dtype=torch.float64) for _ in range(2))
    z = unit(torch.cat([first, second]))
    losses = []
    for i in range(6):
        scores = {k: np.exp(z[i] @ z[k] / 0.1) for k in range(6) if k != i}
        losses.append(-np.log(scores[(i + 3) % 6] / sum(scores.values())))
    assert nt_xent(first, second, 0.1).item() == pytest.approx(np.mean(losses), rel=1e-12)


def test_vicreg_is_what_numpy_says(tiny):
    method, batch = built(tiny, 2, "vicreg")
    z = [method.projector(method.net.encoder(x)[-1].flatten(2).mean(2)) for x in method.views(batch, 0)]
    losses = {k: v.item() for k, v in method(batch, Progress(0, 10, 0)).items()}
    a, b = (x.detach().numpy() for x in z)
    assert losses["invariance"] == pytest.approx(25 * ((a - b) ** 2).mean(), rel=1e-9)
    short = [np.maximum(0, 1 - np.sqrt(x.var(0, ddof=1) + 1e-4)).mean() for x in (a, b)]
    assert losses["variance"] == pytest.approx(25 * np.mean(short), rel=1e-9)
    squares = [np.cov(x.T) ** 2 for x in (a, b)]
    covariances = sum((c.sum() - np.trace(c)) / len(c) for c in squares)
    assert losses["covariance"] == pytest.approx(covariances, rel=1e-9)


@pytest.mark.parametrize("dimension", [2, 3])
def test_masked_ignores_visible_voxels_exactly(tiny, dimension):
    method, batch = built(tiny, dimension, "masked")
    whole, masked, mask = method.looks(batch, 0)
    share = mask.double().mean().item()
    assert 0 < share < 1
    assert torch.equal(whole[~mask.expand_as(whole)], masked[~mask.expand_as(whole)])
    restored = method.restore(method.net(masked))
    error = method(batch, Progress(0, 10, 0))["masked"].item()
    squared = ((restored - whole) ** 2).detach().numpy()
    assert error == pytest.approx(squared[mask.expand_as(whole).numpy()].mean(), rel=1e-12)
    method.looks = lambda _batch, _seed: (torch.where(mask, whole, whole + 7), masked, mask)
    assert method(batch, Progress(0, 10, 0))["masked"].item() == error


def test_masks_are_blocks_of_the_bottleneck_drawn_by_key():
    cells = [draw_mask((4, 2), 0.6, seed=0, key=key) for key in (1, 1, 2)]
    masks = blocks(torch.stack(cells), 8)
    assert masks.shape == (3, 32, 16)
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    shares = masks[0].double().unfold(0, 8, 8).unfold(1, 8, 8).mean((2, 3))
    assert torch.equal(shares, cells[0].double())
    assert sorted(shares.flatten().tolist()) == [0.0] * 3 + [1.0] * 5
    assert draw_mask((1, 2), 0.99, seed=0, key=0).sum() == 1


def test_a_share_of_all_or_nothing_is_refused(tiny):
    with pytest.raises(FoveateError, match=r"method.mask_share 1.0: accepted"):
        build_method(tiny(2, method={"name": "masked", "mask_share": 1.0}))


def half(rank, meet, rows, found):
    """What one of two processes does, with its half of the rows."""
    dist.init_process_group("gloo", init_method=f"file://{meet}", rank=rank, world_size=2)
    weight = rows["weight"].requires_grad_()
    own = slice(3 * rank, 3 * rank + 3)
    sides = [joined(rows[k][own] @ weight) for k in "ab"]
    loss = nt_xent(*sides, 0.1) + sum(spread_shortfall(z) + off_covariance(z) for z in sides)
    cells = sites({name: x[own] for name, x in rows["found"].items()}, 2)
    z = joined(rows["z"][own] @ weight).flatten(0, 2)
    loss = loss + place_contrast(z, Kernel()(cells), cells.view, 0.1)
    loss.backward()
    dist.all_reduce(weight.grad)
    if rank == 0:
        torch.save({"loss": loss.detach(), "grad": weight.grad / 2}, found)
    dist.destroy_process_group()


def test_two_processes_have_the_loss_and_the_gradient_of_one_with_the_joined_batch(tmp_path):
    rng = torch.Generator().manual_seed(0)
    rows = {k: torch.randn(6, 5, generator=rng, dtype=torch.float64) for k in "ab"}
    rows["weight"] = torch.randn(5, 4, generator=rng, dtype=torch.float64)
    widths = {"place": 2, "width": 1, "position": 2, "extent": 2, "region": 1}
    rows["found"] = {k: torch.rand(6, 2, 4, n, generator=rng) for k, n in widths.items()}
    rows["z"] = torch.randn(6, 2, 3, 5, generator=rng, dtype=torch.float64)
    running = [Fork(half, r, tmp_path / "meet", rows, tmp_path / "found.pt") for r in (0, 1)]
    assert [each.wait(timeout=120) for each in running] == [0, 0]
    weight = rows["weight"].requires_grad_()
    sides = [rows[k] @ weight for k in "ab"]
    loss = nt_xent(*sides, 0.1) + sum(spread_shortfall(z) + off_covariance(z) for z in sides)
    cells, table = sites(rows["found"], 2), Kernel()(sites(rows["found"], 2))
    loss = loss + place_contrast((rows["z"] @ weight).flatten(0, 2), table, cells.view, 0.1)
    loss.backward()
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    assert found["loss"].item() == pytest.approx(loss.item(), rel=1e-12)
    torch.testing.assert_close(found["grad"], weight.grad, rtol=1e-10, atol=1e-12)

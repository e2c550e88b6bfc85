"""Region and voxel losses against MONAI's and a slow loop; what is unknown counts nowhere."""

import pytest
import torch
from monai.losses import DiceLoss, FocalLoss, TverskyLoss

from foveate.losses.overlap import dice_loss, one_hot, tversky_loss, voxel_loss


@pytest.fixture(params=[(5, 6), (4, 5, 3)], ids=["2d", "3d"])
def case(request):
    torch.manual_seed(0)
    logits = torch.randn(2, 3, *request.param)
    index = torch.randint(0, 3, (2, *request.param))
    return logits, index, torch.ones(2, 1, *request.param)


def test_dice_is_monais_with_smoothing_of_one(case):
    logits, index, known = case
    ours = dice_loss(logits.softmax(1), one_hot(index, 3), known)
    theirs = DiceLoss(batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits.softmax(1), one_hot(index, 3).float())
    assert ours.item() == pytest.approx(theirs.item(), abs=1e-6)


def test_tversky_is_monais(case):
    logits, index, known = case
    ours = tversky_loss(logits.softmax(1), one_hot(index, 3), known, misses=0.7, false_alarms=0.3)
    monai = TverskyLoss(alpha=0.3, beta=0.7, batch=True, smooth_nr=0.5, smooth_dr=0.5)
    assert ours.item() == pytest.approx(monai(logits.softmax(1), one_hot(index, 3).float()).item(), abs=1e-6)


def test_cross_entropy_and_focal_are_the_libraries(case):
    logits, index, known = case
    target = one_hot(index, 3)
    plain = voxel_loss(logits, target, known, exclusive=True, focus=0.0)
    assert plain.item() == pytest.approx(torch.nn.functional.cross_entropy(logits, index).item(), abs=1e-6)
    focal = voxel_loss(logits, target, known, exclusive=False, focus=2.0)
    monai = FocalLoss(gamma=2.0, use_softmax=False)(logits, target.float())
    assert focal.item() == pytest.approx(monai.item(), abs=1e-6)


@pytest.mark.parametrize("exclusive", [True, False])
def test_focal_loss_of_a_slow_loop(exclusive):
    torch.manual_seed(1)
    logits, index = torch.randn(1, 3, 2, 2), torch.randint(0, 3, (1, 2, 2))
    known = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    target, losses = one_hot(index, 3), []
    for x in range(2):
        for y in range(2):
            if known[0, 0, x, y]:
                p = logits[0, :, x, y].softmax(0) if exclusive else logits[0, :, x, y].sigmoid()
                t = target[0, :, x, y].bool()
                truth = p[t] if exclusive else torch.where(t, p, 1 - p)
                losses += [-((1 - q) ** 1.5) * q.log() for q in truth]
    ours = voxel_loss(logits, target, known, exclusive=exclusive, focus=1.5)
    assert ours.item() == pytest.approx(torch.stack(losses).mean().item(), abs=1e-6)


def test_unknown_voxels_change_nothing(case):
    logits, index, known = case
    known = known.clone()
    known[:, :, 0] = 0
    other = logits.clone()
    other[:, :, 0] += 10
    target = one_hot(index, 3)
    for loss in (
        lambda x: dice_loss(x.softmax(1), target, known),
        lambda x: voxel_loss(x, target, known, exclusive=True, focus=0.0),
    ):
        assert loss(logits).item() == loss(other).item()
        assert loss(logits).item() != loss(logits + torch.randn_like(logits)).item()


def test_a_class_that_is_neither_there_nor_predicted_is_right():
    shares, target = torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)
    assert dice_loss(shares, target, torch.ones(1, 1, 4, 4)).item() == 0
    voxel = voxel_loss(shares, target, torch.zeros(1, 1, 4, 4), exclusive=False, focus=0.0)
    assert voxel.item() == 0  # nothing known at all

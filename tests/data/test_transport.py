"""Small tensors of a batch travel together, and arrive as they were."""

import pickle

import torch
from tests.views.test_drawn import EVERY

from foveate.core.types import Drawn
from foveate.data.transport import SMALL, packed, unpacked
from foveate.views.appearance import CropLook
from foveate.views.drawn import draw_ahead, drawn


def batch_of(size):
    return {
        "crops": {"global": torch.rand(2, 2, 1, size, size)},
        "affines": {"global": torch.rand(2, 2, 2, 3).mT},  # not contiguous
        "regions": {"a/global": torch.arange(8).reshape(2, 1, 2, 2)},
        "labels": {"x": torch.tensor([float("nan"), 1.5])},
        "extent": torch.tensor([[5, 6], [7, 8]]),
        "none": torch.zeros(0, 3, dtype=torch.int32),
        "odd": torch.tensor([True, False, True]),
        "double": torch.tensor(0.1, dtype=torch.float64),
        "index": (3, 4),
    }


def leaves(value):
    if isinstance(value, Drawn):
        return [*leaves(value.numbers), *leaves(value.maps)]
    if isinstance(value, dict):
        return [leaf for part in value.values() for leaf in leaves(part)]
    return [value] if isinstance(value, torch.Tensor) else []


def test_a_batch_arrives_as_it_was_in_two_tensors():
    look = CropLook(crop="global", appearance=EVERY)
    batch = draw_ahead(batch_of(96), [look], 7)
    sent = packed(batch)
    large = [x for x in leaves(batch) if x.nbytes > SMALL]
    assert len(leaves(sent.batch)) == len(large) < len(leaves(batch)) - 8
    there = unpacked(pickle.loads(pickle.dumps(sent)))
    assert list(there) == list(batch)
    assert there["index"] == batch["index"]
    for ours, theirs in zip(leaves(batch), leaves(there), strict=True):
        assert ours.dtype == theirs.dtype
        assert ours.shape == theirs.shape
        assert torch.equal(ours.nan_to_num(7), theirs.nan_to_num(7))
    found, expected = (drawn(x, look, 7, torch.device("cpu")) for x in (there, batch))
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_a_batch_without_small_tensors_is_sent_too():
    batch = {"crops": {"global": torch.rand(2, 1, 1, 200, 200)}, "index": (0, 1)}
    assert unpacked(packed(batch))["crops"]["global"] is batch["crops"]["global"]

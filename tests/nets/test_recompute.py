"""Recomputed blocks: the same gradient, the same statistics, less memory."""

import copy

import pytest
import torch

from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.layers import running_statistics
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.nets.recompute import recompute_blocks

NETS = [("unet2d", 2), ("unet3d", 3), ("resnet18", 3), ("resenc", 2), ("swin", 2)]


def pair(name, dimension):
    """A network and its twin that recomputes."""
    torch.manual_seed(0)
    entry = ENCODERS[name]
    config = DecoderConfig(upsample=entry.upsample, skips=True)
    plain = build_pyramid(entry.config(name=name, width=12), config, dimension)
    twin = copy.deepcopy(plain)
    return plain, twin, recompute_blocks(twin)


def kept_bytes(net, image):
    """What the forward pass keeps for the backward pass, every storage once."""
    kept = {}

    def pack(x):
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        maps = net(image)
        total = sum(size for key, size in kept.items() if key not in weights)
    return maps, total


@pytest.mark.parametrize(("name", "dimension"), NETS)
def test_gradient_and_running_statistics_are_those_without(name, dimension):
    plain, twin, blocks = pair(name, dimension)
    assert blocks >= 4
    image = torch.randn(2, 1, *(2 * plain.stride,) * dimension)
    for net in (plain, twin):
        sum(x.square().mean() for x in net(image)).backward()
    for (key, a), (other, b) in zip(plain.named_parameters(), twin.named_parameters(), strict=True):
        assert key == other
        assert torch.equal(a.grad, b.grad), key
    statistics = [n for n, _ in plain.named_buffers() if "running" in n]
    buffers = dict(twin.named_buffers())
    assert all(torch.equal(value, buffers[n]) for n, value in plain.named_buffers() if n in statistics)


def test_less_is_kept():
    plain, twin, _ = pair("unet3d", 3)
    image = torch.randn(2, 1, 32, 32, 32)
    assert kept_bytes(twin, image)[1] < 0.5 * kept_bytes(plain, image)[1]


def test_a_copy_runs_its_own_weights():
    """A teacher is a deep copy: it must not go on with the student's blocks."""
    _, twin, _ = pair("unet2d", 2)
    teacher, image = copy.deepcopy(twin), torch.randn(2, 1, 32, 32)
    with torch.no_grad():
        before = teacher(image)[-1].clone()
        for p in twin.parameters():
            p.zero_()
        assert torch.equal(teacher(image)[-1], before)


def test_statistics_that_must_not_be_written_are_not():
    _, twin, _ = pair("unet2d", 2)
    before = {n: b.clone() for n, b in twin.named_buffers() if "running" in n}
    with running_statistics(twin, update=False):
        maps = twin(torch.randn(2, 1, 32, 32))
    maps[-1].square().mean().backward()  # after the context, when the blocks run a second time
    assert all(torch.equal(b, before[n]) for n, b in twin.named_buffers() if n in before)


def test_several_gradients_of_one_graph_are_those_without():
    """As health asks for them, term by term; the statistics count the image once."""
    plain, twin, _ = pair("resnet18", 3)
    image, found = torch.randn(2, 1, *(2 * plain.stride,) * 3), []
    for net in (plain, twin):
        weight, maps = next(net.parameters()), net(image)
        terms = [maps[-1].square().mean(), maps[-1].mean(), maps[0].square().mean()]
        found.append([torch.autograd.grad(term, weight, retain_graph=True)[0] for term in terms])
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    counted = dict(twin.named_buffers())
    assert all(torch.equal(value, counted[n]) for n, value in plain.named_buffers() if "running" in n)

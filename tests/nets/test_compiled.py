"""Compiled encoders and decoders: the same run, the same names, and a plain run where torch cannot."""

import copy
from dataclasses import replace

import pytest
import torch

from foveate.commands.pretrain import run
from foveate.core.types import FoveateError, Progress
from foveate.nets import compiled
from foveate.nets.encoders.catalogue import ENCODERS
from foveate.nets.layers import cumulative_statistics
from foveate.nets.pyramid import DecoderConfig, build_pyramid
from foveate.testing.test_method import first_batch
from foveate.train import checkpoint
from foveate.train.loop import Recent, Stepping, training_step
from foveate.train.optim import build_optimizer


@pytest.fixture(autouse=True)
def backend(monkeypatch):
    """Graphs are traced and run as they are; turning them into C++ takes minutes."""
    monkeypatch.setattr(compiled, "BACKEND", "eager")
    yield
    torch.compiler.reset()


def steps_of(config, folder, *compile_each):
    """A step for every value, each from the checkpoint of the one before."""
    folder.mkdir()
    for step, fast in enumerate(compile_each):
        method = take_step(replace(config, compile=fast), folder, step)
    return method


def take_step(config, folder, step):
    fabric, method, batch = first_batch(config)
    assert isinstance(method.net.encoder._compiled_call_impl, compiled.Attempt) == config.compile
    net, optimizer = fabric.setup(method, build_optimizer(method, config.optim))
    state = {"model": net, "optimizer": optimizer, "step": 0}
    assert checkpoint.load_newest(fabric, folder, state, print) == bool(step)
    if step < 2:
        training_step(fabric, net, optimizer, iter([batch]), Progress(step, 9, 0), Stepping(), Recent())
    checkpoint.save(fabric, folder, {**state, "step": step + 1}, 1)
    return method


def test_a_run_goes_on_with_and_without_compilation_and_is_the_same(tiny, tmp_path):
    config = tiny(2, method={"name": "simsiam"}, encoder={"name": "unet2d", "width": 4}, optim={"lr": 0.1})
    plain = steps_of(config, tmp_path / "plain", False, False)
    mixed = steps_of(config, tmp_path / "mixed", True, False, True)  # the third is loaded only
    check_equal(plain, mixed)


def check_equal(first, second):
    """Names and values of all weights."""
    one, other = first.state_dict(), second.state_dict()
    assert list(one) == list(other)
    assert all(torch.equal(one[name], other[name]) for name in one)


def small():
    config = ENCODERS["unet2d"].config(name="unet2d", width=4)
    return build_pyramid(config, DecoderConfig(upsample="nearest"), 2)


def test_where_torch_cannot_compile_the_network_runs_as_it_is_and_says_so_once(monkeypatch):
    def broken(_graph, _inputs):
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled, "BACKEND", broken)
    net, image, said = small(), torch.rand(2, 1, 32, 32), []
    expected = copy.deepcopy(net)(image)
    assert compiled.compile_parts(net, said.append) == 2
    assert all(torch.equal(a, b) for a, b in zip(net(image), expected, strict=True))
    assert [part._compiled_call_impl for part in (net.encoder, net.decoder)] == [None, None]
    (line,) = said
    assert line.startswith("--compile true: torch cannot compile the network here; it runs uncompiled")
    assert "no C++ compiler" in line


def test_statistics_that_are_averaged_over_a_few_batches_are_not_worth_a_compilation(monkeypatch):
    monkeypatch.setattr(compiled, "BACKEND", lambda _graph, _inputs: pytest.fail("compiled"))
    net, said = small(), []
    compiled.compile_parts(net, said.append)
    with torch.no_grad(), cumulative_statistics(net):
        net(torch.rand(2, 1, 32, 32))
    assert said == []


def test_an_error_of_the_network_itself_is_no_reason_to_go_on():
    net, said = small(), []
    net.encoder.register_forward_pre_hook(lambda *_: 1 // 0)
    compiled.compile_parts(net, said.append)
    with pytest.raises(ZeroDivisionError):
        net(torch.rand(2, 1, 32, 32))
    assert said == []


def test_a_copy_is_not_compiled_and_has_weights_of_its_own():
    net = small()
    compiled.compile_parts(net, print)
    other = copy.deepcopy(net)
    assert other.encoder._compiled_call_impl is None
    for weight in other.parameters():
        weight.data.zero_()
    assert all(not feature_map.any() for feature_map in other(torch.rand(2, 1, 32, 32)))


def test_blocks_that_are_computed_twice_are_not_compiled(tiny):
    with pytest.raises(FoveateError, match="--compile true with --activation_checkpointing true"):
        run.pretrain(tiny(2, compile=True, activation_checkpointing=True))

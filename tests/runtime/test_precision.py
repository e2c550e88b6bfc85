"""What arithmetic a device gets, and what it must leave alone."""

import json
import os

import pytest
import torch
from torch import nn

from foveate.commands.predict import config as predict
from foveate.commands.pretrain import config as settings
from foveate.core.types import FoveateError, Progress
from foveate.runtime import folder, processes
from foveate.runtime.finetuned import open_model
from foveate.runtime.precision import (
    answering_precision,
    check_precision,
    set_up_device,
    usual_precision,
)


class Look(nn.Module):
    """Keeps what `forward` was given."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 1)

    def forward(self, batch, _progress):
        self.seen, self.map = batch, self.layer(batch["crops"]["global"][:, 0])
        return {"mean": self.map.float().mean()}


def test_a_batch_arrives_in_forward_as_it_was_made(tiny):
    fabric = processes.build_fabric(tiny(2, precision="bf16-mixed"))
    affine = torch.tensor([[1.0, 0.0, 0.1], [0.0, 1.0, 511.3]])
    batch = {
        "crops": {"global": torch.rand(3, 1, 1, 4, 4)},
        "affines": {"global": affine.expand(3, 1, 2, 3)},
        "labels": {"age": torch.tensor([63.4, 1037.0, 1995.0])},
        "regions": {"map": torch.tensor([0, 257, 3])},
        "index": torch.arange(3),
    }
    look = Look()
    fabric.setup_module(look)(batch, Progress(0, 1, 0))
    for name, part in batch.items():
        pairs = [(part, look.seen[name])]
        if isinstance(part, dict):
            pairs = [(part[key], look.seen[name][key]) for key in part]
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs), name
    assert look.map.dtype == torch.bfloat16  # the network's arithmetic is what changes


@pytest.mark.parametrize(
    ("capability", "precision"), [((7, 0), "32-true"), ((7, 5), "32-true"), ((8, 0), "bf16-mixed")]
)
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    assert settings.SPEC.resolve({}, {"dimension": "2"}).precision == precision
    on_a_cpu = settings.SPEC.resolve({}, {"dimension": "2", "accelerator": "cpu"})
    assert (on_a_cpu.accelerator, on_a_cpu.precision) == ("cpu", "32-true")
    assert usual_precision("cuda") == precision


@pytest.mark.parametrize("flag", ["cuda", "gpu"])
def test_without_a_gpu_training_and_answers_say_the_same(tiny, monkeypatch, flag):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = r"--accelerator cuda: no GPU was found.*accepted here: --accelerator cpu\."
    with pytest.raises(FoveateError, match=words):
        processes.build_fabric(tiny(2, accelerator=flag))
    config = predict.SPEC.resolve({"accelerator": "cpu"}, {"accelerator": flag})
    with pytest.raises(FoveateError, match=words):
        open_model("nowhere", config.accelerator)


def test_accelerator_auto_is_what_is_there_and_mps_is_refused(monkeypatch):
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr("foveate.runtime.memory.torch.cuda.is_available", lambda there=there: there)
        assert predict.SPEC.resolve({"accelerator": "cuda"}, {"accelerator": "auto"}).accelerator == name
    with pytest.raises(FoveateError, match=r"--accelerator mps: accepted are cpu, cuda \(or gpu\), and auto"):
        predict.SPEC.resolve({}, {"accelerator": "mps"})


@pytest.mark.parametrize("capability", [(7, 0), (8, 0)])
def test_a_gpu_without_bfloat16_says_so_once_and_does_not_emulate_it(monkeypatch, capability):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla V100")
    if capability >= (8, 0):
        assert check_precision("32-true", "cuda") == check_precision("bf16-mixed", "cuda") == ""
        return
    assert "Tesla V100 has no bfloat16" in check_precision("32-true", "cuda")
    with pytest.raises(
        FoveateError, match=r"--precision bf16-mixed: Tesla V100.*accepted here: --precision 32"
    ):
        check_precision("bf16-mixed", "cuda")
    assert check_precision("bf16-mixed", "cpu") == ""


@pytest.mark.parametrize(
    ("said", "trained", "accelerator", "capability", "answers"),
    [
        ("auto", "bf16-mixed", "cuda", (8, 0), "bf16-mixed"),
        ("auto", "32-true", "cuda", (8, 0), "32-true"),
        ("auto", None, "cuda", (8, 0), "32-true"),  # a card of an earlier version
        ("auto", "bf16-mixed", "cuda", (7, 5), "32-true"),
        ("auto", "bf16-mixed", "cpu", (8, 0), "32-true"),
        ("bf16-mixed", "32-true", "cpu", (8, 0), "bf16-mixed"),
        ("32-true", "bf16-mixed", "cuda", (8, 0), "32-true"),
    ],
)
def test_answers_are_computed_as_in_training_unless_asked(
    monkeypatch, said, trained, accelerator, capability, answers
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Tesla T4")
    card = {"precision": trained} if trained else {}
    found, words = answering_precision(said, card, accelerator)
    assert found == answers
    assert bool(words) == (capability < (8, 0))


@pytest.fixture
def switches():
    """Torch's switches as they were, after a test."""
    cudnn, before = torch.backends.cudnn, torch.get_float32_matmul_precision()
    kept = cudnn.benchmark, cudnn.allow_tf32
    yield lambda: (torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.benchmark)
    cudnn.benchmark, cudnn.allow_tf32 = kept
    torch.set_float32_matmul_precision(before)
    torch.use_deterministic_algorithms(False)


def test_torch_is_set_up_as_a_run_says_on_gpus_alone(switches, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    before = switches()
    set_up_device("cpu", float32_matmul="high")
    assert switches() == before
    set_up_device("cuda")
    assert switches() == ("highest", False, True)
    set_up_device("cuda", float32_matmul="high")
    assert switches() == ("high", True, True)
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    set_up_device("cuda", deterministic=True)
    assert switches() == ("highest", False, False)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.are_deterministic_algorithms_enabled()
    set_up_device("cpu")  # another run of the same Python
    assert not torch.are_deterministic_algorithms_enabled()


def test_a_run_hands_its_switches_to_torch(tiny, switches, monkeypatch):
    said = {}
    monkeypatch.setattr(processes, "set_up_device", lambda *where, **how: said.update(how, where=where))
    processes.build_fabric(tiny(2, deterministic=True, float32_matmul="high"))
    assert said == {"where": ("cpu",), "deterministic": True, "float32_matmul": "high"}


def test_a_run_writes_down_its_arithmetic(tiny, tmp_path):
    config = tiny(2, float32_matmul="high", precision="bf16-mixed", deterministic=True)
    folder.prepare_out(config, tmp_path / "run", "hash")
    said = json.loads((tmp_path / "run" / "environment.json").read_text())
    keys = ("precision", "float32_matmul", "deterministic")
    assert [said[key] for key in keys] == ["bf16-mixed", "high", True]

"""What the page says of a machine, of a broken one too, and what it does not say."""

import collections
import getpass
import platform
import types
from pathlib import Path

import pytest
import torch

from foveate.commands.doctor import libraries, machine, run
from foveate.commands.doctor.config import DoctorConfig
from foveate.core.types import Ending, FoveateError

Space = collections.namedtuple("Space", "total used free")


def page(capsys, folder):
    ending = run.run_doctor(DoctorConfig(folder=str(folder)))
    return ending, capsys.readouterr().out


def test_nothing_private_is_said(capsys, tmp_path):
    secret = tmp_path / "Doe^Jane_1950"
    secret.mkdir()
    ending, text = page(capsys, secret)
    assert ending
    assert f"torch {torch.__version__}" in text
    for word in ("Doe", str(tmp_path), str(Path.home()), getpass.getuser() + "@", platform.node() + "\n"):
        assert word not in text


def test_extras_are_those_of_the_package():
    wanted = libraries.asked_for()
    assert {"torch", "monai", "numpy"} <= set(wanted[""])
    assert wanted["onnx"] == ["onnx", "onnxscript"]
    assert not any(line.startswith("dev:") for line in libraries.extra_lines(wanted))


def test_what_is_missing_is_named_with_its_remedy(capsys, monkeypatch, tmp_path):
    absent = {"monai", "blosc2"}
    there = libraries.installed
    for module in (libraries, run):
        monkeypatch.setattr(module, "installed", lambda name: "" if name in absent else there(name))
    ending, text = page(capsys, tmp_path)
    assert ending is Ending.INCOMPLETE
    assert "monai MISSING" in text
    assert "blosc2: without blosc2: pip install 'foveate[blosc2]'" in text


def test_little_space_is_said_with_what_to_do(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _folder: Space(2**33, 2**33, 2**28))
    _, text = page(capsys, tmp_path)
    todo = text.split("to do\n")[1]
    assert "disk of --folder: 0 GiB free: little disk" in todo
    assert "shared memory: 0.2 GiB free: little shared memory" in todo


def test_a_driver_that_fails_is_a_finding(capsys, monkeypatch, tmp_path):
    def broken():
        raise RuntimeError("CUDA driver initialization failed\nyou might not have a CUDA gpu.")

    monkeypatch.setattr(machine.torch.cuda, "is_available", broken)
    _, text = page(capsys, tmp_path)
    assert "GPU: cannot be asked: CUDA driver initialization failed you might not have a CUDA gpu." in text


def test_a_build_for_gpus_without_one_says_why(monkeypatch):
    monkeypatch.setattr(machine.torch.version, "cuda", "12.8")
    monkeypatch.setattr(machine.torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert machine.gpus()[0].advice == "CUDA_VISIBLE_DEVICES is empty"


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(FoveateError, match="--folder: No such file"):
        run.run_doctor(DoctorConfig(folder=str(tmp_path / "nowhere")))


def test_an_old_gpu_with_few_cpus_is_said(monkeypatch):
    known = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "mem_get_info": lambda _index: (2**33, 2**34),
        "get_device_properties": lambda _index: types.SimpleNamespace(name="V100", major=7, minor=0),
    }
    for name, answer in known.items():
        monkeypatch.setattr(machine.torch.cuda, name, answer)
    monkeypatch.setattr(machine, "usual_workers", lambda *_: 1)
    card, workers = machine.gpus()
    assert card.line == "GPU 0: V100, 16 GiB, 8 free, capability 7.0"
    assert card.advice.startswith("no bfloat16")
    assert workers.advice.startswith("few for a GPU")

"""GPUs by their index."""

from dataclasses import replace

import pytest
from tests.conftest import tiny_keys

from foveate.commands.pretrain import config as settings
from foveate.core.types import FoveateError
from foveate.runtime import processes
from foveate.runtime.resources.gpus import on_one_device, take_gpu


@pytest.mark.parametrize(
    ("said", "devices", "gpus"),
    [("0,2", 2, (0, 2)), ("3,", 1, (3,)), ("[1, 0]", 2, (1, 0)), ([2], 1, (2,)), ("2", 2, ()), (1, 1, ())],
)
def test_devices_are_a_number_or_gpus_by_index(cohorts, tmp_path, said, devices, gpus):
    keys = tiny_keys(2, cohorts[2], tmp_path, accelerator="cuda")
    flag = {"devices": str(said)} if isinstance(said, str) else {}
    config = settings.SPEC.resolve(keys if flag else {**keys, "devices": said}, flag)
    assert (config.devices, config.gpus) == (devices, gpus)


def test_a_number_goes_before_the_gpus_of_a_file(cohorts, tmp_path):
    keys = tiny_keys(2, cohorts[2], tmp_path, devices=2, gpus=[0, 2])
    assert settings.SPEC.resolve(keys, {}).gpus == (0, 2)
    config = settings.SPEC.resolve(keys, {"devices": "1"})
    assert (config.devices, config.gpus) == (1, ())


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"devices": 2, "gpus": (0, 2)}, "--devices 0,2 names GPUs, and --accelerator is cpu"),
        ({"devices": 2, "gpus": (1,), "accelerator": "cuda"}, "as many as devices"),
        ({"devices": 2, "gpus": (1, 1), "accelerator": "cuda"}, "different GPUs"),
        ({"devices": 1, "gpus": (3,), "accelerator": "cuda"}, "no GPU 3 .*'5,6'.*accepted: 0 to 1"),
    ],
)
def test_gpus_that_cannot_be_taken_are_refused(tiny, monkeypatch, keys, said):
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,6")
    with pytest.raises(FoveateError, match=said):
        processes.check_processes(replace(tiny(2), **keys))


def test_an_answer_is_computed_on_the_gpu_that_was_named(monkeypatch):
    taken = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.set_device", taken.append)
    take_gpu("cpu", 0)
    take_gpu("cuda", 0)  # whichever torch takes, such as the one that a comparison claimed
    take_gpu("cuda", 1)
    assert taken == [1]
    with pytest.raises(FoveateError, match=r"--gpu 1 names a GPU, and --accelerator is cpu"):
        take_gpu("cpu", 1)
    for gpu in (2, -1):
        with pytest.raises(FoveateError, match=rf"no GPU {gpu}; accepted: 0 to 1"):
            take_gpu("cuda", gpu)


def test_words_that_are_no_gpus_are_refused(cohorts, tmp_path):
    keys = tiny_keys(2, cohorts[2], tmp_path)
    with pytest.raises(FoveateError, match="--devices 0,x: accepted are"):
        settings.SPEC.resolve(keys, {"devices": "0,x"})


def test_fabric_is_given_the_gpus_and_a_probe_the_first_of_them(tiny, monkeypatch):
    given = []

    def fabric(**options):
        given.append(options["devices"])
        raise RuntimeError("no such machine")

    monkeypatch.setattr(processes, "Fabric", fabric)
    monkeypatch.setattr(processes, "device_of", lambda _accelerator: None)
    monkeypatch.setattr(processes, "set_up_device", lambda *_, **__: None)
    config = replace(tiny(2), accelerator="cuda", devices=2, gpus=(2, 0))
    for each in (config, on_one_device(config), replace(config, devices=1, gpus=())):
        with pytest.raises(FoveateError, match="no such machine"):
            processes.build_fabric(each)
    assert given == [[2, 0], [2], 1]


def test_several_gpus_send_gradients_from_where_they_lie(tiny, monkeypatch):
    given = []
    monkeypatch.setattr(processes, "Fabric", lambda **options: given.append(options["strategy"]) or 1 / 0)
    with pytest.raises(FoveateError, match="division by zero"):
        processes.build_fabric(replace(tiny(2), devices=2))
    assert given[0]._ddp_kwargs["gradient_as_bucket_view"] is True

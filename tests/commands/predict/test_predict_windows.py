"""How images are predicted: in which precision, which windows, and read ahead."""

import json
import threading
from contextlib import ExitStack
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from tests.commands.predict.test_predict import (  # noqa: F401 - given is a fixture
    bright,
    given,
    ideal,
    whole_image,
    write_scan,
)

from foveate.commands.predict import run
from foveate.commands.predict.reading import Opened, read_ahead
from foveate.runtime import finetuned as models


def test_contract_a_whole_image_for_which_memory_runs_out_fails_with_what_to_do(tmp_path, given, capsys):  # noqa: F811
    def greedy(_volume):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    write_scan(tmp_path / "in/a.nii.gz")
    model = whole_image(greedy)
    model.task.__class__.patch = (8, 8, 8)
    finished, _ = given(tmp_path / "in", model=model)
    assert not finished
    assert "failed: a.nii.gz: Memory ran out on cpu with one window of 8 x 8 x 8" in capsys.readouterr().err


def test_contract_an_image_that_does_not_fit_fails_with_what_to_do_and_the_others_go_on(
    tmp_path,
    given,  # noqa: F811
    monkeypatch,
    capsys,
):
    """Where neither fewer windows nor sums on the host help."""
    for name in "ab":
        write_scan(tmp_path / f"in/{name}.nii.gz")
    whole, asked = models.segment, []

    def greedy(volume, *given, **options):
        asked.append(volume)
        if len(asked) == 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")
        return whole(volume, *given, **options)

    monkeypatch.setattr(models, "segment", greedy)
    finished, out = given(tmp_path / "in", model=replace(ideal(), device=torch.device("cuda")))
    assert not finished
    said = capsys.readouterr().err
    assert "failed: a.nii.gz: Memory ran out on cuda while an image of" in said
    assert "take another one with --gpu N, set --precision bf16-mixed" in said
    assert (out / "b.nii.gz").exists()


def test_contract_weights_that_do_not_fit_are_one_paragraph(monkeypatch):
    class Heavy:
        def to(self, _device):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.")

    monkeypatch.setattr(models, "load_task", lambda _run: (Heavy(), {"dimension": 2}))
    with pytest.raises(run.FoveateError, match="ran out on cpu while the weights were copied there: end"):
        models.open_model("run", "cpu")


def test_contract_skipped_windows_are_counted(tmp_path, given, capsys):  # noqa: F811
    truth = write_scan(tmp_path / "in/a.nii.gz", orientation="RAS", shape=(40, 21, 12))
    image = nib.load(tmp_path / "in/a.nii.gz")
    values = np.where(truth, np.asarray(image.dataobj), 0).astype(np.int16)
    nib.save(nib.Nifti1Image(values, image.affine), tmp_path / "in/a.nii.gz")
    masks = []
    for skip in ("false", "true"):
        _, out = given(tmp_path / "in", out=skip, **{"window.skip_background": skip})
        masks.append(np.asarray(nib.load(out / "a.nii.gz").dataobj))
    assert np.array_equal(*masks)
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "held only background" in line]
    assert 0 < int(line.split()[0]) < int(line.split()[2])


def test_contract_results_of_two_precisions_do_not_mix(tmp_path, given):  # noqa: F811
    write_scan(tmp_path / "in/a.nii.gz")
    given(tmp_path / "in")
    model = replace(ideal(), precision="bf16-mixed")
    with pytest.raises(run.FoveateError, match="precision: 32-true -> bf16-mixed"):
        given(tmp_path / "in", model=model)
    path = tmp_path / "out/predict.json"  # of an earlier version, which computed in float32
    path.write_text(json.dumps({k: v for k, v in json.loads(path.read_text()).items() if k != "precision"}))
    assert given(tmp_path / "in")[0]


def test_contract_networks_compute_in_the_precision_of_the_model(tmp_path, given):  # noqa: F811
    """Layers do, masks and images stay as they are."""
    write_scan(tmp_path / "in/a.nii.gz")
    layer, seen = torch.nn.Conv3d(1, 2, 1), []

    def outputs(images):
        seen.append((images.dtype, layer(images).dtype))
        return bright(images)

    for precision, dtype in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        model = replace(ideal(), precision=precision)
        model.task.__class__.outputs = staticmethod(outputs)
        given(tmp_path / "in", out=precision, model=model)
        assert set(seen) == {(torch.float32, dtype)}
        seen.clear()


def test_contract_the_next_image_is_read_while_this_one_is_computed():
    started, closed = [threading.Event() for _ in range(3)], []

    def read(record):
        started[record].set()
        if record == 1:
            raise ValueError("no scan")
        held = ExitStack()
        held.callback(closed.append, record)
        return Opened(line=("", ""), volume=None, warning="", held=held)

    images = read_ahead(range(3), read)
    number, coming = next(images)
    assert number == 0
    assert started[1].wait(60)  # before anybody is done with the first
    assert not started[2].is_set()  # two at most
    coming.result().held.close()
    with pytest.raises(ValueError, match="no scan"):
        next(images)[1].result()
    assert started[2].wait(60)
    images.close()
    assert closed == [0, 2]  # nobody took the last one

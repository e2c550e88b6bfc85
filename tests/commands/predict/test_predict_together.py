"""Several runs answer every image together."""

import csv
import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.commands.finetune.test_finetune import PATCH, write_pair
from tests.conftest import SHAPES, blobs

from foveate.cli import main
from foveate.commands.finetune import config as finetune_settings, run as training
from foveate.commands.predict.config import SPEC
from foveate.core.types import FoveateError
from foveate.data.sources.folder import FolderSource
from foveate.nets.weights import store as weights
from foveate.runtime.finetuned import open_model, prepared
from foveate.scoring import inference

KINDS = {"volumes": 3, "pictures": 2, "slices": 2, "values": 2}


def varied(source, target, factor, **card):
    """Another run of the same kind: the same weights, the last layer's multiplied."""
    tensors, before = weights.read(source)
    last = [name for name in tensors if name.startswith(("heads.", "head."))]
    tensors = tensors | {name: tensors[name] * factor for name in last}
    target.mkdir(parents=True)
    weights.write(tensors, before | card, target / "weights.safetensors")
    return target / "weights.safetensors"


def factors(kind):
    """Of the last layers: members are neither alike nor all of them sure."""
    return (0.3, -0.2, 1.0) if kind == "values" else (6.0, -4.0, 2.5)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """kind -> three runs: pictures, volumes, volumes by slices; and classes of pictures."""
    root = tmp_path_factory.mktemp("runs")
    found = {}
    for dimension in (2, 3):
        for i in range(4):
            write_pair(root / f"d{dimension}", dimension, i)
    (root / "d2/labels.csv").write_text(
        "image,kind\n" + "".join(f"c{i}.png,{'ab'[i % 2]}\n" for i in range(4))
    )
    for kind, dimension in (("volumes", 3), ("pictures", 2), ("values", 2)):
        values = kind == "values"
        flags = {"task.targets": "[kind]"} if values else {"task.crops.source_sizes": f"[{PATCH[dimension]}]"}
        flags |= {"data": str(root / f"d{dimension}"), "out": str(root / kind), "init": "none"}
        flags |= {"task.name": "classification" if values else "segmentation", "size": "small"}
        flags |= {"steps": "1", "batch_size": "2", "num_workers": "0", "encoder.width": "4"}
        flags |= {"task.crops.grid": PATCH[dimension], "split.val_share": "0.5", "optim.warmup_steps": "0"}
        assert training.finetune(finetune_settings.SPEC.resolve({}, flags))
        found[kind] = root / kind
    cut = {"slices": {"axis": "auto", "neighbours": 0}, "input": None}
    slices = varied(found["pictures"], root / "slices", 1.0, **cut)
    starts = {**found, "slices": slices}
    return {
        kind: [str(varied(start, root / f"{kind}{i}", f)) for i, f in enumerate(factors(kind))]
        for kind, start in starts.items()
    }


@pytest.fixture
def images(tmp_path):
    """kind -> folder with one image."""

    def made(kind):
        folder = tmp_path / "in"
        folder.mkdir(exist_ok=True)
        if kind in ("volumes", "slices"):
            affine = np.diag([1.0, -1.0, 1.5, 1])
            image = blobs((SHAPES[3][0], SHAPES[3][1], 5) if kind == "slices" else SHAPES[3], 7)
            nib.save(nib.Nifti1Image(image.astype(np.int16), affine), folder / "a.nii.gz")
        else:
            Image.fromarray((blobs(SHAPES[2], 7) / 4).astype(np.uint8)).save(folder / "a.png")
        return folder

    return made


def predicted(data, out, runs, *more):
    words = [word for run in runs for word in ("--run", run)]
    return main(["predict", *words, "--data", str(data), "--out", str(out), "--accelerator", "cpu", *more])


def rows_of(out):
    return {row["image"]: row for row in csv.DictReader((out / "predictions.csv").open())}


def shares_of(out):
    """Probabilities (*S, K) as whole numbers, and the mask."""
    if (out / "a.png").exists():
        mask = np.asarray(Image.open(out / "a.png")).T
        return np.load(out / "a_probabilities.npz")["probabilities"], mask
    image = nib.load(out / "a_probabilities.nii.gz")
    raw = np.rint(np.asarray(image.dataobj) * 65535)
    return raw, np.asarray(nib.load(out / "a.nii.gz").dataobj)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["volumes", "pictures", "slices"])
def test_probabilities_of_several_runs_are_averaged_in_one_pass(runs, images, tmp_path, monkeypatch, kind):
    data, some, counts, read = images(kind), runs[kind][:2], [], inference.read_window
    monkeypatch.setattr(inference, "read_window", lambda *given: counts.append(1) or read(*given))
    more = ["--probabilities", "true"]
    for i, run in enumerate(some):
        assert predicted(data, tmp_path / f"alone{i}", [run], *more) == 0
    alone = [shares_of(tmp_path / f"alone{i}") for i in range(2)]
    once = len(counts) // 2
    counts.clear()
    assert predicted(data, tmp_path / "together", some, *more) == 0
    assert len(counts) == once
    shares, mask = shares_of(tmp_path / "together")
    mean = np.mean([each.astype(float) for each, _ in alone], axis=0)
    assert np.abs(shares - mean).max() <= 1
    clear = np.abs(mean[..., 1] - mean[..., 0]) > 2
    assert np.array_equal(mask[clear], mean.argmax(-1)[clear])
    assert len({other.tobytes() for _, other in alone}) > 1


def test_classes_of_several_runs_are_averaged(runs, images, tmp_path):
    data, shares = images("values"), []
    for i, run in enumerate(runs["values"]):
        assert predicted(data, tmp_path / f"alone{i}", [run]) == 0
        row = rows_of(tmp_path / f"alone{i}")["a.png"]
        shares.append([float(row["a"]), float(row["b"])])
    assert predicted(data, tmp_path / "together", runs["values"]) == 0
    row = rows_of(tmp_path / "together")["a.png"]
    mean = np.mean(shares, axis=0)
    assert np.std(shares, axis=0).max() > 1e-3
    assert [float(row["a"]), float(row["b"])] == pytest.approx(mean, abs=1e-5)
    assert row["predicted"] == "ab"[int(mean.argmax())]


def test_the_settings_list_every_run_in_any_order(runs, images, tmp_path, capsys):
    data, out = images("values"), tmp_path / "out"
    assert predicted(data, out, runs["values"][:2]) == 0
    assert len(set(json.loads((out / "predict.json").read_text())["weights"])) == 2
    assert predicted(data, out, runs["values"][1::-1]) == 0
    assert predicted(data, out, runs["values"]) == 2
    assert "weights: " in capsys.readouterr().err
    assert predicted(data, tmp_path / "twice", runs["values"][:1] * 2) == 2
    assert "named twice" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"intensity": {"spacing_mm": [1, 1, 1]}}, "intensity.spacing_mm"),
        ({"task": {"classes": ["other=1"]}}, "class_names"),
        ({"slices": {"axis": "x", "neighbours": 0}}, "slices.axis"),
    ],
)
def test_runs_that_do_not_fit_are_refused_and_the_field_is_named(runs, tmp_path, changed, field):
    first = runs["pictures"][0]
    before = weights.read(first)[1]
    changed = {k: {**(before[k] or {}), **v} if isinstance(v, dict) else v for k, v in changed.items()}
    other = varied(first, tmp_path / "other", 1.0, **changed)
    with pytest.raises(FoveateError, match=rf"its {field} is .*, that of .* is "):
        open_model([first, str(other)], "cpu")


def test_another_task_is_no_member(runs):
    with pytest.raises(FoveateError, match=r"its task is classification, that of .* is segmentation"):
        open_model([runs["pictures"][0], runs["values"][0]], "cpu")


def test_windows_of_background_are_refused_for_whole_images(runs, images, tmp_path, capsys):
    assert predicted(images("values"), tmp_path / "out", runs["values"][:1], "--skip_background") == 2
    assert "--window.skip_background true: the answers are for whole images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("keys", "flags", "runs_said"),
    [
        ({"run": "A, b"}, {}, ("A, b",)),
        ({"run": ["A", "B"]}, {}, ("A", "B")),
        ({"run": "C"}, {"run": '["A", "B, c"]'}, ("A", "B, c")),
    ],
)
def test_runs_of_a_file_are_one_or_a_list(keys, flags, runs_said):
    assert SPEC.resolve(keys, flags).runs == runs_said


def test_equal_members_answer_as_one(runs):
    model = open_model(runs["volumes"][0], "cpu")
    assert open_model([runs["volumes"][0]], "cpu").others == ()
    assert len(replace(model, others=(model.task,) * 2).networks) == 3


@pytest.mark.parametrize("members", [1, 2])
def test_mirror_images_of_whole_images_are_averaged(runs, images, tmp_path, members):
    model = open_model(runs["values"][:members], "cpu")
    record = next(iter(FolderSource().records(images("values"))))
    with prepared(record, model.prepare, tmp_path) as volume:
        view = model.networks[0].view(volume)
        slow = [
            task.outputs(view.flip(flips))[0].softmax(0)
            for task in model.networks
            for flips in ([], [2], [3], [2, 3])
        ]
        found = model.opinions(volume, "all")
        assert found.shape == (4 if members == 1 else 2, 2)
        assert torch.allclose(model.predicted(volume, "all"), torch.stack(slow).mean(0), atol=1e-6)
    assert torch.stack(slow).std(0).max() > 1e-4


def test_an_axis_that_the_images_do_not_have_is_refused_at_once(runs, images, tmp_path, capsys):
    assert predicted(images("pictures"), tmp_path / "out", runs["pictures"][:1], "--mirror", "z") == 2
    assert "no axis z" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()

"""Fine-tuning from end to end: tiny cohorts, both tasks, 2D and 3D, resume, equal arms, refusals."""

import json
import os
import re
import signal

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import SHAPES, blobs, tiny_keys
from torch.utils._pytree import tree_leaves

import foveate
from foveate.cli import main
from foveate.commands.finetune import config as finetune_settings, run
from foveate.commands.finetune.build import build_task
from foveate.commands.pretrain import config as settings
from foveate.commands.pretrain.run import pretrain
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

PATCH = {2: "[64, 64]", 3: "[16, 16, 16]"}
WEIGHTS = "exported/weights.safetensors"


def write_pair(root, dimension, i, *, value=1, shift=0.0, cut=0):
    """An image and the map of its bright half."""
    image = blobs(SHAPES[dimension], i)
    label = (image > np.median(image)).astype(np.uint8) * value
    label = label[: label.shape[0] - cut]
    for kind, array in (("images", image), ("labels", label)):
        (root / kind).mkdir(parents=True, exist_ok=True)
        if dimension == 3:
            affine = np.diag([1.0, 1.0, 1.5, 1])
            affine[0, 3] = shift if kind == "labels" else 0
            nib.save(nib.Nifti1Image(array.astype(np.int16), affine), root / kind / f"c{i}.nii.gz")
        else:
            grey = array if kind == "labels" else array / 1000 * 255
            Image.fromarray(grey.astype(np.uint8).T).save(root / kind / f"c{i}.png")


@pytest.fixture(scope="session")
def labelled(tmp_path_factory):
    """dimension -> folder of six labelled images, also with a table of values."""
    root = tmp_path_factory.mktemp("labelled")
    for dimension in (2, 3):
        for i in range(6):
            write_pair(root / f"d{dimension}", dimension, i)
        suffix = "png" if dimension == 2 else "nii.gz"
        rows = "".join(f"c{i}.{suffix},{'ab'[i % 2]},{i % 2},{i * 10}\n" for i in range(6))
        (root / f"d{dimension}/labels.csv").write_text(f"image,kind,found,age\n{rows}")
    return {d: root / f"d{d}" for d in (2, 3)}


@pytest.fixture
def keys(labelled, tmp_path):
    """(dimension, **flags) -> flags of a run of seconds."""

    def build(dimension, out="run", task="segmentation", **flags):
        flat = {
            "data": str(labelled[dimension]),
            "out": str(tmp_path / out),
            "task.name": task,
            "init": "none",
            "size": "small",
            "steps": "4",
            "batch_size": "2",
            "num_workers": "0",
            "log_every": "1",
            "validate_every": "2",
            "preview_every": "4",
            "encoder.width": "4",
            "task.crops.grid": PATCH[dimension],
            "split.val_share": "0.34",
        }
        if task == "segmentation":
            flat["task.crops.source_sizes"] = f"[{PATCH[dimension]}]"
        return {k: v for k, v in (flat | flags).items() if v is not None}

    return build


def started(flags):
    return run.finetune(finetune_settings.SPEC.resolve({}, flags))


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("dimension", [2, 3])
def test_segmentation_leaves_everything_that_a_user_needs(keys, tmp_path, dimension):
    assert started(keys(dimension))
    out = tmp_path / "run"
    validated = [row for row in rows_of(out) if "val/score" in row]
    assert [row["step"] for row in validated] == [2, 4]
    assert {"val/mean_fg_dice", "val/dice/class1"} <= set(validated[0])
    assert (out / "previews/step-000000004.png").stat().st_size > 1000
    assert {p.name for p in (out / "checkpoints").iterdir()} == {"best.ckpt", "step-000000004.ckpt"}
    tensors, card = weights.read(out)
    assert {name.split(".")[0] for name in tensors} == {"encoder", "decoder", "heads"}
    assert card["class_names"] == ["background", "class1"]
    assert card["validation_score"] == max(row["val/score"] for row in validated)
    assert card["task"]["classes"] == ["class1=1"]
    assert len(json.loads((out / "split.json").read_text())["val"]) == 2


def test_nothing_in_the_run_folder_names_a_case(keys, tmp_path):
    assert started(keys(3, **{"split.save_as": str(tmp_path / "mine.json")}))
    for path in (tmp_path / "run").rglob("*"):
        assert not path.is_file() or b"c0.nii" not in path.read_bytes(), path
    assert "images/c0.nii.gz" in (tmp_path / "mine.json").read_text()


@pytest.mark.parametrize(
    "flags",
    [
        {"task.kind": "multiclass", "task.targets": "[kind]"},
        {"task.kind": "multilabel", "task.targets": "[found]", "task.weighting": "balanced"},
        {"task.kind": "regression", "task.targets": "[age]"},
    ],
    ids=lambda flags: flags["task.kind"],
)
@pytest.mark.parametrize("dimension", [2, 3])
def test_classification_of_every_kind(keys, tmp_path, dimension, flags):
    assert started(keys(dimension, task="classification", **flags))
    last = [row for row in rows_of(tmp_path / "run") if "val/score" in row][-1]
    assert last["val/mae" if flags["task.kind"] == "regression" else "val/auroc"] is not None
    assert set(weights.read(tmp_path / "run")[1]["task"]["targets"]) == {flags["task.targets"][1:-1]}


def test_one_class_in_validation_has_no_auroc_and_the_last_weights_are_exported(keys, tmp_path):
    split = {"train": ["c0", "c1", "c2", "c3"], "val": ["c4"]}
    (tmp_path / "split.json").write_text(json.dumps(split))
    flags = {"task.targets": "[kind]", "split.source": str(tmp_path / "split.json")}
    assert started(keys(2, task="classification", **flags))
    last = [row for row in rows_of(tmp_path / "run") if "val/score" in row][-1]
    assert last["val/auroc"] is None
    assert last["val/balanced_acc"] is not None
    assert weights.read(tmp_path / "run")[1]["validation_score"] is None


def stop_at(config, step):
    class Bomb(run.RunLog):
        def advance(self, done):
            super().advance(done)
            if done == step:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run, "RunLog", Bomb)
        assert not run.finetune(config)


@pytest.mark.parametrize(
    ("dimension", "step", "task"), [(2, 3, "segmentation"), (3, 2, "segmentation"), (2, 2, "localization")]
)
def test_interrupted_and_resumed_is_bit_equal(keys, tmp_path, dimension, step, task):
    flags = {"task": task, "steps": "6", "tuning.layer_decay": "0.8", "tuning.frozen_steps": "2"}
    flags |= {"tuning.average": "0.9"} if dimension == 3 else {}
    assert started(keys(dimension, "a", **flags))
    config = finetune_settings.SPEC.resolve({}, keys(dimension, "b", **flags))
    stop_at(config, step)
    assert not (tmp_path / "b" / WEIGHTS).exists()
    assert run.finetune(config)
    for file in (WEIGHTS, "exported/card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    states = [torch.load(tmp_path / n / "checkpoints/step-000000006.ckpt", weights_only=True) for n in "ab"]
    for name, value in states[0]["model"].items():
        assert torch.equal(value, states[1]["model"][name]), name
    scores = [[row["val/score"] for row in rows_of(tmp_path / n) if "val/score" in row] for n in "ab"]
    assert scores[0] == scores[1]


@pytest.fixture
def pretrained(cohorts, tmp_path):
    """dimension -> a finished pre-training run."""

    def build(dimension):
        flags = tiny_keys(dimension, cohorts[dimension], tmp_path / "pre", steps=1)
        assert pretrain(settings.SPEC.from_keys(flags))
        return str(tmp_path / "pre")

    return build


def batches_of(flags, count=3):
    config = finetune_settings.SPEC.resolve({}, flags)
    fabric = run.build_fabric(config)
    images = run.load_images(config, run.Path(config.out).parent / f"cache-{run.Path(config.out).name}")
    task = build_task(images.config)
    run.start_from(task, images)
    source = run.batches_from(images.config, images.train, task, fabric, 0)
    return [next(source) for _ in range(count)], task


def tensors(batch):
    return [x for x in tree_leaves(batch) if isinstance(x, torch.Tensor)]


@pytest.mark.parametrize("dimension", [2, 3])
def test_both_arms_see_the_same_bytes(keys, pretrained, dimension):
    """Two caches of their own, so that not even a salt may matter; heads start equal, encoders do not."""
    source = pretrained(dimension)
    scratch, one = batches_of(keys(dimension, "a"))
    started_from, other = batches_of(keys(dimension, "b", init=source, **{"encoder.width": None}))
    for first, second in zip(scratch, started_from, strict=True):
        assert first["index"] == second["index"]
        assert all(torch.equal(a, b) for a, b in zip(tensors(first), tensors(second), strict=True))
    assert torch.equal(
        one.heads.state_dict()[f"{one.scales[0]}.weight"], other.heads.state_dict()[f"{one.scales[0]}.weight"]
    )
    name = next(n for n, p in one.net.encoder.named_parameters() if p.ndim > 2)
    parts = [dict(task.net.encoder.named_parameters())[name] for task in (one, other)]
    assert not torch.equal(*parts)
    assert torch.equal(parts[1], weights.read(source)[0][f"encoder.{name}"])


def test_init_is_reported_and_contradictions_are_refused(keys, pretrained, tmp_path, capsys):
    source = pretrained(3)
    flags = keys(3, init=source, **{"encoder.width": None, "tuning.transfer": "encoder_decoder"})
    assert started(flags | {"steps": "1"})
    text = capsys.readouterr().err
    assert "--init, encoder: weights: 100% of the encoder initialised; 56 tensors matched" in text
    assert "--init, decoder: weights:" in text
    for key, value in (
        ("encoder.width", "8"),
        ("task.appearance.normalisation", "none"),
    ):
        with pytest.raises(FoveateError, match=f"--{key} {value} contradicts the card of --init"):
            finetune_settings.SPEC.resolve({}, flags | {key: value})
    with pytest.raises(FoveateError, match=r"--data says 2D, the card of --init says 3D; accepted"):
        finetune_settings.SPEC.resolve({}, keys(2, init=source))


def test_a_frozen_encoder_is_exported_as_it_came(keys, pretrained, tmp_path):
    source = pretrained(2)
    flags = {"encoder.width": None, "tuning.encoder": "frozen", "task.targets": "[kind]"}
    assert started(keys(2, task="classification", init=source, **flags))
    before, after = weights.read(source)[0], weights.read(tmp_path / "run")[0]
    names = [name for name in after if name.startswith("encoder.")]
    assert all(torch.equal(after[name], before[name]) for name in names)


def test_fresh_statistics_are_those_of_a_new_network(keys, pretrained):
    source = pretrained(2)
    _, task = batches_of(
        keys(2, init=source, **{"encoder.width": None, "tuning.norm_statistics": "fresh"}), 1
    )
    assert torch.equal(task.net.encoder.bn1.running_mean, torch.zeros(4))
    assert torch.equal(task.net.encoder.bn1.weight, weights.read(source)[0]["encoder.bn1.weight"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift": 0.5}, r"1 labelled images cannot be used: images/c9.nii.gz: .*0.5 mm away"),
        ({"cut": 2}, r"images/c9.nii.gz: .*its shape is \(22, 26, 20\), the image's \(24, 26, 20\)"),
        ({"value": 7}, r"labels hold the values \[7\], which no class of a=1 declares"),
    ],
)
def test_maps_that_do_not_fit_are_named(keys, tmp_path, change, message):
    for i in range(5):
        write_pair(tmp_path / "data", 3, i)
    write_pair(tmp_path / "data", 3, 9, **change)
    with pytest.raises(FoveateError, match=message):
        started(keys(3, data=str(tmp_path / "data"), **{"task.classes": "[a=1]"}))


def test_header_noise_is_accepted(keys, tmp_path):
    for i in range(6):
        write_pair(tmp_path / "data", 3, i, shift=5e-4)
    assert started(keys(3, data=str(tmp_path / "data"), steps="1"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"init": None}, r"--init is missing.*--init RUN\|FILE\|none"),
        ({"task.name": "detektion"}, "no such task; did you mean|no such task"),
        ({"task.crops.grid": "[20, 16, 16]"}, r"task.crops.grid \[20, 16, 16\] .*multiples of 8"),
        ({"validate_every": "0"}, "--validate_every 0"),
        ({"task.kind": "multiclass"}, "belongs to classification, and this run uses segmentation"),
        ({"split.train_cases": "99"}, "there are 4 training cases"),
    ],
)
def test_bad_keys_are_refused_in_a_paragraph(keys, capsys, flags, message):
    given = keys(3, **flags)
    given["task"] = given.pop("task.name")
    assert main(["finetune", *(part for k, v in given.items() for part in (f"--{k}", v))]) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    assert re.search(message, text), text


def test_print_config_dry_run_and_help(keys, capsys, tmp_path):
    given = keys(2)
    given["task"] = given.pop("task.name")
    arguments = ["finetune", *(part for k, v in given.items() for part in (f"--{k}", v))]
    assert main([*arguments, "--print_config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(text)
    assert main(["finetune", "--config", str(tmp_path / "c.yaml"), "--print_config"]) == 0
    assert capsys.readouterr().out == text
    assert main([*arguments, "--dry_run"]) == 0
    assert "outputs: background, class1 (softmax)" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    assert main(["finetune", "--help_all"]) == 0
    assert "--tuning.layer_decay" in capsys.readouterr().out


def test_the_python_call_is_the_command(keys, tmp_path):
    flags = keys(2)
    task = {"name": "segmentation", "crops": {"grid": [64, 64], "source_sizes": [[64, 64]]}}
    options = {"size": "small", "steps": 1, "batch_size": 2, "num_workers": 0, "encoder": {"width": 4}}
    assert foveate.finetune(data=flags["data"], out=tmp_path / "run", task=task, init="none", **options)
    assert (tmp_path / "run" / WEIGHTS).exists()


def test_the_best_checkpoint_is_the_earlier_of_equal_ones(keys, tmp_path, monkeypatch):
    scores = iter([0.5, 0.7, 0.7, float("nan"), 0.6])
    monkeypatch.setattr(run, "validate", lambda *_: {"score": next(scores)})
    assert started(keys(2, steps="5", validate_every="1", **{"tuning.average": "0"}))
    state = torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)
    assert (state["step"], state["best"]) == (2, 0.7)
    last = torch.load(tmp_path / "run/checkpoints/step-000000005.ckpt", weights_only=True)
    exported = weights.read(tmp_path / "run")[0]["encoder.conv1.weight"]
    assert torch.equal(exported, state["model"]["net.encoder.conv1.weight"])
    assert not torch.equal(exported, last["model"]["net.encoder.conv1.weight"])


def test_a_scratch_run_on_ct_keeps_hounsfield_units_and_others_keep_the_views_of_pre_training():
    given = {"task.name": "segmentation", "dimension": 3, "init": "none"}
    assert finetune_settings.default_config(given).task.appearance.normalisation == "zscore"
    ct = finetune_settings.default_config({**given, "prepare.profile": "ct"})
    assert ct.task.appearance.normalisation == "none"


def test_what_was_chosen_on_label_maps_is_the_default_of_label_maps_only():
    given = {"dimension": 2, "init": "none", "size": "small"}
    maps, values = (
        finetune_settings.default_config({**given, "task.name": name})
        for name in ("segmentation", "classification")
    )
    assert (maps.optim.schedule, maps.optim.lr, maps.tuning.average) == ("polynomial", 1e-3, 0.99)
    assert (values.optim.schedule, values.optim.lr, values.tuning.average) == ("cosine", 2e-3, 0.0)
    assert (maps.task.normalisation, values.task.normalisation) == ("zscore", "imagenet")

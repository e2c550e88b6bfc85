"""Patients and pairs through the verbs: a run splits by them, an evaluation finds them, nobody is named."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image
from tests.commands.evaluate.test_evaluate import judged, results
from tests.commands.finetune.test_finetune import keys, labelled
from tests.conftest import SHAPES, blobs, tiny_keys
from tests.data.drawn import image, label_map, names, scattered

from foveate.cli import main
from foveate.commands.finetune import config as finetune_settings, run as training
from foveate.commands.finetune.images import load_images
from foveate.commands.pretrain import config as settings
from foveate.commands.pretrain.run import pretrain
from foveate.core.types import FoveateError
from foveate.data.cohort.leakage import read_seen

__all__ = ["keys", "labelled", "names"]
PEOPLE, EACH = 4, 3
SEVERAL = {"split.val_share": "0.3", "validate_every": "1", "steps": "1"}


@pytest.fixture
def folder(tmp_path, names):
    """One folder of pictures and their maps under drawn ends; the ends, and relative path -> patient."""
    root, of = tmp_path / "data", {}
    one, other = names.words(2)
    root.mkdir()
    people = names.words(PEOPLE)
    for i in range(PEOPLE * EACH):
        stem = f"{people[i % PEOPLE]}={i}"
        grey = blobs(SHAPES[2], i)
        Image.fromarray((grey / 1000 * 255).astype(np.uint8).T).save(root / f"{stem}_{one}.png")
        Image.fromarray((grey > np.median(grey)).astype(np.uint8).T).save(root / f"{stem}_{other}.png")
        of[f"{stem}_{one}.png"] = people[i % PEOPLE]
    return root, (one, other), of


def test_a_run_on_one_folder_splits_by_patient_and_is_evaluated(folder, keys, tmp_path, capsys):
    root, (one, other), of = folder
    flags = {**keys(2), **SEVERAL, "data": str(root), "patient_pattern": "^([a-z]+)="}
    config = finetune_settings.SPEC.resolve({}, flags)
    found = load_images(config, tmp_path / "look").split
    people = {part: {of[r.relative] for r in records} for part, records in found.items()}
    assert people["train"]
    assert people["val"]
    assert not people["train"] & people["val"]
    assert training.finetune(config)
    told = " ".join(capsys.readouterr().err.split())
    log = (tmp_path / "run/train.log").read_text()
    assert f"patients from --patient_pattern: {PEOPLE} patients, {PEOPLE * EACH} images" in log
    assert f"patients from --patient_pattern: {PEOPLE} patients, {PEOPLE * EACH} images" in told
    assert f"{{case}}_{one}.png is the image, {{case}}_{other}.png the label map" in told
    assert judged(config.out, str(root), tmp_path / "val", part="val")
    summary, _ = results(tmp_path / "val")
    assert summary["patients"] == len(people["val"])
    written = [p for place in ("run", "val", "foveate-cache") for p in (tmp_path / place).rglob("*")]
    for path in [p for p in written if p.is_file() and "private" not in p.parts]:
        assert not any(who.encode() in path.read_bytes() for who in of.values()), path


def test_pairs_and_pattern_are_in_the_helps_and_belong_to_folders(folder, keys, capsys):
    root, (one, other), _ = folder
    for verb in (["finetune", "--task", "segmentation"], ["split"]):
        assert main([*verb, "--help_all"]) == 0
        told = capsys.readouterr().out
        assert "--pairs" in told
        assert "--patient_pattern" in told
    said = f"{{case}}_{one}.png={{case}}_{other}.png"
    config = finetune_settings.SPEC.resolve({}, {**keys(2), "data": str(root), "pairs": said})
    assert config.pairs == said
    with pytest.raises(FoveateError, match="--pairs belongs to --source folder"):
        finetune_settings.SPEC.resolve(
            {}, {**keys(2), "data": str(root), "pairs": said, "source.name": "csv"}
        )


def test_pretraining_writes_down_patients_of_a_table_and_no_label_map(tmp_path, names):
    root, (one, other, column) = tmp_path / "data", names.words(3)
    rows = []
    for i, case in enumerate(names.cases(6)):
        image(root / f"{case}_{one}.nii.gz", i)
        (scattered if i == 2 else label_map)(root / f"{case}_{other}.nii.gz", i)
        rows.append(f"{case}_{one}.nii.gz,{column}{i // 2}\n")
    (root / "labels.csv").write_text("image,patient\n" + "".join(rows))
    out = tmp_path / "runs" / "run"
    config = settings.SPEC.from_keys(
        tiny_keys(3, root, out, steps=1, method={"global_crops": {"grid": [8, 8, 8]}})
    )
    assert pretrain(config)
    assert "3 patients of 6 images are known" in (out / "train.log").read_text()
    seen = read_seen(out)
    assert (len(seen.images), len(seen.patients)) == (6, 3)
    assert json.loads((out / "exported/card.json").read_text())["patients"] == 3
    assert column not in (out / "seen.json").read_text()


def test_a_patient_in_two_given_parts_is_refused_where_only_the_table_knows(folder, keys):
    root, _, of = folder
    rows = "".join(f"{name},{who}\n" for name, who in of.items())
    (root / "labels.csv").write_text("image,patient\n" + rows)
    first, second, *_ = [name for name, who in of.items() if who == next(iter(of.values()))]
    (root / "split.json").write_text(json.dumps({"train": [first], "val": [second]}))
    flags = {**keys(2), "data": str(root), "split.source": str(root / "split.json")}
    with pytest.raises(FoveateError, match="the same patient or image is for train"):
        load_images(finetune_settings.SPEC.resolve({}, flags), root.parent / "look")

"""The commands of README.md, as they are written there, on images of seconds."""

import csv
import json
import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from foveate.cli import main
from foveate.testing.cohorts import SHAPES, write_cohort
from tests.commands.finetune.test_finetune import write_pair
from tests.conftest import VIEWS, blobs

README = Path(__file__).parents[1] / "README.md"
PLACE = re.compile(r"[A-Z]+\d?")  # FOLDER, RUN2: the reader's own
PATH = ("pretrain", "finetune", "predict", "evaluate")
TRAINED = "--steps 4 --batch_size 2 --num_workers 0 --encoder.width 4"
VIEW, CROP = (str(list(view)).replace(" ", "") for view in VIEWS[3])
TINY = {  # what keeps a run short; nothing of it changes where things come from and go
    "pretrain": f"{TRAINED} --method.global_crops.grid {VIEW} --method.local_crops.grid {CROP} "
    f"--method.local_crops.count 2 --method.global_crops.source_sizes [{VIEW}] "
    f"--method.local_crops.source_sizes [{CROP}] --method.global_appearance.swap_count 4",
    "segmentation": f"{TRAINED} --validate_every 2 --task.crops.grid {VIEW} "
    f"--task.crops.source_sizes [{VIEW}]",
    "classification": f"{TRAINED} --validate_every 2 --task.crops.grid {VIEW}",
    "predict": "",
    "evaluate": "--draws 50",
}


def commands():
    """The lines of README's code blocks that belong to the path from images to scores."""
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for language, block in blocks if not language for line in block.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines]
    return [words for words in split if words[:1] == ["foveate"] and words[1] in PATH]


@pytest.fixture
def home(tmp_path):
    """A folder with what README calls FOLDER, LABELLED and SCANS."""
    write_cohort(tmp_path / "FOLDER", 3)
    for i in range(6):
        write_pair(tmp_path / "LABELLED", 3, i)
    rows = "".join(f"c{i}.nii.gz,{i % 2}\n" for i in range(6))
    (tmp_path / "LABELLED/labels.csv").write_text(f"image,disease\n{rows}")
    (tmp_path / "SCANS").mkdir()
    image = nib.Nifti1Image(blobs(SHAPES[3], 9).astype(np.int16), np.diag([1, 1, 1.5, 1]))
    nib.save(image, tmp_path / "SCANS/new.nii.gz")
    return tmp_path


def card_of(run):
    return json.loads((run / "exported/card.json").read_text())


def test_the_commands_of_the_readme_lead_from_images_to_scores(home):
    found = commands()
    assert [words[1] for words in found] == ["pretrain", "finetune", "finetune", "predict", "evaluate"]
    for words in found:
        kind = words[words.index("--task") + 1] if "--task" in words else words[1]
        placed = [str(home / word) if PLACE.fullmatch(word) else word for word in words[1:]]
        assert main([*placed, *TINY[kind].split()]) == 0, shlex.join(words)
    assert card_of(home / "RUN2")["initial_weights"]["data_hash"] == card_of(home / "RUN")["data_hash"]
    assert card_of(home / "RUN3")["task"]["targets"] == ["disease"]
    mask, image = nib.load(home / "MASKS/new.nii.gz"), nib.load(home / "SCANS/new.nii.gz")
    assert mask.shape == image.shape
    assert np.array_equal(mask.affine, image.affine)
    (row,) = csv.DictReader((home / "MASKS/predictions.csv").open())
    assert row.keys() == {"image", "mask", "entropy", "warning"}
    assert (row["image"], row["mask"], row["warning"]) == ("new.nii.gz", "new.nii.gz", "")
    summary = json.loads((home / "REPORT/summary.json").read_text())
    assert summary["part"] == "val"
    assert 0 <= summary["metrics"]["mean_fg_dice"]["value"] <= 1
    assert len(list(csv.DictReader((home / "REPORT/cases.csv").open()))) == summary["cases"] > 0

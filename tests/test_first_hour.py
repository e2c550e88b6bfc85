"""The commands of docs/first_hour.md, as they are written there, on images of seconds."""

import re
import shlex
from pathlib import Path

import nibabel as nib
import numpy as np
from pydicom.uid import generate_uid

from foveate.cli import main
from foveate.testing.cohorts import SHAPES, blobs, write_picture
from tests.conftest import VIEWS
from tests.data.readers.dicom.drawings import contour, rtstruct, series

PAGE = Path(__file__).parents[1] / "docs/first_hour.md"
FOLDER = re.compile(r"[A-Z]+(-[A-Z]+)*")  # the reader's own
SHORT = "--steps 2 --batch_size 2 --num_workers 0 --encoder.width 4"


def short(words: list[str], dimension: int) -> list[str]:
    """What keeps a run short; nothing of it changes where things come from and go."""
    view, crop = (str(list(each)).replace(" ", "") for each in VIEWS[dimension])
    crops = {"pretrain": "method.global_crops", "finetune": "task.crops"}.get(words[1])
    if crops is None:
        return {"evaluate": ["--draws", "20"], "scan": ["--num_workers", "0"]}.get(words[1], [])
    keys = f"{SHORT} --{crops}.grid {view}"
    if words[1] == "pretrain":
        keys += f" --method.local_crops.grid {crop} --method.local_crops.count 2"
    if dimension > 2:
        keys += f" --{crops}.source_sizes [{view}]"
        if words[1] == "pretrain":
            keys += f" --method.local_crops.source_sizes [{crop}]"
    return keys.split()


def make_volumes(folder: Path) -> None:
    folder.mkdir()
    for i in range(6):
        image = blobs(SHAPES[3], i)
        for name, array in (("image", image), ("label", image > np.median(image))):
            made = nib.Nifti1Image(array.astype(np.int16), np.diag([1, 1, 1.5, 1]))
            nib.save(made, folder / f"p{i:02d}_{name}.nii.gz")


def make_dicom(folder: Path) -> None:
    square = [(2.5, 3.5), (2.5, 12.5), (11.5, 12.5), (11.5, 3.5)]
    for i in range(6):
        uid, frame = generate_uid(), generate_uid()
        series(folder / f"s{i}", (20, 26, 24), uid, frame, f"P{i}", value=i)
        rtstruct(folder / f"s{i}" / "rs", {"GTV": [contour(square, k) for k in range(3, 9)]}, uid, frame)


def make_pictures(folder: Path) -> None:
    (folder / "images").mkdir(parents=True)
    rows = ["image,patient,finding"]
    for i in range(16):
        write_picture(folder / f"images/{i:02d}.png", blobs(SHAPES[2], i))
        rows.append(f"{i:02d}.png,p{i // 2},{i // 2 % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


def commands() -> list[list[str]]:
    blocks = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [shlex.split(line) for block in blocks for line in block.splitlines()]
    return [words for words in lines if words[:1] == ["foveate"]]


def test_the_page_as_it_is_written(tmp_path):
    for make, name in ((make_volumes, "VOLUMES"), (make_dicom, "DICOM"), (make_pictures, "PICTURES")):
        make(tmp_path / name)
    listed = commands()
    assert {words[1] for words in listed} == {"scan", "split", "pretrain", "finetune", "predict", "evaluate"}
    for words in listed:
        dimension = 2 if any("PICTURES" in word for word in words) else 3
        placed = [str(tmp_path / word) if FOLDER.fullmatch(word) else word for word in words[1:]]
        assert main([*placed, *short(words, dimension)]) == 0, words
    masks = sorted(path.name for path in (tmp_path / "MASKS").rglob("*.nii.gz"))
    assert masks == [f"p{i:02d}_image.nii.gz" for i in range(6)]
    assert len(list((tmp_path / "STRUCTURES").rglob("*.rtstruct.dcm"))) == 6
    assert (tmp_path / "REPORT-OF-DICOM/summary.json").is_file()
    assert (tmp_path / "REPORT/worst.png").stat().st_size > 1000
    assert len((tmp_path / "TABLE/predictions.csv").read_text().splitlines()) == 1 + 16
    assert (tmp_path / "REPORT-OF-PICTURES/summary.json").is_file()

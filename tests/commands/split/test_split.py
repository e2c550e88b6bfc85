"""The verb: lists on disk, the same everywhere; what is refused."""

from __future__ import annotations

import csv
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.drawn import image, label_map, names, scattered

from foveate import cli
from foveate.commands.split import run
from foveate.commands.split.config import SPEC
from foveate.core.types import FoveateError

__all__ = ["names"]


@pytest.fixture
def data(tmp_path):
    """40 small radiographs of 20 patients in a table, patients 0 and 1 with one equal picture."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = []
    for i in range(40):
        pixels = np.random.default_rng(99) if i in (0, 2) else rng
        Image.fromarray(pixels.integers(0, 255, (8, 8), np.uint8)).save(root / "images" / f"{i}.png")
        rows.append({"image": f"{i}.png", "patient": f"p{i // 2}", "tb": int(i // 2 % 4 == 0)})
    with (root / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, ["image", "patient", "tb"])
        writer.writeheader()
        writer.writerows(rows)
    return root


def split(data, out, *flags):
    return cli.main(["split", str(data), "--out", str(out), "--source", "csv", *flags])


def lists(out):
    return {path.relative_to(out).as_posix(): path.read_text() for path in sorted(out.rglob("*.txt"))}


def test_the_same_seed_gives_the_same_lists_wherever_the_data_are(data, tmp_path, capsys):
    assert split(data, tmp_path / "a", "--fractions", "0.1,0.5") == 0
    told = capsys.readouterr().out
    assert "1 sets of images with equal voxels" in told
    assert "tb=1" in told
    moved = shutil.copytree(data, tmp_path / "else" / "where")
    assert split(moved, tmp_path / "b", "--fractions=[0.1,0.5]", "--num_workers", "2") == 0
    assert lists(tmp_path / "a") == lists(tmp_path / "b")
    assert split(data, tmp_path / "c", "--seed", "1") == 0
    assert lists(tmp_path / "a")["train.txt"] != lists(tmp_path / "c")["train.txt"]


def test_lists_are_plain_nested_and_apart(data, tmp_path):
    assert split(data, tmp_path / "out", "--fractions", "0.5,0.1") == 0
    found = {name: text.splitlines() for name, text in lists(tmp_path / "out").items()}
    assert sorted(name for names in ("train", "val", "test") for name in found[f"{names}.txt"]) == sorted(
        f"images/{i}.png" for i in range(40)
    )
    assert set(found["train_0.1/train.txt"]) < set(found["train_0.5/train.txt"]) < set(found["train.txt"])
    assert found["train_0.1/test.txt"] == found["test.txt"]
    part = {name: kind for kind in ("train", "val", "test") for name in found[f"{kind}.txt"]}
    assert all(part[f"images/{i}.png"] == part[f"images/{i + 1}.png"] for i in range(0, 40, 2))
    assert part["images/0.png"] == part["images/2.png"]


def test_lists_that_runs_may_depend_on_are_not_replaced(data, tmp_path, capsys):
    assert split(data, tmp_path / "out") == 0
    assert split(data, tmp_path / "out") == 0
    before = lists(tmp_path / "out")
    assert split(data, tmp_path / "out", "--seed", "1") == 2
    assert "holds another split" in capsys.readouterr().err
    assert lists(tmp_path / "out") == before


def test_equal_voxels_across_given_parts_are_refused_with_both_names(data, tmp_path, capsys):
    rows = list(csv.reader((data / "labels.csv").open()))
    with (data / "labels.csv").open("w", newline="") as stream:
        rows = [
            [*row, "split" if i == 0 else "test" if row[1] == "p1" else "train"] for i, row in enumerate(rows)
        ]
        csv.writer(stream).writerows(rows)
    assert split(data, tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert "images/0.png" in told
    assert "images/2.png" in told
    assert split(data, tmp_path / "out", "--use_given_split", "false") == 0


def test_images_without_labels_go_to_pretraining_unless_they_are_of_the_test(tmp_path):
    from tests.data.sources.miniatures import msd

    (tmp_path / "task").mkdir()
    msd(tmp_path / "task")
    config = SPEC.resolve(
        {},
        {
            "data": str(tmp_path / "task"),
            "out": str(tmp_path / "out"),
            "source.name": "msd",
            "compare_voxels": "false",
            "val_share": "0",
            "test_share": "0.5",
            "fractions": "0.5",
        },
    )
    run.split(config)
    assert lists(tmp_path / "out")["unlabelled.txt"] == "imagesTs/liver_3.nii.gz\n"


def test_unreadable_images_are_left_out_and_named(data, tmp_path, capsys):
    (data / "images" / "7.png").write_bytes(b"no picture")
    assert split(data, tmp_path / "out") == 0
    assert "images/7.png" in capsys.readouterr().err
    assert not any("images/7.png" in text for text in lists(tmp_path / "out").values())


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"fractions": "0.1,1"}, "--fractions 1: accepted"),
        ({"val_share": "0.5", "test_share": "0.5"}, "sum is below 1"),
        ({"source.lists": "official"}, "belongs to chestxray14"),
        ({"source.name": "brats"}, "did you mean brats18"),
    ],
)
def test_settings_that_are_refused(flags, words):
    with pytest.raises(FoveateError, match=words):
        SPEC.resolve({}, {"data": "x", "out": "y", **flags})


def test_help_shows_the_keys_of_the_named_source(capsys):
    assert cli.main(["split", "--source", "chexpert", "--help_all"]) == 0
    assert "--source.uncertain" in capsys.readouterr().out


def parts_of(out):
    return {n: p for p in ("train", "val", "test") for n in (out / f"{p}.txt").read_text().splitlines()}


@pytest.mark.parametrize("what", ["table", "pattern", "bids"])
def test_a_folder_is_split_by_patient_without_a_source(tmp_path, names, what, capsys):
    people = names.words(6)
    lines, of = [], {}
    for number, case in enumerate(names.words(18)):
        who = people[number % 6]
        stem = {"table": case, "pattern": f"{who}={case}", "bids": f"sub-{who}_run-{case}_{case}"}[what]
        image(tmp_path / f"data/images/{stem}.nii.gz", number)
        label_map(tmp_path / f"data/labels/{stem}.nii.gz", number)
        lines.append(f"{stem}.nii.gz,{who}\n")
        of[f"images/{stem}.nii.gz"] = who
    if what == "table":
        (tmp_path / "data/labels.csv").write_text("image,patient\n" + "".join(lines))
    flags = ["--patient_pattern", "([a-z]+)="] if what == "pattern" else []
    assert cli.main(["split", str(tmp_path / "data"), "--out", str(tmp_path / "out"), *flags]) == 0
    assert "6 patients, 18 images" in " ".join(capsys.readouterr().err.split())
    part = parts_of(tmp_path / "out")
    assert set(part) == set(of)
    for who in people:
        assert len({part[name] for name in of if of[name] == who}) == 1


def test_label_maps_in_the_folder_of_their_images_are_in_no_list(tmp_path, names):
    one, other, lonely = names.words(3)
    for number, case in enumerate(names.words(12)):
        image(tmp_path / f"data/{case}_{one}.nii.gz", number)
        (scattered if number == 3 else label_map)(tmp_path / f"data/{case}_{other}.nii.gz", number)
    image(tmp_path / f"data/{lonely}_{one}.nii.gz", 77)
    assert cli.main(["split", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0
    part = parts_of(tmp_path / "out")
    assert len(part) == 12
    assert all(name.endswith(f"_{one}.nii.gz") for name in part)
    assert (tmp_path / "out/unlabelled.txt").read_text() == f"{lonely}_{one}.nii.gz\n"


def test_label_maps_without_images_are_known_by_most_of_their_family(tmp_path, names):
    """Cases of images and of label maps differ: nothing pairs, but voxels are compared."""
    one, other = names.words(2)
    for number, case in enumerate(names.words(24)):
        write = image if number % 2 else (scattered if number == 4 else label_map)
        write(tmp_path / f"data/{case}_{one if number % 2 else other}.nii.gz", number)
    assert cli.main(["split", str(tmp_path / "data"), "--out", str(tmp_path / "out")]) == 0
    assert all(name.endswith(f"_{one}.nii.gz") for name in parts_of(tmp_path / "out"))

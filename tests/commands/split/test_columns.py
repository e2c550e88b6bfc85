"""Tables beside a folder's images: strata and groups, and what is said of them."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from PIL import Image

from foveate import cli

SITES = ("north", "south", "east", "west", "")


@pytest.fixture
def folder(tmp_path):
    """60 pictures of 30 patients, a table of images and one of patients."""
    root = tmp_path / "data"
    (root / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for i in range(60):
        Image.fromarray(rng.integers(0, 255, (8, 8), np.uint8)).save(root / f"images/{i:02d}.png")
    images = [(f"{i:02d}", f"p{i // 2}", int(i // 2 % 5 == 0)) for i in range(60)]
    table(root / "images.csv", [("Image", "patient", "finding"), *images])
    people = [(f"p{i}", SITES[i % 5], 20.5 + i) for i in range(30)]
    table(root / "people.tsv", [("patient", "site", "age"), *people])
    return root


def table(path, rows):
    with path.open("w", newline="") as stream:
        csv.writer(stream, delimiter="\t" if path.suffix == ".tsv" else ",").writerows(rows)


def split(data, out, *flags):
    return cli.main(["split", str(data), "--out", str(out), "--fractions", "0.5", *flags])


def parts(out):
    return {
        p: [int(line[-6:-4]) for line in (out / f"{p}.txt").read_text().split()]
        for p in ("train", "val", "test")
    }


def test_the_columns_of_tables_are_strata(folder, tmp_path, capsys):
    assert split(folder, tmp_path / "out") == 0
    said = capsys.readouterr()
    assert "values from images.csv: finding, for 60 of 60 images" in said.err
    assert "values from people.tsv: site, age, for 60 of 60 images" in said.err
    assert "in proportion: finding, site\n" in said.out  # an age has too many values
    found = parts(tmp_path / "out")
    for images in found.values():
        patients = {i // 2 for i in images}
        assert abs(sum(p % 5 == 0 for p in patients) - len(patients) / 5) <= 1
        assert all(i ^ 1 in images for i in images), "a patient is in one part"
    assert sorted(i for images in found.values() for i in images) == list(range(60))


def test_images_of_one_site_stay_together(folder, tmp_path, capsys):
    assert split(folder, tmp_path / "out", "--group", "site", "--stratify", "finding") == 0
    said = capsys.readouterr()
    assert "--group site: 4 values, each in one part; 12 images have no value and go with" in said.err
    assert "patients are in one part, and so is each site" in said.out
    sites = {
        part: {SITES[i // 2 % 5] for i in images} - {""} for part, images in parts(tmp_path / "out").items()
    }
    assert sum(map(len, sites.values())) == len(set().union(*sites.values())) == 4


@pytest.mark.parametrize("key", ["group", "stratify"])
def test_a_name_that_nothing_has_is_refused(folder, tmp_path, capsys, key):
    assert split(folder, tmp_path / "out", f"--{key}", "clinic") == 2
    assert f"--{key} clinic: no image has a value of that name" in (said := capsys.readouterr().err)
    assert "(finding, site, age)" in said


def test_rows_of_one_image_that_differ_are_refused(folder, tmp_path, capsys):
    with (folder / "images.csv").open("a") as stream:
        stream.write("00,p0,7\n")
    assert split(folder, tmp_path / "out") == 2
    assert (
        "images.csv: lines 2 and 62 are of one image and differ in column finding" in capsys.readouterr().err
    )

"""`foveate scan` as a user meets it."""

import os
import re
import signal
import stat
import subprocess
import sys

import pytest
from tests.data.inventory.test_inventory import picture, rows
from tests.data.readers.dicom import miniatures as dicoms

from foveate.cli import main

KILLED = """
import os, signal, sys
from foveate.data.inventory import state
real, calls = state.{name}, []
def deadly(*arguments):
    calls.append(1)
    if len(calls) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments)
state.{name} = deadly
from foveate.cli import main
main(["scan", sys.argv[1], "--out", sys.argv[2], "--num_workers", "0"])
"""


@pytest.fixture
def folder(tmp_path):
    for i in range(9):
        picture(tmp_path / "data" / f"p{i}.png", i)
    dicoms.write_series(tmp_path / "data" / "ct", dicoms.noise(5))
    return tmp_path / "data"


def scan(folder, out, *more):
    return main(["scan", str(folder), "--out", str(out), "--num_workers", "0", *more])


@pytest.mark.parametrize(("name", "after"), [("add_image", 4), ("update_image", 6)])
def test_killed_at_any_place_it_goes_on(folder, tmp_path, name, after):
    assert scan(folder, tmp_path / "whole") == 0
    code = KILLED.format(name=name, after=after)
    command = [sys.executable, "-c", code, str(folder), str(tmp_path / "inv")]
    killed = subprocess.run(command, check=False, capture_output=True)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "inv" / "inventory.csv").exists()
    assert scan(folder, tmp_path / "inv") == 0
    assert rows(tmp_path / "inv" / "inventory.csv") == rows(tmp_path / "whole" / "inventory.csv")


def test_the_page_has_pictures_and_neither_scripts_nor_names(folder, tmp_path, capsys):
    picture(folder / "<script>alert(1)</script>.png", 3)
    (folder / "\x1b[31mred[bold].txt").write_text("text")
    assert scan(folder, tmp_path / "inv") == 0
    page = (tmp_path / "inv" / "inventory.html").read_text()
    assert page.count("<img") == 11
    assert "script>" not in page
    assert "alert" not in page
    assert not re.search(r"(src|href)=.?(?!data:)(https?:|//)", page)
    assert "\x1b" not in capsys.readouterr().out


def test_what_may_show_a_name_is_listed_and_not_pictured(tmp_path):
    tags = {"SOPClassUID": dicoms.DX, "ImagePositionPatient": None}
    for name, own in {
        "said": {"Modality": "DX", "BurnedInAnnotation": "YES"},
        "likely": {"Modality": "US"},
        "denied": {"Modality": "US", "BurnedInAnnotation": "NO"},
    }.items():
        dicoms.write(tmp_path / "data" / name, dicoms.noise(1)[0], **tags, **own)
    assert scan(tmp_path / "data", tmp_path / "inv") == 0
    table = rows(tmp_path / "inv" / "inventory.csv")
    assert sorted(row["burned_in"] for row in table) == ["", "possible", "yes"]
    assert (tmp_path / "inv" / "inventory.html").read_text().count("<img") == 1


def test_names_are_for_the_owner_alone(folder, tmp_path):
    assert scan(folder, tmp_path / "inv") == 0
    private = tmp_path / "inv" / "private"
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in private.iterdir()} == {0o600}


def test_passes_stop_early_and_go_on(folder, tmp_path, capsys):
    assert scan(folder, tmp_path / "inv", "--until", "stat") == 0
    assert "14 files" in capsys.readouterr().out
    assert rows(tmp_path / "inv" / "inventory.csv") == []
    assert scan(folder, tmp_path / "inv", "--until", "headers") == 0
    assert "scan again with --until full" in (tmp_path / "inv" / "inventory.html").read_text()
    assert {row["voxels"] for row in rows(tmp_path / "inv" / "inventory.csv")} == {""}
    assert scan(folder, tmp_path / "inv") == 0
    assert "" not in {row["voxels"] for row in rows(tmp_path / "inv" / "inventory.csv")}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{data}"], "--out is missing"),
        (["{data}/gone", "--out", "{inv}"], "does not exist"),
        (["{data}", "--out", "{data}"], "holds other files"),
        (["{data}", "--out", "{inv}", "--until", "some"], "until"),
        (["{data}", "--out", "{inv}", "--num_workers", "-1"], "--num_workers"),
    ],
)
def test_refusals(folder, tmp_path, capsys, arguments, words):
    places = {"data": folder, "inv": tmp_path / "inv"}
    assert main(["scan", *(each.format(**places) for each in arguments)]) == 2
    assert words in capsys.readouterr().err


@pytest.mark.skipif("FOVEATE_DATA" not in os.environ, reason="FOVEATE_DATA is not set")
def test_real_series_and_structures_are_found(tmp_path):
    assert scan(os.environ["FOVEATE_DATA"], tmp_path / "inv", "--until", "headers") == 0
    dicom = [row for row in rows(tmp_path / "inv" / "inventory.csv") if row["format"] == "DICOM"]
    assert sorted(row["modality"] for row in dicom if row["role"] == "image") == ["CT", "MR", "MR", "PT"]
    assert sum(row["role"] == "structure" for row in dicom) == 3

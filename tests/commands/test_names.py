"""Names of files that do more than name: none acts on a terminal; lists of them are their owner's."""

import io
import os
import stat
import sys

import pytest
from PIL import Image

from foveate.cli import main
from foveate.train.logging import say

WILD = ["a\x1b]0;owned\x07.png", "b\nfoveate: all is well.png", "c\u202egnp.png", os.fsdecode(b"d\xff.png")]


@pytest.fixture
def wild(tmp_path):
    """A folder of one good image, and of damaged ones with such names."""
    folder = tmp_path / "wild"
    folder.mkdir()
    Image.new("L", (64, 64)).save(folder / "good.png")
    Image.effect_noise((64, 64), 50).save(folder / "noise.png")
    for name in WILD:
        (folder / name).write_bytes(b"\x89PNG\r\n\x1a\nno picture")
    return folder


def acts(text):
    """Characters that a terminal acts on, and lines that begin as only our own do."""
    return [c for c in text if not (c.isprintable() or c == "\n")]


def test_no_name_acts_on_the_terminal(wild, tmp_path, capsys):
    assert main(["prepare", "--data", str(wild), "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert r"a\x1b]0;owned\x07.png" in said.out + said.err
    assert r"b\nfoveate: all is well.png" in said.out + said.err
    assert acts(said.out + said.err) == []


def test_no_name_in_an_error_acts_on_the_terminal(tmp_path, capsys):
    for name in WILD:
        for source in ("auto", "csv"):
            arguments = ["--data", str(tmp_path / name), "--out", str(tmp_path / "out"), "--source", source]
            assert main(["split", *arguments]) == 2
            said = capsys.readouterr().err
            assert acts(said) == []
            assert not [line for line in said.splitlines()[1:] if line.startswith("foveate")]


def test_a_terminal_that_knows_fewer_letters_is_told_all_the_same(monkeypatch):
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    assert main(["pretrain", "--dimension", "2", "--data", "größe", "--out", "x", "--dry_run"]) == 2
    assert main(["--help"]) == 0
    print("größe \u2028")
    narrow.flush()
    assert narrow.buffer.getvalue().endswith(rb"gr\xf6\xdfe \u2028" + b"\n")


def test_what_is_said_keeps_its_colons_and_brackets(capsys):
    say("a:smile:b [bold]x[/bold]")
    assert capsys.readouterr().err == "a:smile:b [bold]x[/bold]\n"


def test_lists_of_names_are_for_their_owner_and_the_rest_as_the_umask_lets(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    for number in range(20):
        Image.effect_noise((16, 16), 50 + number).save(data / f"{number}.png")
    (data / "labels.csv").write_text("image,y\n" + "".join(f"{i}.png,{i % 2}\n" for i in range(20)))
    out = tmp_path / "lists"
    assert main(["split", str(data), "--out", str(out), "--source", "csv"]) == 0
    mode = {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.rglob("*") if path.is_file()}
    umask = os.umask(0)
    os.umask(umask)
    assert {name for name, each in mode.items() if each == 0o600} == {"train.txt", "val.txt", "test.txt"}
    assert mode["split.json"] == 0o666 & ~umask

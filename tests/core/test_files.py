"""Files of people and of our own that are damaged or hostile: a paragraph, soon."""

import errno
import os
import signal
import sqlite3
import stat
from pathlib import Path

import pytest

from foveate.cli import main
from foveate.core.files import (
    OWNER,
    cell,
    csv_text,
    json_with,
    parse_yaml,
    read_json,
    refusals_explained,
    replace_file,
    replace_text,
)
from foveate.core.types import FoveateError

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
HOSTILE = {
    "aliases of aliases": (LAUGHS, "stand for more than"),
    "one that holds itself": ("a: &a [*a]", "stand for more than"),
    "deep": ("[" * 3000, "nested too deeply"),
    "a number without end": (f"steps: {'9' * 6000}", "4300 digits"),
    "a key twice": ("steps: 1\nseed: 2\nsteps: 3\n", "line 3 gives 'steps' a second time"),
    "a key twice inside": ("optim:\n  lr: 1\n  lr: 2\n", "line 3 gives 'lr' a second time"),
    "a character that acts": ("steps: \x1b[2J", "special characters are not allowed"),
    "no such day": ("steps: 2001-99-99", "month must be in"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_yaml_that_is_hostile_is_refused_in_a_paragraph(tmp_path, capsys, what):
    text, said = HOSTILE[what]
    (tmp_path / "c.yaml").write_text(text)
    assert main(["pretrain", "--config", str(tmp_path / "c.yaml"), "--print_config"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert said in line
    assert "c.yaml" in line


def test_aliases_and_merges_of_people_are_read():
    assert parse_yaml("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}") == {
        "a": {"b": 1},
        "c": {"b": 1},
        "d": {"b": 1, "e": 2},
    }
    assert parse_yaml("") is None


@pytest.mark.parametrize("text", ['{"a": 1', "", "[1]", "[" * 9000, "\x00"])
def test_json_of_our_own_that_was_cut_is_named_with_a_way_on(tmp_path, text):
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(FoveateError, match=r"x\.json is damaged .*backup, or remove it"):
        read_json(path)
    path.write_text("{}")
    with pytest.raises(FoveateError, match=r"x\.json is damaged \(it does not say folds\)"):
        json_with("folds", path)


def test_a_table_keeps_its_numbers_and_holds_no_formula():
    rows = [["=1+1", "@SUM(A1)", "+x", "-y", -1.5, "-1.5e-3", "+2", "-", None, "a=b"]]
    cells = csv_text(["h"] * 10, rows).splitlines()[1].split(",")
    assert cells == ["'=1+1", "'@SUM(A1)", "'+x", "'-y", "-1.5", "-1.5e-3", "+2", "-", "", "a=b"]
    assert [cell(each) for each in cells] == cells


def test_a_file_that_cannot_be_written_whole_leaves_the_one_before(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"before")

    def write(stream):
        stream.write(b"half")
        stream.flush()
        assert path.read_bytes() == b"before"  # while it is written, too
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        replace_file(path, write)
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"before")]


def stopped_in_the_middle(path, call):
    """A process that is killed at its first call of a function of `os`, and what is in the folder then."""
    if (child := os.fork()) == 0:
        setattr(os, call, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
        replace_file(path, lambda stream: stream.write(b"after"))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    return [(each.name, each.read_bytes()) for each in path.parent.iterdir()]


@pytest.mark.parametrize("call", ["fsync", "link"])
def test_a_kill_in_the_middle_of_a_file_leaves_the_one_before_and_nothing_else(tmp_path, call):
    (tmp_path / "a").write_bytes(b"before")
    assert stopped_in_the_middle(tmp_path / "a", call) == [("a", b"before")]


def test_a_file_system_without_files_without_names_takes_them_with_one(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "O_TMPFILE", os.O_EXCL | os.O_CREAT)  # refused of a folder
    replace_file(tmp_path / "a", lambda stream: stream.write(b"after"))
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("a", b"after")]


def test_a_file_is_as_the_umask_lets_unless_it_holds_names(tmp_path):
    before = os.umask(0o027)
    try:
        replace_text(tmp_path / "weights", "")
        replace_text(tmp_path / "names", "", OWNER)
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("weights", "names")] == [0o640, 0o600]


def too_long():
    Path("a" * 300).open().close()


def read_only():
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/mnt/lists")


def odd_name():
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), "/mnt/a\x1b[2J\nb")


def no_room():
    raise RuntimeError("can't start new thread")


def no_library():
    raise ImportError("libtorch_cpu.so: failed to map segment from shared object")


def no_memory():
    raise MemoryError


@pytest.mark.parametrize(
    ("fails", "said"),
    [
        (too_long, "aaa.*File name too long.*Choose shorter ones"),
        (read_only, "^/mnt/lists: Read-only file system: .* a folder that you may write"),
        (odd_name, r"^/mnt/a\\x1b\[2J\\nb: Read-only file system: "),
        (no_room, "^OUT: memory ran out"),
        (no_library, "^OUT: memory ran out"),
        (no_memory, "^OUT: memory ran out"),
    ],
)
def test_what_the_system_refuses_is_a_paragraph(fails, said):
    with pytest.raises(FoveateError, match=said) as error, refusals_explained("OUT"):
        fails()
    assert len(str(error.value)) < 500


def test_a_table_that_cannot_be_written_is_a_paragraph_and_a_wrong_statement_is_a_bug(tmp_path):
    table = sqlite3.connect(tmp_path / "t")
    table.execute("PRAGMA page_size = 512")
    table.execute("CREATE TABLE a (b)")
    table.execute("PRAGMA max_page_count = 2")
    with (
        pytest.raises(FoveateError, match=r"^OUT: database or disk is full: .*Make room"),
        refusals_explained("OUT"),
    ):
        table.execute("INSERT INTO a VALUES (?)", ("x" * 9000,))
    with pytest.raises(sqlite3.OperationalError), refusals_explained("OUT"):
        table.execute("SELECT FROM")
    table.close()
    with (
        pytest.raises(FoveateError, match=r"OUT: unable to open .* a folder that you may write"),
        refusals_explained("OUT"),
    ):
        sqlite3.connect(tmp_path / "nowhere" / "t")


@pytest.mark.parametrize("bug", [RuntimeError("shapes differ"), ImportError("no module"), OSError("odd")])
def test_a_bug_stays_a_bug(bug):
    with pytest.raises(type(bug)), refusals_explained("OUT"):
        raise bug


@pytest.mark.parametrize("words", [["split", "{}", "--out", "o"], ["convert", "{}", "--out", "x"]])
def test_a_path_that_is_too_long_is_a_paragraph(capsys, words):
    assert main([word.format("abcdefgh/" * 600) for word in words]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert len(line) < 700

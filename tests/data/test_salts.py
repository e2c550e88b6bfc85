"""Salts lie apart from what is passed on, for their owner alone, and are not needed to train."""

import json
import os
import shutil
import stat

import pytest

from foveate.core.types import FoveateError
from foveate.data import salts
from foveate.data.cache.index import salted_id, stamped
from foveate.data.cache.volumes import open_prepared
from foveate.data.cohort import leakage
from foveate.data.salts import read_salt
from foveate.runtime import images as intake

from .conftest import prepared

HOLDS = "salt"  # what an older version called it, inside the cache


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A home of the test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("FOVEATE_PRIVATE", raising=False)


def as_before(cache):
    """The cache as an older version left it."""
    salt = read_salt(cache)
    shutil.rmtree(cache.parent / "foveate-project")
    (cache / "salt_id").unlink()
    (cache / HOLDS).write_bytes(salt)
    (cache / HOLDS).chmod(0o644)
    return salt


def modes(folder):
    return {p.name: stat.S_IMODE(p.stat().st_mode) for p in folder.rglob("*") if p.is_file()}


def test_a_copy_of_a_cache_cannot_test_guesses_and_is_trained_on(scans, tmp_path):
    cache = tmp_path / "cache"
    ids = [volume.entry.id for volume in prepared(scans, cache)]
    salt = read_salt(cache)
    shutil.copytree(cache, tmp_path / "given" / "cache")
    copy = tmp_path / "given" / "cache"
    held = b"".join(path.read_bytes() for path in copy.rglob("*") if path.is_file())
    assert salt not in held
    assert salt.hex().encode() not in held
    names = [path.name for path in scans.iterdir()]
    for path in copy.rglob("*"):  # nothing in it works as the salt
        if path.is_file() and 0 < path.stat().st_size <= 64:
            assert not {salted_id(path.read_bytes(), name) for name in names} & set(ids)
    assert [volume.entry.id for volume in open_prepared(copy)] == ids
    with pytest.raises(FoveateError, match=r"salt that is not here: .*FOVEATE_PRIVATE"):
        prepared(scans, copy)


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_salts_are_for_their_owner_alone_whatever_the_umask(tmp_path, mask):
    (tmp_path / "runs" / "foveate-cache" / "abc").mkdir(parents=True)
    before = os.umask(mask)
    try:
        read_salt(tmp_path / "runs" / "foveate-cache" / "abc")
        leakage.project_salt(tmp_path / "runs" / "run")
    finally:
        os.umask(before)
    kept = modes(tmp_path / "runs" / "foveate-project")
    assert len(kept) == 2  # not inside foveate-cache, which may be passed on as a whole
    assert set(kept.values()) == {0o600}


def test_a_cache_of_before_is_used_and_its_salt_moves_out(scans, tmp_path, decoded_files, capsys):
    cache = tmp_path / "cache"
    first = prepared(scans, cache)
    salt, count = as_before(cache), len(decoded_files)
    intake.say_of_salt(cache)
    assert "moved to" in capsys.readouterr().err
    again = prepared(scans, cache)
    assert len(decoded_files) == count  # nothing was decoded again
    assert [v.entry.id for v in again] == [v.entry.id for v in first]
    assert not (cache / HOLDS).exists()
    assert read_salt(cache) == salt
    intake.say_of_salt(cache)
    assert not capsys.readouterr().err


def test_a_read_only_cache_of_before_opens_and_says_what_is_in_it(scans, tmp_path, monkeypatch, capsys):
    cache = tmp_path / "cache"
    prepared(scans, cache)
    salt = as_before(cache)
    monkeypatch.setattr(salts.os, "access", lambda *_: False)  # root may write anywhere
    intake.say_of_salt(cache)
    assert "Leave it out when you pass" in capsys.readouterr().err
    assert len(open_prepared(cache)) == 5
    assert read_salt(cache) == salt
    assert (cache / HOLDS).exists()


def test_the_salt_of_a_project_of_before_is_closed_and_one_given_to_a_group_stays(tmp_path):
    path = tmp_path / "foveate-project" / "salt"
    salt = leakage.project_salt(tmp_path / "run")
    path.chmod(0o644)
    assert leakage.project_salt(tmp_path / "run") == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)  # its owner's wish
    assert leakage.project_salt(tmp_path / "run") == salt
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_where_the_place_beside_cannot_be_written_the_users_own_is_taken(tmp_path, monkeypatch):
    (tmp_path / "cache").mkdir()
    (tmp_path / "foveate-project").write_text("in the way")
    salt = read_salt(tmp_path / "cache")
    assert set(modes(tmp_path / "home").values()) == {0o600}
    monkeypatch.setenv("FOVEATE_PRIVATE", str(tmp_path / "home" / "foveate" / "salts"))
    assert read_salt(tmp_path / "cache") == salt
    monkeypatch.setenv("FOVEATE_PRIVATE", str(tmp_path / "foveate-project" / "no"))
    (tmp_path / "other").mkdir()
    with pytest.raises(FoveateError, match=r"can be kept nowhere: .*FOVEATE_PRIVATE"):
        read_salt(tmp_path / "other")


@pytest.mark.parametrize("said", ["", "../../salt", "0" * 31, "0" * 32])
def test_a_fingerprint_that_leads_nowhere_is_an_error(tmp_path, said):
    (tmp_path / "salt").write_bytes(b"s" * 32)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "salt_id").write_text(said)
    with pytest.raises(FoveateError, match=r"is damaged|not here"):
        read_salt(tmp_path / "cache")


def test_a_salt_under_a_wrong_name_is_not_taken(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        read_salt(tmp_path / name)
    one, two = (
        salts.places(tmp_path / "one")[0] / (tmp_path / n / "salt_id").read_text() for n in ("one", "two")
    )
    shutil.copy(two, one)
    with pytest.raises(FoveateError, match="not here"):
        read_salt(tmp_path / "one")


def test_no_time_of_a_source_reaches_a_cache_and_lines_of_before_still_count(scans, tmp_path, decoded_files):
    cache = tmp_path / "cache"
    times = {}
    for n, path in enumerate(sorted(scans.iterdir())):
        os.utime(path, ns=(1, 1_234_567_890_123_456_789 - n))  # as rsync -a brings it
        times[path.stat().st_size, path.stat().st_mtime_ns] = path
    prepared(scans, cache)
    content = b"".join(path.read_bytes() for path in cache.rglob("*.json*"))
    assert b"123456" not in content
    lines = [json.loads(line) for line in (cache / "index.jsonl").read_text().splitlines()]
    salt, before = read_salt(cache), []
    for line in lines:
        size, stamp = line["source_bytes"], line.pop("source_stamp")
        (time,) = (found[1] for found in times if stamped(salt, found) == (size, stamp))
        before.append(json.dumps(line | {"source_mtime_ns": time}) + "\n")
    (cache / "index.jsonl").write_text("".join(before))
    count = len(decoded_files)
    prepared(scans, cache)
    assert len(decoded_files) == count
    path = next(iter(times.values()))
    os.utime(path, ns=(1, 5))
    prepared(scans, cache)
    assert decoded_files[count:] == [path.name]


@pytest.fixture
def decoded_files(monkeypatch):
    from foveate.data.cache import prepare

    names, original = [], prepare.decode

    def spy(record, *reading):
        names.append(record.path.name)
        return original(record, *reading)

    monkeypatch.setattr(prepare, "decode", spy)
    return names

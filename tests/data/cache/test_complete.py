"""The table of a finished cache: every entry in its order, in one process and in many."""

from __future__ import annotations

import json
import pickle
import sqlite3
from contextlib import closing
from dataclasses import asdict, replace

import pytest
from tests.data.cache.test_format import as_before
from tests.data.conftest import PATIENT, prepared
from tests.data.test_loader import Corners, assert_same
from torch import multiprocessing

from foveate.core.types import FoveateError
from foveate.data.cache import complete
from foveate.data.cache.complete import TABLE, Table, complete_entries, refuse_incomplete, write_table
from foveate.data.cache.index import as_line, read_entries
from foveate.data.cache.volumes import open_prepared
from foveate.data.loader import batches


@pytest.fixture
def folder(scans, tmp_path):
    """A finished cache of five volumes."""
    prepared(scans, tmp_path / "cache")
    return tmp_path / "cache"


def test_a_cache_that_is_being_prepared_again_is_unfinished_until_it_is_done(folder, scans, monkeypatch):
    def killed(*_args, **_keys):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("foveate.data.cache.prepare.settle", killed)
        with pytest.raises(KeyboardInterrupt):
            prepared(scans, folder)
    with pytest.raises(FoveateError, match="not finished"):
        complete_entries(folder)
    assert len(prepared(scans, folder)) == len(complete_entries(folder)) == 5


def test_every_entry_is_that_of_the_index(folder, monkeypatch):
    monkeypatch.setattr(complete, "PAGE", 2)
    table, lines = Table(folder), list(read_entries(folder).values())
    assert [json.loads(as_line(entry)) for entry in lines] == [
        json.loads(json.dumps(asdict(e))) for e in lines
    ]
    assert list(table) == lines
    assert [table[i] for i in range(-5, 5)] == [lines[i] for i in range(-5, 5)]
    assert table[3:0:-2] == lines[3:0:-2]
    for beyond in (5, -6):
        with pytest.raises(IndexError):
            table[beyond]


def test_an_opened_cache_is_the_prepared_one(folder, scans):
    whole, opened = prepared(scans, folder), open_prepared(folder)
    assert [volume.entry for volume in opened] == [volume.entry for volume in whole]
    assert [volume.entry for volume in opened.volumes[::2]] == [volume.entry for volume in whole.volumes[::2]]
    assert (len(opened), opened.channels, opened.data_hash) == (5, 1, whole.data_hash)
    assert len(pickle.dumps(opened)) < 1000  # what a worker is sent does not grow with the cache


@pytest.mark.parametrize("num_workers", [0, 2])
def test_batches_are_the_same(folder, scans, num_workers):
    options = {"seed": 3, "first_step": 0, "steps": 4, "batch_size": 2}
    opened = open_prepared(folder)
    assert opened[0].shape == (9, 10, 11)  # a connection that workers must not share
    found = list(batches(opened, Corners(), **options, num_workers=num_workers))
    assert_same(found, list(batches(prepared(scans, folder), Corners(), **options)))


def test_a_run_goes_on_while_the_same_cache_is_prepared_again(folder, scans):
    table = Table(folder)
    before = (folder / TABLE).stat().st_ino
    prepared(scans, folder)
    assert (folder / TABLE).stat().st_ino == before  # not even replaced
    assert table[4].id == list(read_entries(folder))[4]


def first_of(table, answers):
    try:
        answers.put(table[0].id)
    except FoveateError as error:
        answers.put(str(error))


def test_a_table_of_other_images_is_not_read_as_this_one(folder, scans):
    table = Table(folder)
    (scans / f"{PATIENT}_scan_0.nii.gz").unlink()
    prepared(scans, folder)
    answers = multiprocessing.get_context("spawn").Queue()
    worker = multiprocessing.get_context("spawn").Process(target=first_of, args=(table, answers))
    worker.start()
    assert "was prepared again, with other images" in answers.get(timeout=60)
    worker.join()


def test_other_channels_are_refused_as_before(folder):
    entries = list(Table(folder))
    entries[3] = replace(entries[3], shape=(2, 9, 10, 11))
    write_table(folder, entries)
    with pytest.raises(FoveateError, match="same number of channels and axes"):
        open_prepared(folder)
    write_table(folder, [])
    with pytest.raises(FoveateError, match="holds no volume"):
        open_prepared(folder)


def test_lost_files_are_counted(folder):
    refuse_incomplete(folder, complete_entries(folder))
    (folder / Table(folder)[2].file).unlink()
    with pytest.raises(FoveateError, match="lacks 1 of its 5 volumes"):
        refuse_incomplete(folder, complete_entries(folder))


def test_damage_is_named(folder):
    with closing(sqlite3.connect(folder / TABLE)) as table:
        table.execute("DELETE FROM volumes WHERE position = 2")
        table.commit()
    assert Table(folder)[1].id
    with pytest.raises(FoveateError, match=rf"{TABLE} is damaged; delete it"):
        list(Table(folder))
    (folder / TABLE).write_bytes(b"no table" * 100)
    with pytest.raises(FoveateError, match=rf"{TABLE} cannot be read"):
        open_prepared(folder)


def test_a_cache_without_a_table_is_read_from_its_index(folder, scans):
    entries = list(Table(folder))
    content = (folder / TABLE).read_bytes()
    (folder / TABLE).unlink()
    assert list(complete_entries(folder)) == entries
    (folder / TABLE).write_bytes(content)
    as_before(folder)
    assert len(open_prepared(folder)) == 5

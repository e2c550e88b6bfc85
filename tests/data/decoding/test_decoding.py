"""The child process: the same volumes, and a reason for whatever ends it."""

from __future__ import annotations

import gzip
import os
import signal
import threading
import time

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from tests.data.readers.dicom.miniatures import noise, write_series

from foveate.core.processes import signals
from foveate.core.types import FoveateError, Record
from foveate.data.decoding import decoder as decoding
from foveate.data.decoding.decoder import Decoder, decode
from foveate.data.readers.formats import read_files
from foveate.data.readers.unreadable import UnreadableImageError

NOISE = np.random.default_rng(0).normal(size=(8, 9, 10)).astype(np.float32)


@pytest.fixture(scope="module")
def decoder():
    made = Decoder()
    yield made
    made.close()


@pytest.fixture
def scan(tmp_path):
    nib.save(nib.Nifti1Image(NOISE, np.diag([-1.0, 2.0, 3.0, 1.0])), tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


HANG = """
import time, foveate.data.readers.formats as formats
read = formats._read
formats._read = lambda files, *more: time.sleep(99) if files[0].suffix == ".jpg" else read(files, *more)
"""


@pytest.fixture
def hanging(tmp_path, monkeypatch):
    """A file that a child never finishes."""
    monkeypatch.setattr(decoding, "START", HANG + decoding.START)
    (tmp_path / "hang.jpg").write_bytes(b"anything")
    return tmp_path / "hang.jpg"


def child(decoder):
    return decoder._process.pid


def test_the_child_reads_what_this_process_reads(decoder, scan, tmp_path):
    series = tuple(sorted(write_series(tmp_path / "dicom", noise(2)).iterdir()))
    for files in ((scan,), series):
        here, there = read_files(files), decoder.read(files)
        np.testing.assert_array_equal(here.array, there.array)
        np.testing.assert_array_equal(here.affine, there.affine)
        for name in ("spacing_mm", "bits", "orientation", "modality", "window"):
            assert getattr(here, name) == getattr(there, name), name


def test_refusals_are_those_of_this_process_and_cost_no_child(decoder, scan, tmp_path):
    bad = tmp_path / "bad.nii"
    bad.write_bytes(b"nothing")
    decoder.read((scan,))
    before = child(decoder)
    for path, reason in ((bad, "damaged"), (tmp_path / "absent.png", "No such file")):
        with pytest.raises(UnreadableImageError, match=reason) as caught:
            decoder.read((path,))
        assert caught.value.path == path
    assert child(decoder) == before


def test_a_file_that_crashes_the_library_is_a_reject_and_the_next_one_is_read(decoder, scan, tmp_path):
    path = tmp_path / "a.mha"
    sitk.WriteImage(sitk.GetImageFromArray(NOISE), str(path))
    path.write_bytes(path.read_bytes().replace(b"NDims = 3", b"NDims = -3"))  # ITK 5.4 writes out of bounds
    with pytest.raises(UnreadableImageError, match=r"ended the process|damaged") as caught:
        decoder.read((path,))
    assert "a.mha" not in caught.value.reason
    assert decoder.read((scan,)).array.shape == (1, 8, 9, 10)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL])
def test_a_killed_child_is_a_reason(scan, hanging, number):
    decoder = Decoder()
    decoder.read((scan,))
    threading.Timer(0.3, os.kill, (child(decoder), number)).start()
    with pytest.raises(UnreadableImageError, match=f"ended the process that decodes it .{number.name}"):
        decoder.read((hanging,))
    assert decoder.read((scan,)).array.shape == (1, 8, 9, 10)
    decoder.close()


@pytest.mark.parametrize("number", signals.STOPPING)
def test_a_signal_to_the_whole_group_is_not_laid_at_the_door_of_a_file(decoder, scan, number):
    decoder.read((scan,))
    before = child(decoder)
    os.kill(before, number)
    assert np.array_equal(decoder.read((scan,)).array, read_files((scan,)).array)
    assert child(decoder) == before


def test_a_file_that_hangs_is_a_reason(scan, hanging):
    decoder = Decoder()
    decoder.read((scan,))
    decoder.timeout_s = 0.5
    with pytest.raises(UnreadableImageError, match=r"takes more than 0\.5 s to decode"):
        decoder.read((hanging,))
    decoder.timeout_s = 60
    assert decoder.read((scan,)).array.shape == (1, 8, 9, 10)
    decoder.close()


def test_a_bomb_ends_at_the_limit_of_memory(scan, tmp_path):
    """An honest header over 2 GB of zeros, packed into 2 MB."""
    header = nib.Nifti1Header()
    header.set_data_shape((1000, 1000, 1000))
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    path = tmp_path / "bomb.nii.gz"
    megabytes = gzip.compress(bytes(1 << 24), 1)
    path.write_bytes(gzip.compress(header.binaryblock + bytes(4), 1) + megabytes * 120)
    decoder = Decoder(memory_bytes=1 << 29)
    with pytest.raises(UnreadableImageError, match="does not fit into memory"):
        decoder.read((path,))
    assert decoder.read((scan,)).array.shape == (1, 8, 9, 10)
    decoder.close()


def test_an_idle_child_goes_home_and_another_comes(scan, monkeypatch):
    quick = decoding.START.replace(
        "serve;", "serve; import foveate.data.decoding.child as d; d.IDLE_SECONDS = 0.1;"
    )
    monkeypatch.setattr(decoding, "START", quick)
    decoder = Decoder()
    decoder.read((scan,))
    first = child(decoder)
    assert decoder._process.wait(timeout=20) == decoding.IDLE_EXIT
    assert decoder.read((scan,)).array.shape == (1, 8, 9, 10)
    assert child(decoder) != first
    decoder.close()


def test_a_child_outlives_its_parent_by_nothing(scan):
    decoder = Decoder()
    decoder.read((scan,))
    process = decoder._process
    process.stdin.close()  # as when the parent is killed
    assert process.wait(timeout=20) == 0
    decoder.close()


def test_a_child_that_does_not_start_is_no_reject(scan, monkeypatch):
    monkeypatch.setattr(decoding, "START", "import sys; sys.exit(3)")
    with pytest.raises(FoveateError, match=r"does not start \(exit code 3\)") as caught:
        Decoder().read((scan,))
    assert not isinstance(caught.value, UnreadableImageError)


def test_a_reader_that_is_faulty_is_told_apart_from_a_file(scan, monkeypatch):
    broken = "import foveate.data.readers.formats as f; f._read = lambda *_given: undefined; "
    monkeypatch.setattr(decoding, "START", broken + decoding.START)
    decoder = Decoder()
    with pytest.raises(RuntimeError, match="faulty"):
        decoder.read((scan,))
    decoder.close()


def test_a_forked_worker_has_a_child_of_its_own(scan):
    record = Record(path=scan, relative="scan.nii.gz")
    decode(record)
    mine = child(decoding.shared_decoder())
    pid = os.fork()
    if pid == 0:
        decode(record)
        os._exit(0 if child(decoding.shared_decoder()) != mine else 1)
    deadline = time.monotonic() + 30
    done, status = 0, 0
    while not done and time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        time.sleep(0.05)
    assert (done, status) == (pid, 0)
    assert decode(record).array.shape == (1, 8, 9, 10)
    assert child(decoding.shared_decoder()) == mine

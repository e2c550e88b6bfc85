"""Files of a cache that are not as they were written are found, named by id, and made anew."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from tests.data.cache.test_format import as_before
from tests.data.conftest import PATIENT, prepared

from foveate.cli import main
from foveate.commands.prepare.verify import verify
from foveate.core.types import FoveateError, Record
from foveate.data.cache import store
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig


def verified(folder):
    seen = []
    return verify(folder, lambda done, total: seen.append((done, total))), seen


def flip(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("kind", ["npy", "blosc2"])
def test_one_flipped_bit_is_found(scans, tmp_path, kind):
    folder = tmp_path / "cache"
    cache = prepared(scans, folder, PrepareConfig(format=kind))
    assert verified(folder) == (5, [(n, 5) for n in range(1, 6)])
    flip(folder / cache[3].entry.file, 200)
    with pytest.raises(FoveateError, match="1 of 5 volumes are damaged") as caught:
        verified(folder)
    assert f"{cache[3].entry.id}: {cache[3].entry.file} is not as it was written" in str(caught.value)
    assert PATIENT not in str(caught.value)
    (folder / cache[3].entry.file).unlink()  # as the message says
    prepared(scans, folder, PrepareConfig(format=kind))
    assert verified(folder)[0] == 5


def test_what_is_cut_or_lost_is_found(scans, tmp_path):
    folder = tmp_path / "cache"
    first, second, *_ = prepared(scans, folder)
    path = folder / first.entry.file
    path.write_bytes(path.read_bytes()[:-10])
    (folder / second.entry.file).unlink()
    with pytest.raises(FoveateError, match="2 of 5 volumes") as caught:
        verified(folder)
    assert f"{first.entry.file} has another size" in str(caught.value)
    assert f"{second.entry.file} is missing" in str(caught.value)


@pytest.mark.parametrize("which", ["file", "places"])
def test_maps_are_looked_at(tmp_path, which):
    values = np.random.default_rng(0).integers(0, 900, (5, 6, 7)).astype(np.int16)
    for name, array in (("a", values), ("b", values % 3)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), tmp_path / f"{name}.nii.gz")
    record = Record(path=tmp_path / "a.nii.gz", relative="a.nii.gz", maps={"labels": tmp_path / "b.nii.gz"})
    entry = prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0].entry
    assert verified(tmp_path / "cache")[0] == 3
    file = getattr(entry.maps[0], which)
    flip(tmp_path / "cache" / file)
    with pytest.raises(FoveateError, match=file):
        verified(tmp_path / "cache")


def test_a_cache_of_the_version_before_is_compared_by_its_voxels(scans, tmp_path):
    folder = tmp_path / "cache"
    cache = prepared(scans, folder)
    as_before(folder)
    assert verified(folder)[0] == 5
    flip(folder / cache[1].entry.file)
    store.open_array.cache_clear()
    with pytest.raises(FoveateError, match=f"{cache[1].entry.file} is not as it was written"):
        verified(folder)


def test_the_command_needs_no_scans(scans, tmp_path, capsys):
    folder = tmp_path / "cache"
    assert main(["prepare", "--data", str(scans), "--out", str(folder), "--verify"]) == 0
    assert "all 5 files" in capsys.readouterr().err
    assert main(["prepare", "--out", str(folder), "--verify"]) == 0
    next((folder / "volumes").iterdir()).unlink()
    assert main(["prepare", "--out", str(folder), "--verify"]) == 2
    assert "1 of 5 volumes are damaged" in " ".join(capsys.readouterr().err.split())
    assert main(["prepare", "--out", str(folder)]) == 2
    assert "Give --data FOLDER" in capsys.readouterr().err
    assert main(["prepare", "--out", str(scans), "--verify"]) == 2

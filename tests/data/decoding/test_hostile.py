"""A few hundred hostile files of all formats as in `make fuzz`; and that its counts see what they are for."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from tests.data.readers.dicom.miniatures import NAME, noise, write_series

from arena import Arena
from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource
from fuzz import FAILURES, Tally, fuzz, hostile, judge, report
from hostile_text import STEM, Case
from mutations import MUTATIONS, mutated
from specimens import drawn, specimens
from specimens_dicom import dicom_specimens

VALID = {**specimens(STEM, drawn(0)), **dicom_specimens(drawn(0))}


@pytest.fixture
def arenas(tmp_path):
    both = (Arena(tmp_path / "a", 37), Arena(tmp_path / "b", 90))
    yield both
    for arena in both:
        arena.close()


def of_kind(kind):
    files = VALID[kind].files
    return Case({f"{kind}{ending}": data for ending, data in files.items()})


@pytest.mark.filterwarnings("ignore")
def test_hostile_files_show_nothing_foreign(tmp_path):
    tally = fuzz(range(300), 2025, tmp_path / "findings")
    assert [tally.counts[what] for what in FAILURES] == [0] * len(FAILURES), report(tally)
    assert tally.total == 300
    assert 25 < tally.read.total() < 200  # damage is neither total nor harmless


def test_undamaged_specimens_of_every_kind_are_read_bit_equal(arenas):
    assert len(VALID) >= 38
    for kind, specimen in VALID.items():
        (found,), opened = arenas[0].read(of_kind(kind), is_series=specimen.is_series)
        assert not opened
        assert not found.broken, kind
        if specimen.must_be_read:
            assert found.volume is not None, (kind, found.reason)
            np.testing.assert_array_equal(found.volume.array, specimen.voxels, err_msg=kind)


class Spoiled:
    """A decoder with a fault."""

    def __init__(self, fault):
        self._decoder, self._fault = Decoder(), fault

    def read(self, files, *, root=None):
        volume = self._decoder.read(files, root=root)
        return self._fault(volume, files[0]) if files[0].name.startswith(STEM) else volume

    def close(self):
        self._decoder.close()


def leak_one_voxel(volume, path):
    """One voxel of a neighbour, as from a buffer that was not filled."""
    neighbour = Decoder()
    array = volume.array.copy()
    array.flat[5] = neighbour.read((path.parent / "near-mha.mha",)).array.flat[5]
    neighbour.close()
    return replace(volume, array=array)


def open_next_door(volume, path):
    (path.parents[1] / "outside" / "x.raw").read_bytes()
    return volume


def say_the_name(_volume, path):
    raise UnreadableImageError(path, f"{path.name} is damaged")


def fall(_volume, _path):
    raise ValueError("a fault of ours")


@pytest.mark.parametrize(
    ("fault", "what", "count"),
    [
        (leak_one_voxel, "foreign voxels", 1),
        (open_next_door, "outside reads", 2),
        (say_the_name, "broken rules", 2),
        (fall, "broken rules", 2),
    ],
)
def test_a_planted_fault_is_counted(tmp_path, fault, what, count):
    arenas = tuple(Arena(tmp_path / name, seed, Spoiled(fault)) for name, seed in (("a", 37), ("b", 90)))
    tally = Tally()
    judge(tally, arenas, of_kind("mha-zlib"), "mha-zlib", "planted", is_series=False)
    for arena in arenas:
        arena.close()
    assert {name: tally.counts[name] for name in FAILURES if tally.counts[name]} == {what: count}


def test_a_valid_neighbour_that_is_refused_is_counted(arenas):
    near = arenas[0].data / "near-png8.png"
    near.write_bytes(near.read_bytes()[:-60])
    tally = Tally()
    judge(tally, arenas, of_kind("png8"), "png8", "planted", is_series=False)
    assert tally.counts["valid refused"] == 1


def test_hostile_files_are_reproducible():
    for number, (kind, specimen) in enumerate(VALID.items()):
        made = [hostile(np.random.default_rng([3, number]), kind, specimen) for _ in range(2)]
        assert made[0] == made[1]


def test_damage_is_reproducible_and_does_damage():
    data = bytes(range(256)) * 4
    for mutation in MUTATIONS:
        results = [bytes(mutation(np.random.default_rng(5), bytearray(data))) for _ in range(2)]
        assert results[0] == results[1]
    changed = [mutated(np.random.default_rng(i), ".nii", data) != data for i in range(50)]
    assert sum(changed) > 40


def test_a_series_with_a_damaged_slice(tmp_path):
    decoder = Decoder()
    read, reasons = 0, []
    for seed in range(40):
        root = tmp_path / str(seed)
        write_series(root, noise(7))
        rng = np.random.default_rng(seed)
        victim = sorted(root.iterdir())[int(rng.integers(7))]
        victim.write_bytes(mutated(rng, ".dcm", victim.read_bytes()))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            records = list(FolderSource().records(root))
        assert sum(len(r.files) or 1 for r in records) == 7
        for record in (r for r in records if r.role == "image"):
            try:
                read += bool(np.isfinite(decoder.read(record.files or (record.path,)).array).all())
            except UnreadableImageError as error:
                reasons.append(error.reason)
    decoder.close()
    assert not any("\n" in reason or NAME in reason for reason in reasons)
    assert read > 10

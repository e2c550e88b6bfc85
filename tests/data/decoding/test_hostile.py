"""500 damaged files: each is an image of finite numbers or is refused in one line."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from tests.data.readers.dicom.miniatures import NAME, noise, write_series

from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.formats import read_volume
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource
from fuzz import fuzz
from mutations import MUTATIONS, mutated, samples


def test_every_sample_is_an_image_before_it_is_damaged(tmp_path):
    (tmp_path / "x").mkdir()
    kinds = samples(tmp_path / "x")
    assert len(kinds) >= 18
    for name, data in kinds.items():
        (tmp_path / name).write_bytes(data)
        assert np.isfinite(read_volume(tmp_path / name).array).all(), name


@pytest.mark.filterwarnings("ignore")
def test_five_hundred_damaged_files(tmp_path):
    tally, broken = fuzz(500, 2024, tmp_path / "findings")
    assert broken == []
    assert sum(tally.values()) == 500
    assert 50 < tally["image"] < 350  # damage is neither total nor harmless


def test_damage_is_reproducible_and_does_damage():
    data = bytes(range(256)) * 4
    for mutation in MUTATIONS:
        results = [bytes(mutation(np.random.default_rng(5), bytearray(data))) for _ in range(2)]
        assert results[0] == results[1]
    changed = [mutated(np.random.default_rng(i), "a.nii", data) != data for i in range(50)]
    assert sum(changed) > 40


def test_a_series_with_a_damaged_slice(tmp_path):
    decoder = Decoder()
    read, reasons = 0, []
    for seed in range(40):
        root = tmp_path / str(seed)
        write_series(root, noise(7))
        rng = np.random.default_rng(seed)
        victim = sorted(root.iterdir())[int(rng.integers(7))]
        victim.write_bytes(mutated(rng, "a.dcm", victim.read_bytes()))
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

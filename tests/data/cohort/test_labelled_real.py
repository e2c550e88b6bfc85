"""The layouts of real data sets, where they are at hand."""

import os
from collections import Counter
from pathlib import Path

import pytest

from foveate.data.cohort.draw import patient_of
from foveate.data.cohort.labelled import read_labelled
from foveate.data.cohort.splits import SplitConfig, make_split

ROOT = Path(os.environ.get("FOVEATE_DATA", ""))
pytestmark = pytest.mark.skipif("FOVEATE_DATA" not in os.environ, reason="FOVEATE_DATA is not set")


def test_radiographs_with_a_split_of_their_own():
    found = read_labelled(ROOT / "nih_cxr256_multilabel", "values")
    split = make_split(found.records, [""] * len(found.records), SplitConfig())
    assert {part: len(records) for part, records in split.items()} == {"train": 770, "val": 110, "test": 215}
    assert len({patient_of(record) for record in found.records}) == 760


def test_lung_masks_leave_out_the_images_without():
    found = read_labelled(ROOT / "cxr_tb_lungs", "maps")
    assert (len(found.records), found.unlabelled) == (704, 96)
    values = read_labelled(ROOT / "cxr_tb_lungs", "values")
    assert Counter(record.labels["tb"] for record in values.records) == {"0": 406, "1": 394}


def test_hippocampus_pairs_every_case():
    found = read_labelled(ROOT / "msd_hippocampus", "maps")
    assert len(found.records) == 260
    assert all(r.path.name == r.maps["labels"].name for r in found.records)

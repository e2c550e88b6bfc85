"""Which list says what an image is for."""

from __future__ import annotations

import pytest
from tests.data.sources.miniatures import chestxray14, table

from foveate.core.types import FoveateError
from foveate.data.sources.chestxray14 import FINDINGS, Config, build

NAMES = ["00000001_000.png", "00000001_001.png", "00000002_000.png", "00000013_005.png"]


@pytest.fixture
def root(tmp_path):
    chestxray14(tmp_path)
    bits = " ".join(["0"] * 14)
    table(tmp_path / "chest_train.txt", f"{NAMES[2]} {bits}  ")
    table(tmp_path / "chest_valid.txt", f"{NAMES[3]} {bits}")
    table(tmp_path / "chest_test.txt", f"{NAMES[3]} {bits}")  # the published copy of the validation list
    return tmp_path


def splits(root, lists):
    return {record.path.name: record.split for record in build(Config(lists=lists)).records(root)}


def test_the_real_test_set_of_the_published_lists_is_what_the_other_two_leave(root):
    assert splits(root, "pcrlv2") == dict(zip(NAMES, ("test", "test", "train", "val"), strict=True))


def test_no_list_leaves_it_open(root):
    assert set(splits(root, "none").values()) == {""}


def test_findings_are_the_row_s_own(root):
    labels = {record.path.name: record.labels for record in build(Config()).records(root)}
    found = {name: [f for f in FINDINGS if labels[name][f]] for name in NAMES}
    assert found == {
        NAMES[0]: ["Cardiomegaly"],
        NAMES[1]: ["Cardiomegaly", "Emphysema"],
        NAMES[2]: [],
        NAMES[3]: ["Pleural_Thickening", "Hernia"],
    }


def test_an_image_in_two_lists_is_refused(root):
    table(root / "test_list.txt", NAMES[2])
    with pytest.raises(FoveateError, match=rf"test_list.txt: {NAMES[2]} is in another list"):
        splits(root, "official")


def test_a_part_of_the_data_set_needs_to_be_asked_for(root):
    (root / "images_001" / "images" / NAMES[1]).unlink()
    with pytest.raises(FoveateError, match=rf"{NAMES[1]}, which is not there.*missing skip"):
        splits(root, "official")
    records = list(build(Config(missing="skip")).records(root))
    assert [r.role for r in records] == ["image"] * 3 + ["other"]


def test_an_unknown_finding_is_refused(root):
    text = (root / "Data_Entry_2017.csv").read_text().replace("Emphysema", "Emphysem")
    (root / "Data_Entry_2017.csv").write_text(text)
    with pytest.raises(FoveateError, match=r"Emphysem.*Atelectasis"):
        splits(root, "none")

"""What is particular to BraTS, KiTS, the Decathlon and nnU-Net."""

from __future__ import annotations

import json

import pytest
from tests.data.sources import miniatures

from foveate.core.types import FoveateError
from foveate.data.sources import brats18, kits, msd, nnunet


def test_sequences_come_in_the_order_that_was_asked_for(tmp_path):
    miniatures.brats18(tmp_path)
    config = brats18.Config(channels=("flair", "t1"))
    first = next(iter(brats18.build(config).records(tmp_path)))
    assert [path.name.rpartition("_")[2] for path in first.channels] == ["flair.nii.gz", "t1.nii.gz"]
    single = next(iter(brats18.build(brats18.Config(channels=("t2",))).records(tmp_path)))
    assert single.channels == ()
    assert single.path.name.endswith("_t2.nii.gz")


def test_a_case_without_a_sequence_is_set_aside(tmp_path):
    miniatures.brats18(tmp_path)
    case = "MICCAI_BraTS_2018_Data_Training/HGG/Brats18_2013_10_1"
    (tmp_path / case / "Brats18_2013_10_1_flair.nii.gz").unlink()
    records = list(brats18.build(brats18.Config()).records(tmp_path))
    assert [(r.relative, r.evidence) for r in records if r.role == "other"] == [(case, "flair is missing")]
    assert sum(record.role == "image" for record in records) == 2


def test_the_cyst_of_the_later_years(tmp_path):
    miniatures.kits(tmp_path)
    assert kits.build(kits.Config(year="2023")).classes(tmp_path)["mass"] == (2, 3)


def test_a_folder_of_tasks_keeps_their_patients_apart(tmp_path):
    for name in ("Task03_Liver", "Task10_Colon"):
        (tmp_path / name).mkdir()
        miniatures.msd(tmp_path / name)
    records = [r for r in msd.build(msd.Config()).records(tmp_path) if r.role == "image"]
    assert len({record.patient for record in records}) == len(records) == 6
    assert {record.modality for record in records} == {"CT"}
    assert msd.recognises(tmp_path)


def test_a_listed_file_that_is_not_there_is_named(tmp_path):
    miniatures.msd(tmp_path)
    (tmp_path / "labelsTr" / "liver_2.nii.gz").unlink()
    with pytest.raises(
        FoveateError, match=r"dataset.json lists .*labelsTr/liver_2.nii.gz, which is not there"
    ):
        list(msd.build(msd.Config()).records(tmp_path))
    records = list(msd.build(msd.Config(missing="skip")).records(tmp_path))
    assert [r.relative for r in records if r.role == "other"] == ["imagesTr/liver_2.nii.gz"]


def test_a_case_without_all_channels_says_which_have_no_file(tmp_path):
    miniatures.nnunet(tmp_path)
    (tmp_path / "imagesTr" / "la_2_0001.nii.gz").unlink()
    records = list(nnunet.build(nnunet.Config()).records(tmp_path))
    assert [(r.role, r.path.name, r.channels, r.absent) for r in records if r.absent] == [
        ("image", "la_2_0000.nii.gz", (tmp_path / "imagesTr/la_2_0000.nii.gz",), (1,))
    ]


def test_a_case_with_more_channels_than_dataset_json_names_is_excluded(tmp_path):
    miniatures.nnunet(tmp_path)
    (tmp_path / "imagesTr" / "la_2_0001.nii.gz").rename(tmp_path / "imagesTr" / "la_2_0002.nii.gz")
    records = list(nnunet.build(nnunet.Config()).records(tmp_path))
    assert [r.evidence for r in records if r.role == "other"] == [
        "channels [0, 2] are there, and dataset.json has 2"
    ]


def test_cases_listed_one_by_one(tmp_path):
    miniatures.nnunet(tmp_path)
    about = json.loads((tmp_path / "dataset.json").read_text())
    channels = [f"imagesTr/la_2_000{c}.nii.gz" for c in (0, 1)]
    about["dataset"] = {"x": {"images": channels, "label": "labelsTr/la_2.nii.gz"}}
    (tmp_path / "dataset.json").write_text(json.dumps(about))
    (image, _label) = nnunet.build(nnunet.Config()).records(tmp_path)
    assert (image.patient, len(image.channels), image.maps["labels"].name) == ("x", 2, "la_2.nii.gz")


@pytest.mark.parametrize("labels", [{"liver": "one"}, {"liver": None}, {"x": [1, None]}])
def test_classes_that_are_no_numbers_are_refused(tmp_path, labels):
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels}))
    with pytest.raises(FoveateError, match=r"dataset.json: labels\["):
        nnunet.build(nnunet.Config()).classes(tmp_path)

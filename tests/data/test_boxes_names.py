"""Which image an entry of a table of boxes means: identical file names in folders of patients are common."""

from pathlib import Path

import pytest

from foveate.core.types import FoveateError, Record
from foveate.data.boxes.tables import TableImage
from foveate.data.cohort.boxed import paired

IMAGES = ("p1/ct.nii.gz", "p2/ct.nii.gz", "p2/pet.nii.gz", "mr.nii.gz")
TABLE = Path("t.csv")


def meant(*names, images=IMAGES):
    records = [Record(path=Path("/data", each), relative=each) for each in images]
    listed = [TableImage(image=name, unit="voxel", frame="ras") for name in names]
    return [record and record.relative for _, record in paired(listed, records, TABLE)]


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("p1/ct.nii.gz", "p1/ct.nii.gz"),
        ("./p1/ct.nii.gz", "p1/ct.nii.gz"),
        ("p1/ct", "p1/ct.nii.gz"),
        ("pet", "p2/pet.nii.gz"),
        ("pet.nii.gz", "p2/pet.nii.gz"),
        ("/elsewhere/p2/ct.nii.gz", "p2/ct.nii.gz"),
        ("/elsewhere/mr.nii.gz", "mr.nii.gz"),
        ("/elsewhere/p3/pet.nii.gz", None),
        ("p3/ct.nii.gz", None),
        ("p1/pet.nii.gz", None),
        ("p1/mr.nii.gz", None),
    ],
)
def test_a_name_with_a_folder_means_that_folder(name, image):
    assert meant(name) == [image]


def test_boxes_of_a_patient_who_is_not_there_are_nobody_elses():
    assert meant("p1/ct.nii.gz", "p2/ct.nii.gz", images=["p2/ct.nii.gz"]) == [None, "p2/ct.nii.gz"]


def test_a_path_that_is_there_is_no_bare_name():
    assert meant("ct.nii.gz", images=["ct.nii.gz", "p1/ct.nii.gz"]) == ["ct.nii.gz"]


def test_a_name_of_several_images_is_refused():
    with pytest.raises(FoveateError, match=r"t\.csv names 'ct': 2 images have that name"):
        meant("ct")


@pytest.mark.parametrize("other", ["mr", "/elsewhere/mr.nii.gz"])
def test_two_names_of_one_image_are_refused(other):
    with pytest.raises(FoveateError, match=rf"names 'mr.nii.gz' and '{other}', which are the same image"):
        meant("mr.nii.gz", other)

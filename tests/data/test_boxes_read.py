"""What tables and lists of boxes mean before any image is opened: scores, columns of other formats, names."""

import json

import pytest

from foveate.commands.predict.boxes import CSV, JSON, BoxFiles
from foveate.core.boxes.geometry import Boxes
from foveate.core.types import FoveateError, Record
from foveate.data.boxes.tables import BoxesConfig, read_boxes, table_of
from foveate.data.cohort.boxed import paired
from foveate.tasks.detection import Config


def read(path, text, **keys):
    path.write_text(text)
    return read_boxes(path, BoxesConfig(**keys))


@pytest.mark.parametrize("name", ["score", "probability", "confidence", "Confidence"])
def test_csv_and_json_know_the_same_names_of_a_score(tmp_path, name):
    rows = read(tmp_path / "t.csv", f"image,x,y,diameter,{name}\na.png,1,2,3,0.25\na.png,5,6,3,\n")
    boxes = [{"centre": [1, 2], "diameter": 3, name: 0.25}, {"centre": [5, 6], "diameter": 3}]
    listed = read(tmp_path / "t.json", json.dumps([{"image": "a.png", "boxes": boxes}]))
    assert [box.score for box in rows[0].boxes] == [box.score for box in listed[0].boxes] == [0.25, None]


@pytest.mark.parametrize("spelled", [str.lower, str.title, str.upper])
def test_unit_frame_and_split_are_read_however_they_are_spelled(tmp_path, spelled):
    """An official split that is not read lets images of the test into the training."""
    unit, frame, split = map(spelled, ("unit", "frame", "split"))
    rows = read(tmp_path / "t.csv", f"image,x,y,z,diameter,{unit},{frame},{split}\na,1,2,3,4,mm,lps,test\n")
    box = {"centre": [1, 2, 3], "diameter": 4}
    images = [{"image": "a", split: "test", "boxes": [box]}, {"image": "b", unit: "voxel", "boxes": [box]}]
    text = json.dumps({unit: "mm", frame: "lps", "images": images})
    first, second = read(tmp_path / "t.json", text)
    for each in (rows[0], first):
        assert (each.unit, each.frame, each.split) == ("mm", "lps", "test")
    assert (second.unit, second.split) == ("voxel", "")


def test_upper_left_corners_are_not_taken_for_centres(tmp_path):
    text = "patientId,x,y,width,height\na.png,1,2,3,4\n"
    for look in (lambda path: read(path, text), lambda path: table_of(path, BoxesConfig())):
        with pytest.raises(FoveateError, match=r"upper left corner; accepted: one of .*x,y,z,size_x.*x_min"):
            look(tmp_path / "t.csv")


def test_width_and_height_of_the_image_are_no_sides_of_a_box(tmp_path):
    text = "image,x_min,y_min,x_max,y_max,width,height\na.png,1,2,3,6,512,512\nb.png,,,,,512,512\n"
    first, second = read(tmp_path / "t.csv", text)
    assert (first.boxes[0].centre, first.boxes[0].size, second.boxes) == ((2, 4), (2, 4), [])


def test_a_picture_without_a_box_has_the_unit_of_pictures(tmp_path):
    images = [{"image": "a.png", "boxes": []}, {"image": "b.png", "boxes": [{"centre": [1, 2], "size": 3}]}]
    assert [each.unit for each in read(tmp_path / "t.json", json.dumps(images))] == ["voxel", "voxel"]
    images[1]["boxes"][0]["centre"].append(3)
    with pytest.raises(FoveateError, match=r"image 1: whether its numbers are millimetres or voxels"):
        read(tmp_path / "t.json", json.dumps(images))


class Volume:
    shape, affine = (9, 8, 7), [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]


def test_names_that_a_spreadsheet_would_compute_come_back(tmp_path):
    record = Record(path=tmp_path / "-x.nii.gz", relative="-x.nii.gz")

    class Task:
        class_names, config = ("-n",), Config.preset(3, "small", "none")

    files = BoxFiles(tmp_path, Task())
    files.enter(None, record, Volume(), Boxes.of([[4.0, 4, 3]], [[2.0, 2, 2]], [0], [0.5]))
    files.save()
    assert "'-x.nii.gz,'-n,0.5" in (tmp_path / CSV).read_text()
    assert json.loads((tmp_path / JSON).read_text())["images"][0]["image"] == "-x.nii.gz"
    for name in (CSV, JSON):
        listed = read_boxes(tmp_path / name, BoxesConfig())
        assert [box.name for box in listed[0].boxes] == ["-n"]
        assert paired(listed, [record], tmp_path / name) == [(listed[0], record)]

"""Tables of boxes, from their text to the cache: every format and convention says the same boxes."""

import json
from itertools import product

import nibabel as nib
import numpy as np
import pytest

from foveate.commands.finetune.config import labelled_or_drawn
from foveate.core.boxes.geometry import Boxes, in_mm, in_voxels
from foveate.core.types import FoveateError
from foveate.data.boxes.tables import BoxesConfig
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cache.volumes import Cache
from foveate.data.catalogue import SOURCES
from foveate.testing.cohorts import blobs, write_picture

SHAPE = (14, 12, 10)


def affine_of(kind):
    """Voxel to RAS+ millimetres of a file: straight, with flipped and swapped axes, or oblique."""
    if kind == "straight":
        affine = np.diag([1.0, 1.5, 2.0, 1.0])
    elif kind == "flipped":
        affine = np.array([[0, -1.5, 0, 40.0], [-1.0, 0, 0, 30], [0, 0, 2.0, -20], [0, 0, 0, 1]])
    else:
        turn = np.linalg.qr(np.eye(3) + 0.25 * np.random.default_rng(3).normal(size=(3, 3)))[0]
        turn = turn * np.sign(np.diag(turn))
        affine = np.eye(4)
        affine[:3, :3], affine[:3, 3] = turn @ np.diag([1.0, 1.5, 2.0]), [-30, 10, 5]
    return affine


def write_image(folder, affine, name="a.nii.gz"):
    folder.mkdir(exist_ok=True)
    image = blobs(SHAPE, 0)
    nib.save(nib.Nifti1Image(image.astype(np.int16), affine), folder / name)


def found_in(folder, tmp_path, **keys):
    found = labelled_or_drawn(
        SOURCES["folder"].Config(),
        folder,
        "boxes",
        pairs="",
        structures="",
        patient_pattern="",
        boxes=BoxesConfig(**keys),
    )
    cache = prepare(found.records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
    assert isinstance(cache, Cache)
    return found, cache


# Boxes in voxels of the file: centre and sides; the middle one of them is a ball in millimetres.
CENTRES, SIZES = np.array([[4.0, 5, 3], [9, 4.5, 6]]), np.array([[3.0, 2, 2], [4.0, 8 / 3, 2]])


def texts(affine, form, unit, frame):
    """The same boxes as the text of a table."""
    boxes = Boxes.of(CENTRES, SIZES)
    if unit == "mm":
        boxes = in_mm(boxes, affine)
        straight = np.abs(
            np.linalg.inv(np.diag(np.linalg.norm(affine[:3, :3], axis=0))) @ np.abs(affine[:3, :3].T)
        )
        order = straight.argmax(0)  # the file's axis that comes closest to each axis of the world
        boxes = Boxes.of(boxes.centre * ((-1, -1, 1) if frame == "lps" else (1, 1, 1)), boxes.size[:, order])
    rows = []
    for low, high, centre, size in zip(boxes.low, boxes.high, boxes.centre, boxes.size, strict=True):
        rows.append(
            {"corners": [*low, *high], "sizes": [*centre, *size], "diameter": [*centre, size[0]]}[form]
        )
    head = {
        "corners": "x_min,y_min,z_min,x_max,y_max,z_max",
        "sizes": "x,y,z,size_x,size_y,size_z",
        "diameter": "coordX,coordY,coordZ,diameter_mm",
    }[form]
    lines = [
        f"a.nii.gz,{','.join(f'{number:.9f}' for number in row)},{'mb'[i]}" for i, row in enumerate(rows)
    ]
    return "\n".join([f"image,{head},class", *lines, ""])


@pytest.mark.parametrize("kind", ["straight", "flipped", "oblique"])
def test_every_form_unit_and_frame_says_the_same_boxes(tmp_path, kind):
    affine = affine_of(kind)
    write_image(tmp_path / "data", affine)
    wanted = in_mm(Boxes.of(CENTRES, SIZES), affine).centre
    for form, (unit, frame) in product(
        ("corners", "sizes"), (("mm", "ras"), ("mm", "lps"), ("voxel", "ras"))
    ):
        (tmp_path / "data" / "boxes.csv").write_text(texts(affine, form, unit, frame))
        found, cache = found_in(tmp_path / "data", tmp_path, unit=unit, frame=frame)
        assert found.classes == ("b=1", "m=2")
        assert found.instances == 2
        rows = cache[0].listed_boxes("labels")
        np.testing.assert_allclose(rows[:, 1:4], wanted, atol=1e-5, err_msg=f"{form} {unit} {frame}")
        # instance numbers: the first is an m (2), the second a b (1 + 2)
        assert rows[:, 0].tolist() == [2, 3]
        inner = in_voxels(Boxes.of(rows[:, 1:4], rows[:, 4:]), cache[0].affine)
        assert sorted(inner.size[0]) == pytest.approx(sorted(SIZES[0]), abs=1e-4)


def test_painted_maps_hold_each_box_at_its_place(tmp_path):
    affine = affine_of("flipped")
    write_image(tmp_path / "data", affine)
    (tmp_path / "data" / "boxes.csv").write_text(texts(affine, "sizes", "mm", "lps"))
    _, cache = found_in(tmp_path / "data", tmp_path, unit="mm", frame="lps")
    volume = cache[0]
    labels = volume.read_map("labels", [0, 0, 0], volume.shape)
    for value, *numbers in volume.listed_boxes("labels"):
        box = in_voxels(Boxes.of(numbers[:3], numbers[3:]), volume.affine)
        cells = np.stack(np.meshgrid(*map(np.arange, volume.shape), indexing="ij"), -1)
        away = (((cells - box.centre[0]) / (box.size[0] / 2)) ** 2).sum(-1)
        np.testing.assert_array_equal(labels == value, away <= 1)


def test_rows_of_one_image_change_the_map_of_that_image_alone(tmp_path):
    data = tmp_path / "data"
    for name in ("a.nii.gz", "b.nii.gz"):
        write_image(data, affine_of("straight"), name)
    head = "image,x,y,z,diameter,unit\n"
    (data / "boxes.csv").write_text(f"{head}a.nii.gz,3,3,3,2,voxel\nb.nii.gz,4,4,4,3,voxel\n")
    _, first = found_in(data, tmp_path)
    index = (tmp_path / "cache" / "index.jsonl").read_text()
    (data / "boxes.csv").write_text(f"{head}a.nii.gz,3,3,3,2,voxel\nb.nii.gz,5,4,4,3,voxel\n")
    _, second = found_in(data, tmp_path)
    assert len((tmp_path / "cache" / "index.jsonl").read_text().splitlines()) == len(index.splitlines()) + 1
    assert second[0].entry == first[0].entry
    assert second[1].listed_boxes("labels")[0, 1] == 5


def test_json_and_csv_say_the_same(tmp_path):
    data = tmp_path / "data"
    write_image(data, affine_of("straight"))
    listed = [
        {"class": "n", "centre": [4, 5, 6], "diameter": 3},
        {"class": "n", "low": [1, 2, 3], "high": [3, 5, 4]},
    ]
    content = {"unit": "mm", "frame": "lps", "images": [{"image": "a.nii.gz", "boxes": listed}]}
    (data / "list.json").write_text(json.dumps(content))
    with pytest.raises(
        FoveateError, match=r"None of the 1 images.*boxes have their centre outside.*mm \(RAS\)"
    ):
        found_in(data, tmp_path, file="list.json")
    content["frame"] = "ras"
    (data / "list.json").write_text(json.dumps(content))
    _, cache = found_in(data, tmp_path, file="list.json")
    assert cache[0].listed_boxes("labels")[:, 1:].tolist() == [[4, 5, 6, 3, 3, 3], [2, 3.5, 3.5, 2, 3, 1]]


def test_pictures_have_pixels_where_nothing_is_said(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    write_picture(data / "p.png", blobs((72, 80), 1))
    write_picture(data / "q.png", blobs((72, 80), 2))
    (data / "boxes.csv").write_text("image,x_min,y_min,x_max,y_max\np.png,10,20,30,60\nq.png,,,,\n")
    found, cache = found_in(data, tmp_path)
    assert cache[0].listed_boxes("labels").tolist() == [[1, 20, 40, 20, 40]]
    assert cache[1].listed_boxes("labels").shape == (0, 5)
    assert cache[1].map_entry("labels").values == (0,)
    assert "1 finding in 2 images" in found.layout


BAD = {
    "x,y,z,diameter,unit\na.nii.gz,3,3,3,-2,voxel": "line 2: the sides of the box are -2, -2, -2; accept",
    "x,y,z,diameter,unit\na.nii.gz,3,x,3,2,voxel": "line 2: y is 'x'; accepted: a number",
    "x,y,z,diameter,unit\na.nii.gz,3,nan,3,2,voxel": "line 2: y is 'nan'; accepted: a number",
    "x,y,z,diameter,unit\na.nii.gz,3,,3,2,voxel": "line 2: y is ''; accepted: a number",
    "x_min,y_min,z_min,x_max,y_max,z_max,unit\na.nii.gz,3,3,3,2,4,4,voxel": "the lower one first",
    "x,y,z,diameter\na.nii.gz,3,3,3,2": "--boxes.unit mm or voxel",
    "x,y,z,diameter,unit\na.nii.gz,3,3,3,2,mm": "--boxes.frame ras",
    "x,y,z,diameter,unit\nother.nii.gz,3,3,3,2,voxel": "names 'other.nii.gz': there is no such image",
    "x,y,z,diameter,unit\na,3,3,3,2,voxel\na.nii.gz,3,3,3,3,voxel": "names 'a' and 'a.nii.gz', which are the",
    "x,y,z,diameter,unit\np1/a.nii.gz,3,3,3,2,voxel": "names 'p1/a.nii.gz': there is no such image",
    "x,y,z,unit\na.nii.gz,3,3,3,voxel": "has the columns image, x, y, z, unit; accepted: image",
    "x,y,z,diameter,unit\na.nii.gz,93,3,3,2,voxel": "1 of its 1 boxes have their centre outside of it",
    "x,y,diameter,unit\na.nii.gz,3,3,2,voxel": "its boxes have 2 coordinates, the image 3 axes",
}


@pytest.mark.parametrize("text", BAD)
def test_what_cannot_be_read_is_named(tmp_path, text):
    write_image(tmp_path / "data", affine_of("straight"))
    (tmp_path / "data" / "boxes.csv").write_text(f"image,{text}\n")
    with pytest.raises(FoveateError, match=BAD[text].replace("(", r"\(")):
        found_in(tmp_path / "data", tmp_path)


@pytest.mark.parametrize(("said", "meant"), [("lps", "mm (RAS)"), ("voxel", "mm (LPS)")])
def test_boxes_that_are_all_outside_are_told_what_would_fit(tmp_path, said, meant):
    affine = affine_of("flipped")
    affine[:3, 3] += [200, 300, 400]
    write_image(tmp_path / "data", affine)
    frame = meant[4:7].lower()
    (tmp_path / "data" / "boxes.csv").write_text(texts(affine, "sizes", "mm", frame))
    keys = {"unit": "voxel"} if said == "voxel" else {"unit": "mm", "frame": said}
    with pytest.raises(FoveateError, match="2 of its 2 boxes") as error:
        found_in(tmp_path / "data", tmp_path, **keys)
    assert f"taken as {meant} all of them would lie inside" in str(error.value)

"""Labelled images in every layout; what is missing, doubled or contradictory is named."""

import json

import numpy as np
import pytest
from PIL import Image

from foveate.core.types import FoveateError
from foveate.data.cohort.labelled import read_labelled, split_of


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4)).save(path)
    return path


def pairs(found):
    return {r.path.name: r.maps["labels"].name for r in found.records}


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("images/{}.png", "labels/{}.png"),
        ("images/{}.png", "masks/{}_mask.png"),
        ("imagesTr/{}_0000.png", "labelsTr/{}.png"),
        ("{}/scan.png", "{}/scan_seg.png"),
        ("site/images/{}.png", "site/masks/{}.png"),
    ],
)
def test_folders_pair_by_stem(tmp_path, images, labels):
    for case in ("a", "b"):
        picture(tmp_path / images.format(case))
        picture(tmp_path / labels.format(case))
    picture(tmp_path / images.format("c"))
    found = read_labelled(tmp_path, "maps")
    assert len(found.records) == 2
    assert found.unlabelled == 1
    for record in found.records:
        case = "a" if "a" in record.relative.replace("images", "").replace("scan", "") else "b"
        assert record.maps["labels"] == tmp_path / labels.format(case)


def test_nnunet_folders_say_their_split():
    said = [split_of(p) for p in ("imagesTr/a.png", "imagesTs/a.png", "images/a.png")]
    assert said == ["train", "test", ""]


def test_numbered_channels_are_one_labelled_image(tmp_path):
    for case in ("a", "b"):
        picture(tmp_path / f"labelsTr/{case}.png")
        for channel in ("0000", "0001"):
            picture(tmp_path / f"imagesTr/{case}_{channel}.png")
    found = read_labelled(tmp_path, "maps")
    assert [[path.name for path in record.channels] for record in found.records] == [
        ["a_0000.png", "a_0001.png"],
        ["b_0000.png", "b_0001.png"],
    ]
    assert [record.maps["labels"].name for record in found.records] == ["a.png", "b.png"]
    assert "2 images have 2 channels" in found.notes[0]


def test_pairs_choose_one_channel(tmp_path):
    picture(tmp_path / "labelsTr/a.png")
    for channel in ("0000", "0001"):
        picture(tmp_path / f"imagesTr/a_{channel}.png")
    (record,) = read_labelled(tmp_path, "maps", pairs="imagesTr/{case}_0001.png=labelsTr/{case}.png").records
    assert (record.path.name, record.channels) == ("a_0001.png", ())


def test_two_files_of_a_case_that_are_no_channels_are_refused(tmp_path):
    for number in ("0000", "0002"):
        picture(tmp_path / f"imagesTr/a_{number}.png")
    with pytest.raises(FoveateError, match=r"a_0000.png and .*a_0002.png both belong to case 'Tr/a'"):
        read_labelled(tmp_path, "maps")


def test_a_list_names_the_channels_of_an_image(tmp_path):
    for name in ("t1", "t2", "seg"):
        picture(tmp_path / f"{name}.png")
    entry = {"image": ["t1.png", "t2.png"], "label": "seg.png"}
    (tmp_path / "list.json").write_text(json.dumps({"training": [entry]}))
    (record,) = read_labelled(tmp_path / "list.json", "maps").records
    assert [path.name for path in record.channels] == ["t1.png", "t2.png"]


def test_a_folder_without_labels_is_refused(tmp_path):
    picture(tmp_path / "images/a.png")
    with pytest.raises(FoveateError, match=r"1 images were found .*none with a label map; accepted: images/"):
        read_labelled(tmp_path, "maps")
    with pytest.raises(FoveateError, match="does not exist"):
        read_labelled(tmp_path / "nowhere", "maps")


def test_a_table_has_labels_patients_and_splits(tmp_path):
    for case in ("a", "b"):
        picture(tmp_path / f"images/{case}.png")
    text = "\ufeffimage,Patient_ID,split,disease,age\na.png,7,train,1,61\nb,8,valid,,\n"
    (tmp_path / "labels.csv").write_text(text, encoding="utf-8")
    first, second = read_labelled(tmp_path, "values").records
    assert (first.path.name, first.patient, first.split) == ("a.png", "7", "train")
    assert dict(first.labels) == {"disease": "1", "age": "61"}
    assert (second.path.name, second.split, second.labels["disease"]) == ("b.png", "val", "")


def test_a_table_of_maps(tmp_path):
    picture(tmp_path / "x/a.png")
    picture(tmp_path / "y/a.png")
    picture(tmp_path / "x/b.png")
    (tmp_path / "t.csv").write_text("image,label\nx/a.png,y/a.png\nx/b.png,\n")
    found = read_labelled(tmp_path / "t.csv", "maps")
    assert [r.maps["labels"] for r in found.records] == [tmp_path / "y/a.png"]
    assert found.unlabelled == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("picture,label\na.png,1\n", r"has the columns .*one of image, .* is needed"),
        ("image,disease\nnobody.png,1\n", "names 'nobody.png': there is no such file"),
        ("image,disease\na.png,1\n", "2 files have that name"),
        ("image,split\nx/a.png,maybe\n", "split 'maybe'; accepted are train"),
    ],
)
def test_a_bad_table_is_refused(tmp_path, text, message):
    picture(tmp_path / "x/a.png")
    picture(tmp_path / "z/a.png")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(FoveateError, match=message):
        read_labelled(tmp_path / "labels.csv", "values")


def test_decathlon_json(tmp_path):
    for case in ("a", "b"):
        picture(tmp_path / f"imagesTr/{case}.png")
        picture(tmp_path / f"labelsTr/{case}.png")
    picture(tmp_path / "imagesTs/c.png")
    entries = [{"image": f"./imagesTr/{c}.png", "label": f"./labelsTr/{c}.png"} for c in "ab"]
    labels = {"0": "background", "1": "Anterior", "2": "Posterior"}
    content = {"labels": labels, "training": entries, "test": ["./imagesTs/c.png"]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    found = read_labelled(tmp_path, "maps")
    assert found.classes == ("Anterior=1", "Posterior=2")
    assert pairs(found) == {"a.png": "a.png", "b.png": "b.png"}
    assert {r.split for r in found.records} == {""}  # one list is no split
    assert found.unlabelled == 1


def test_nnunet_json_with_regions(tmp_path):
    picture(tmp_path / "imagesTr/a_0000.png")
    picture(tmp_path / "labelsTr/a.png")
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    found = read_labelled(tmp_path, "maps")
    assert found.classes == ("whole=1+2", "core=2")
    assert found.ignore == (3,)
    assert pairs(found) == {"a_0000.png": "a.png"}


def test_tables_and_json_are_read_as_the_named_layouts_read_them(tmp_path):
    """Blanks around cells, a short row, a byte-order mark, numbers as text, a class called 1."""
    picture(tmp_path / "a.png")
    picture(tmp_path / "b.png")
    (tmp_path / "t.csv").write_text("image,patient,kind,split\n a.png , 7 , benign ,TR\nb.png,8\n")
    first, second = read_labelled(tmp_path / "t.csv", "values").records
    assert (first.patient, first.split, dict(first.labels)) == ("7", "train", {"kind": "benign"})
    assert (second.patient, second.split, dict(second.labels)) == ("8", "", {"kind": ""})
    (tmp_path / "t.csv").write_bytes(b"image,kind\na.png,\xff\n")
    with pytest.raises(FoveateError, match="cannot be read as a table"):
        read_labelled(tmp_path / "t.csv", "values")
    labels = {"background": "0", "1": 2, "tumour": "3", "ignore": 9}
    content = {"labels": labels, "training": [{"image": "a.png", "label": "a.png"}]}
    (tmp_path / "list.json").write_text("\ufeff" + json.dumps(content), encoding="utf-8")
    found = read_labelled(tmp_path / "list.json", "maps")
    assert (found.classes, found.ignore) == (("1=2", "tumour=3"), (9,))


def test_monai_lists_with_values(tmp_path):
    for case in "abc":
        picture(tmp_path / f"{case}.png")
    content = {"training": [{"image": "a.png", "label": 1}, {"image": ["b.png"], "label": 0}]}
    content["validation"] = [{"image": "c.png", "label": 1, "patient": "q"}]
    (tmp_path / "list.json").write_text(json.dumps(content))
    found = read_labelled(tmp_path / "list.json", "values")
    assert [(r.path.name, r.split, dict(r.labels)["label"]) for r in found.records] == [
        ("a.png", "train", 1),
        ("b.png", "train", 0),
        ("c.png", "val", 1),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1]", "holds a list; accepted: an object"),
        ("{", "cannot be read as JSON"),
        (
            '{"training": [{"image": ["a.png", 2]}]}',
            "accepted: a path, or a list of the paths of its channels",
        ),
        ('{"training": [], "labels": {"x": "all"}}', r"labels\['x'\] is 'all'; accepted: a whole number"),
    ],
)
def test_a_bad_json_is_refused(tmp_path, content, message):
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(FoveateError, match=message):
        read_labelled(tmp_path / "list.json", "maps")


def test_an_image_that_is_listed_twice_must_be_the_same_twice(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "t.csv").write_text("image,kind\na.png,1\na.png,1\n")
    assert len(read_labelled(tmp_path / "t.csv", "values").records) == 2
    (tmp_path / "t.csv").write_text("image,kind,patient\na.png,1,Jane\na.png,0,Joan\n")
    with pytest.raises(FoveateError, match=r"a.png is listed twice with different kind, patient") as e:
        read_labelled(tmp_path / "t.csv", "values")
    assert "J" not in str(e.value).replace(str(tmp_path), "")

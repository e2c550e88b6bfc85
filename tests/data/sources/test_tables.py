"""Tables and lists that people write themselves."""

from __future__ import annotations

import json
import math

import pytest
from tests.data.sources import miniatures
from tests.data.sources.miniatures import table, touch

from foveate.core.types import FoveateError
from foveate.data.sources import bids, csv, monai_datalist, nnssl


def values(root, **keys):
    records = csv.build(csv.Config(**keys)).records(root)
    return {record.relative: dict(record.labels) for record in records if record.role == "image"}


def test_cells_are_numbers_words_or_missing(tmp_path):
    touch(tmp_path, "a.png", "b.png")
    table(tmp_path / "t.csv", "image,label,grade", "a.png,1,high", "b.png,,low")
    found = values(tmp_path / "t.csv")  # the table itself as --data
    assert found["a.png"] == {"label": 1, "grade": "high"}
    assert math.isnan(found["b.png"]["label"])
    assert values(tmp_path, table="t.csv", values=("grade",)) == {
        "a.png": {"grade": "high"},
        "b.png": {"grade": "low"},
    }


def test_a_byte_order_mark_and_other_columns_are_survived(tmp_path):
    touch(tmp_path, "ä.png")
    (tmp_path / "labels.csv").write_text("Bild,diag\nä.png,0\n", encoding="utf-8-sig")
    assert values(tmp_path, image="Bild") == {"ä.png": {"diag": 0}}


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["file,label", "a.png,1"], "no column 'image'.*file, label"),
        (["image", "a.png", "a.png"], r"a.png is listed 2 times"),
        (["image", "z.png"], r"labels.csv lists .*z.png, which is not there"),
        (["image,split", "a.png,holdout"], "'holdout'; accepted are train, val, test"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, lines, words):
    touch(tmp_path, "a.png")
    table(tmp_path / "labels.csv", *lines)
    with pytest.raises(FoveateError, match=words):
        values(tmp_path)


def test_a_table_in_another_encoding_is_refused(tmp_path):
    touch(tmp_path, "a.png")
    (tmp_path / "labels.csv").write_bytes("image,name\na.png,Müller\n".encode("latin-1"))
    with pytest.raises(FoveateError, match=r"labels.csv cannot be read as a table \(UnicodeDecodeError\)"):
        values(tmp_path)


def test_a_datalist_may_hold_values(tmp_path):
    touch(tmp_path, "a.nii.gz", "b.nii.gz")
    lists = {
        "training": [{"image": "a.nii.gz", "label": 2}],
        "testing": [{"image": "b.nii.gz", "label": [0, 1]}],
    }
    (tmp_path / "list.json").write_text(json.dumps(lists))
    a, b = monai_datalist.build(monai_datalist.Config()).records(tmp_path / "list.json")
    assert (a.labels, a.split) == ({"label": 2}, "train")
    assert (b.labels, b.split) == ({"label_0": 0, "label_1": 1}, "test")


def test_an_entry_without_an_image_names_the_field(tmp_path):
    (tmp_path / "dataset.json").write_text('{"training": [{"img": "a.nii.gz"}]}')
    with pytest.raises(FoveateError, match=r"training\[\].image is None"):
        list(monai_datalist.build(monai_datalist.Config()).records(tmp_path))


def test_paths_of_nnssl_start_at_environment_variables(tmp_path, monkeypatch):
    miniatures.nnssl(tmp_path)
    path = tmp_path / "pretrain_data.json"
    path.write_text(path.read_text().replace('"x/sub', '"$nnssl_raw/x/sub'))
    monkeypatch.delenv("nnssl_raw", raising=False)
    with pytest.raises(FoveateError, match="environment variable nnssl_raw"):
        list(nnssl.build(nnssl.Config()).records(tmp_path))
    monkeypatch.setenv("nnssl_raw", str(tmp_path))
    assert len([r for r in nnssl.build(nnssl.Config()).records(tmp_path) if r.role == "image"]) == 3


def test_two_label_maps_of_one_image_are_not_chosen_from(tmp_path):
    expected = miniatures.bids(tmp_path)
    touch(tmp_path, "derivatives/manual/sub-02/anat/sub-02_desc-second_dseg.nii.gz")
    with pytest.raises(FoveateError, match=r"both fit sub-02\. Expected:\n"):
        list(bids.build(bids.Config(**expected.keys)).records(tmp_path))


def test_participants_are_values_of_their_images(tmp_path):
    expected = miniatures.bids(tmp_path)
    records = [r for r in bids.build(bids.Config(**expected.keys)).records(tmp_path) if r.role == "image"]
    assert [record.labels["sex"] for record in records] == ["F", "F", "M"]
    assert math.isnan(records[0].labels["age"])
    assert records[2].labels["age"] == 44


@pytest.mark.parametrize(
    "column", ["patient", "patient_id", "PatientID", "Patient ID", "subject", "Subject_Id"]
)
def test_the_patient_is_known_under_usual_names_and_is_no_label(tmp_path, column):
    touch(tmp_path, "a.png", "b.png", "c.png")
    table(tmp_path / "labels.csv", f"image,label,{column}", "a.png,1,p1", "b.png,0,p1", "c.png,1,p2")
    records = [record for record in csv.build(csv.Config()).records(tmp_path) if record.role == "image"]
    assert [record.patient for record in records] == ["p1", "p1", "p2"]
    assert [dict(record.labels) for record in records] == [{"label": 1}, {"label": 0}, {"label": 1}]


def test_an_index_without_a_name_is_no_patient(tmp_path):
    touch(tmp_path, "a.png")
    table(tmp_path / "labels.csv", ",image,label", "0,a.png,1")  # as pandas writes it
    (record,) = [r for r in csv.build(csv.Config()).records(tmp_path) if r.role == "image"]
    assert (record.patient, dict(record.labels)) == ("", {"label": 1})


@pytest.mark.parametrize("found", [7, None, True, ["a.png"]])
def test_entries_of_a_list_that_are_no_objects_are_named(tmp_path, found):
    (tmp_path / "dataset.json").write_text(json.dumps({"training": [found]}))
    with pytest.raises(FoveateError, match=r"training\[\] is .*an object with fields"):
        list(monai_datalist.build(monai_datalist.Config()).records(tmp_path))


@pytest.mark.parametrize("level", ["dataset", "subject", "session", "images", "image", "masks"])
def test_levels_of_nnssl_that_are_no_objects_are_named(tmp_path, level):
    def at(name, content):
        return 7 if name == level else content

    image = at("image", {"image_path": "a.nii.gz", "associated_masks": at("masks", {})})
    session = at("session", {"images": at("images", [image])})
    subject = at("subject", {"sessions": {"s": session}})
    dataset = at("dataset", {"subjects": {"p": subject}})
    (tmp_path / "pretrain_data.json").write_text(json.dumps({"datasets": {"d": dataset}}))
    with pytest.raises(FoveateError, match=r"pretrain_data.json: .* is 7; accepted: "):
        list(nnssl.build(nnssl.Config()).records(tmp_path))

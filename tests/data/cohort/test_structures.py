"""Files of structures find their series, and names choose what is learned."""

import numpy as np
import pytest
from pydicom.uid import generate_uid
from tests.data.readers.dicom import drawings
from tests.data.readers.dicom.drawings import contour, rtstruct, segmentation, series

from foveate.core.types import FoveateError
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cohort.structures import from_structures as found, offered

SQUARE = [(2.5, 3.5), (8.5, 3.5), (8.5, 9.5), (2.5, 9.5)]
SMALL = [(3.5, 4.5), (5.5, 4.5), (5.5, 6.5), (3.5, 6.5)]


def names_of(labelled):
    """Folder of every labelled image -> (value, file, number) of its regions."""
    return {
        record.relative.split("/")[0]: [(value, file.name, number) for value, file, number in record.regions]
        for record in labelled.records
    }


@pytest.fixture
def cohort(tmp_path):
    """Three series of two patients; RTSTRUCT and SEG in folders of their own."""
    data = tmp_path / "data"
    uids = {name: generate_uid() for name in "abc"}
    for k, (name, uid) in enumerate(uids.items()):
        series(data / name, uid=uid, frame=generate_uid(), patient=f"P{k // 2}", value=k)
    rtstruct(data / "rs" / "a", {"GTV_1": [contour(SQUARE, 3)], "Heart": [contour(SMALL, 3)]}, uids["a"])
    rtstruct(data / "rs" / "b", {"heart, whole": [contour(SMALL, 2)], "empty": []}, uids["b"])
    mask = np.zeros((7, 12, 14), dtype=bool)
    mask[1, 2:5, 3:9] = True
    segmentation(data / "seg" / "b", drawings.sources(data / "b"), {"gtv_2": mask, "Lung": mask})
    return data


def test_names_choose_across_files_and_kinds(cohort):
    labelled = found(cohort, "tumour=GTV*|PTV*, heart=Heart*")
    assert names_of(labelled) == {"a": [(1, "a", 1), (2, "a", 2)], "b": [(1, "b", 1), (2, "b", 1)]}
    assert [region.file.parent.name for region in labelled.records[1].regions] == ["seg", "rs"]
    assert labelled.classes == ("tumour=1", "heart=2")
    assert labelled.unlabelled == 1
    assert len({record.patient for record in labelled.records}) == 1
    said = "\n".join(labelled.notes)
    assert "tumour: in 2 of 2 series with structures (GTV_1, gtv_2)" in said
    assert "not asked for: Lung" in said
    assert "without a closed contour: empty" in said


def test_the_cache_holds_the_map_and_makes_it_anew_when_others_are_asked_for(cohort, tmp_path):
    def cached(structures):
        records = found(cohort, structures).records
        cache = prepare(records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
        return [np.bincount(v.read_map("labels", [0] * 3, v.shape).ravel())[1:].tolist() for v in cache]

    assert cached("tumour=GTV*,heart=Heart*") == [[32, 4], [18, 4]]
    assert cached("heart=Heart*,tumour=GTV*") == [[0, 36], [4, 18]]
    assert cached("tumour=GTV*") == [[36], [18]]
    text = b"".join(path.read_bytes() for path in (tmp_path / "cache").rglob("*") if path.is_file())
    assert not any(word in text for word in (b"GTV", b"gtv", b"Heart", b"Doe", b"2.25.", b"1.2.826"))


def test_a_file_whose_series_is_gone_belongs_to_the_one_of_its_frame_of_reference(tmp_path):
    data, frame = tmp_path / "data", generate_uid()
    series(data / "a", frame=frame)
    rtstruct(data / "rs", {"GTV": [contour(SQUARE, 3)]}, frame=frame)
    labelled = found(data, "tumour=GTV")
    assert names_of(labelled) == {"a": [(1, "rs", 1)]}
    assert "rs: its series is not here" in labelled.notes[0]
    series(data / "b", frame=frame)
    with pytest.raises(FoveateError, match="no structure belongs to a series there"):
        found(data, "tumour=GTV")


def test_a_series_of_several_volumes_does_not_say_which_is_meant(tmp_path):
    data, uid = tmp_path / "data", generate_uid()
    series(data / "a", uid=uid)
    series(data / "b", uid=uid, value=1)  # the same places again: a second time point
    series(data / "c", uid=(other := generate_uid()), value=2)
    rtstruct(data / "rs", {"GTV": [contour(SQUARE, 3)]}, uid)
    rtstruct(data / "rs2", {"GTV": [contour(SQUARE, 3)]}, other)
    labelled = found(data, "tumour=GTV")
    assert names_of(labelled) == {"c": [(1, "rs2", 1)]}
    assert "rs: not used: its series holds several volumes" in labelled.notes[0]


def test_names_that_fit_nothing_are_refused_with_those_that_are_there(cohort):
    with pytest.raises(FoveateError, match=r"spleen=Spleen\*: .*are GTV_1, Heart, Lung, gtv_2, heart, whole"):
        found(cohort, "tumour=GTV*,spleen=Spleen*")
    assert "have the structures GTV_1" in offered(cohort)
    assert offered(cohort / "a") == ""
    for wrong in ("GTV*", "a=", "a=x,a=y", "=x", "a=x|"):
        with pytest.raises(FoveateError, match="is not accepted; write name=pattern"):
            found(cohort, wrong)
    with pytest.raises(FoveateError, match="needs a folder of DICOM series"):
        found(cohort / "rs" / "a", "a=x")


def test_a_damaged_file_is_named(cohort):
    path = cohort / "rs" / "a"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(FoveateError, match="rs/a: it is truncated"):
        found(cohort, "tumour=GTV*")

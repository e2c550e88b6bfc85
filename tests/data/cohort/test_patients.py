"""Who the images are of: every source alone, sources that disagree, and what reaches a message."""

from __future__ import annotations

import json

import pytest
from tests.data.drawn import Names, image, label_map, names
from tests.data.readers.dicom import miniatures as dicoms

from foveate.core.types import FoveateError, Record
from foveate.data.catalogue import SOURCES
from foveate.data.cohort.labelled import read_labelled
from foveate.data.cohort.patients import UNKNOWN, with_patients
from foveate.runtime.selection import images_for_pretraining

__all__ = ["names"]
PATIENTS, EACH = 4, 3


def slices(root, drawn: Names, name="images/{case}.nii.gz"):
    """Images of few patients with label maps in folders; relative path -> patient, neither in the other."""
    people, cases = drawn.words(PATIENTS), drawn.cases(PATIENTS * EACH)
    of = {}
    for number, case in enumerate(cases):
        path = image(root / name.format(case=case), number)
        label_map(root / f"labels/{case}.nii.gz", number)
        of[path.relative_to(root).as_posix()] = people[number % PATIENTS]
    return of


def table(root, of, column, file="labels.csv", key=lambda name: name.rpartition("/")[2]):
    rows = "".join(f"{key(name)},{i},{patient}\n" for i, (name, patient) in enumerate(of.items()))
    (root / file).write_text(f"image,number,{column}\n{rows}")


def found(root, **keys):
    return {r.relative: r.patient for r in read_labelled(root, "maps", **keys).records}


@pytest.mark.parametrize("column", ["patient", "Patient ID", "subject_id"])
def test_a_table_beside_images_and_labels_names_the_patients(tmp_path, names, column):
    of = slices(tmp_path, names)
    table(tmp_path, of, column)
    assert found(tmp_path) == of
    said = read_labelled(tmp_path, "maps").patients
    assert said == f"patients from labels.csv: {PATIENTS} patients, {PATIENTS * EACH} images"


def test_a_table_may_have_any_name_any_columns_and_stems(tmp_path, names):
    of = slices(tmp_path, names)
    word = names.word()
    rows = "".join(f"{n.rpartition('/')[2].removesuffix('.nii.gz')};{p}\n" for n, p in of.items())
    (tmp_path / f"{names.word()}.csv").write_text(f"{word};patient\n{rows}")
    assert found(tmp_path) == of


def test_a_list_names_the_patients_where_it_is_no_layout_that_was_asked_for(tmp_path, names):
    of = slices(tmp_path, names)
    field = names.random.choice(["patient_id", "patient", "subject"])
    entries = [{"image": name, field: patient} for name, patient in of.items()]
    (tmp_path / f"{names.word()}.json").write_text(json.dumps({"training": entries}))
    assert found(tmp_path) == of


@pytest.mark.parametrize("field", ["patient_id", "patient", "subject"])
def test_a_monai_list_keeps_its_patients_without_source(tmp_path, names, field):
    of = slices(tmp_path, names)
    entries = [
        {"image": name, "label": name.replace("images/", "labels/"), field: patient}
        for name, patient in of.items()
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"training": entries}))
    assert found(tmp_path) == of


@pytest.mark.parametrize("name", ["images/sub-{p}_{case}_{end}.nii.gz", "images/sub-{p}/{case}{end}.nii.gz"])
def test_bids_names_say_the_patient_without_source(tmp_path, names, name):
    people, of = names.words(PATIENTS), {}
    end = names.word()
    for number, case in enumerate(names.words(PATIENTS * EACH)):
        who = people[number % PATIENTS]
        path = image(tmp_path / name.format(p=who, case=f"run-{case}", end=end), number)
        of[path.relative_to(tmp_path).as_posix()] = f"sub-{who}"
    records = images_for_pretraining(SOURCES["folder"].Config(), tmp_path)
    assert {r.relative: r.patient for r in records} == of


def test_a_pattern_names_the_patients_and_every_image_must_match(tmp_path, names):
    of = {}
    for who in names.words(PATIENTS):
        for n in range(EACH):
            path = image(tmp_path / f"images/{who}={n}.nii.gz", n)
            label_map(tmp_path / f"labels/{who}={n}.nii.gz", n)
            of[path.relative_to(tmp_path).as_posix()] = who
    assert found(tmp_path, patient_pattern=r"/([a-z]+)=") == of
    assert found(tmp_path, patient_pattern=r"(images)/(?P<patient>[a-z]+)=") == of
    image(tmp_path / "images/7.nii.gz")
    image(tmp_path / "images/8.nii.gz")
    for number in "78":
        label_map(tmp_path / f"labels/{number}.nii.gz")
    with pytest.raises(FoveateError, match=r"images/7.nii.gz does not match.* So it is with 1 others of 14"):
        found(tmp_path, patient_pattern=r"/([a-z]+)=")
    for wrong in ("([a-z]+", "[a-z]+", "(a)(b)"):
        with pytest.raises(FoveateError, match="--patient_pattern"):
            found(tmp_path, patient_pattern=wrong)


def test_where_nothing_is_known_it_is_said(tmp_path, names, capsys):
    slices(tmp_path, names)
    assert read_labelled(tmp_path, "maps").patients == UNKNOWN
    images_for_pretraining(SOURCES["folder"].Config(), tmp_path)
    told = " ".join(capsys.readouterr().err.split())
    assert "patients unknown: every image counts as its own patient" in told


def test_two_sources_that_disagree_are_refused_without_naming_anybody(tmp_path, names):
    of = slices(tmp_path, names)
    table(tmp_path, of, "patient")
    other = dict(zip(of, names.random.sample(sorted(of.values()), len(of)), strict=True))
    other[next(iter(of))] = names.word()
    entries = [{"image": name, "subject": patient} for name, patient in other.items()]
    (tmp_path / "list.json").write_text(json.dumps({"x": entries}))
    with pytest.raises(FoveateError) as error:
        found(tmp_path)
    told = str(error.value)
    assert "labels.csv (column patient, line" in told
    assert "list.json (field subject, image" in told
    assert not any(patient in told for patient in {*of.values(), *other.values()})


def test_sources_that_spell_the_same_patients_differently_agree(tmp_path, names):
    of = slices(tmp_path, names)
    table(tmp_path, of, "patient")
    entries = [{"image": name, "subject": f"other spelling {patient}"} for name, patient in of.items()]
    (tmp_path / "list.json").write_text(json.dumps({"x": entries}))
    assert found(tmp_path) == of


def test_dicom_and_a_table_are_compared(tmp_path, names):
    for number, folder in enumerate(names.words(2)):
        dicoms.write_series(tmp_path / folder, dicoms.noise(5 + number), PatientID="one and the same")
    files = sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file())
    firsts = [r.relative for r in images_for_pretraining(SOURCES["folder"].Config(), tmp_path)]
    assert set(firsts) < set(files)
    table(tmp_path, dict.fromkeys(firsts, names.word()), "patient", key=str)
    assert len({r.patient for r in images_for_pretraining(SOURCES["folder"].Config(), tmp_path)}) == 1
    table(tmp_path, dict(zip(firsts, names.words(2), strict=True)), "patient", key=str)
    with pytest.raises(FoveateError, match=r"DICOM headers \(PatientID\).*labels.csv \(column patient"):
        images_for_pretraining(SOURCES["folder"].Config(), tmp_path)


def test_a_row_that_gives_an_image_a_second_patient_is_refused(tmp_path, names):
    of = slices(tmp_path, names)
    table(tmp_path, of, "patient")
    with (tmp_path / "labels.csv").open("a") as stream:
        stream.write(f"{next(iter(of)).rpartition('/')[2]},0,{names.word()}\n")
    with pytest.raises(FoveateError, match=r"labels.csv: line 2 and line 14 name .* two patients \(column"):
        found(tmp_path)


def test_images_without_a_row_count_alone_and_a_useless_table_is_said(tmp_path, names):
    of = slices(tmp_path, names)
    known = dict(list(of.items())[:5])
    table(tmp_path, known, "patient")
    said = read_labelled(tmp_path, "maps").patients
    assert said.endswith("5 images; unknown for 7 images: each counts as its own patient")
    table(tmp_path, {f"{names.word()}.nii.gz": "1"}, "patient")
    read = read_labelled(tmp_path, "maps")
    assert read.notes == ("labels.csv has patients (column patient) and names none of the images: not used",)
    assert read.patients == UNKNOWN


def test_a_case_is_a_patient_only_where_nothing_better_is_known(tmp_path):
    records = [Record(path=tmp_path / f"{n}.nii", relative=f"{n}.nii", patient=f"case {n}") for n in range(4)]
    known = with_patients(records, tmp_path, own="--source msd", cases=True)
    assert known.sentence == "patients from --source msd (one for each case): 4 patients, 4 images"
    table(tmp_path, {f"{n}.nii": f"p{n // 2}" for n in range(4)}, "patient")
    known = with_patients(records, tmp_path, own="--source msd", cases=True)
    assert [r.patient for r in known.records] == ["p0", "p0", "p1", "p1"]


def test_a_source_that_knows_its_patients_is_not_contradicted_by_names(tmp_path):
    sites = [f"{site}/sub-1/sub-1_T1w.nii" for site in "ab"]
    records = [Record(path=tmp_path / name, relative=name, patient=name[0]) for name in sites]
    known = with_patients(records, tmp_path, own="--source nnssl", beside=False)
    assert [r.patient for r in known.records] == ["a", "b"]
    table(tmp_path, {name: name[0] for name in sites}, "patient", key=str)
    with pytest.raises(FoveateError, match=r"names \(sub-...\) \(sub-\).*Or say --patient_pattern"):
        with_patients(records, tmp_path)
    known = with_patients(records, tmp_path, pattern="^([ab])/")
    assert len({r.patient for r in known.records}) == 2

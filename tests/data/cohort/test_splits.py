"""Splits: patients stay together, strata are mixed, small sets lie in larger ones, lists are obeyed."""

import json
import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from foveate.core.types import FoveateError, Record
from foveate.data.cohort.draw import by_patient, draw, patient_of, strata
from foveate.data.cohort.splits import SplitConfig, make_split


def cohort(count, patients=0, split=""):
    return [
        Record(
            path=Path(f"images/c{i}.png"),
            relative=f"images/c{i}.png",
            patient=f"p{i % patients}" if patients else "",
            split=split,
        )
        for i in range(count)
    ]


def names(records):
    return [record.relative for record in records]


@given(count=st.integers(10, 60), patients=st.integers(0, 30), seed=st.integers(0, 5))
def test_every_image_once_every_patient_in_one_part(count, patients, seed):
    records = cohort(count, max(patients, 6) if patients else 0)
    split = make_split(records, [str(i % 3) for i in range(count)], SplitConfig(seed=seed, test_share=0.2))
    assert sorted(names([r for part in split.values() for r in part])) == sorted(names(records))
    owners = [{patient_of(record) for record in part} for part in split.values()]
    assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :])


def test_strata_are_mixed_in_every_part_and_in_every_prefix():
    records = cohort(200)
    strata = ["rare" if i % 10 == 0 else "common" for i in range(200)]
    rare = {r.relative for r, s in zip(records, strata, strict=True) if s == "rare"}
    split = make_split(records, strata, SplitConfig())
    assert len(split["val"]) == 40
    assert 3 <= len(rare & set(names(split["val"]))) <= 5
    for n in (20, 50, 100):
        few = make_split(records, strata, SplitConfig(train_cases=n))
        assert n / 10 - 1 <= len(rare & set(names(few["train"]))) <= n / 10 + 1


def test_fewer_cases_lie_inside_more_and_validation_stays():
    records, strata = cohort(50, 20), ["a"] * 50
    splits = [make_split(records, strata, SplitConfig(train_cases=n, seed=3)) for n in (3, 10, 25)]
    trains = [names(split["train"]) for split in splits]
    assert [len(train) for train in trains] == [3, 10, 25]
    assert trains[2][:10] == trains[1]
    assert trains[1][:3] == trains[0]
    assert len({tuple(names(split["val"])) for split in splits}) == 1
    with pytest.raises(FoveateError, match=r"train_cases 99: there are \d+ training cases"):
        make_split(records, strata, SplitConfig(train_cases=99))


def test_labels_counted_in_patients_bring_all_of_their_cases():
    records, strata = cohort(60, 20), ["a"] * 60
    whole = make_split(records, strata, SplitConfig(seed=3))
    few = [make_split(records, strata, SplitConfig(train_patients=n, seed=3)) for n in (1, 3, 8)]
    people = [{r.patient for r in split["train"]} for split in few]
    assert [len(each) for each in people] == [1, 3, 8]
    assert people[0] < people[1] < people[2]
    for split, chosen in zip(few, people, strict=True):
        assert set(names(split["train"])) == {r.relative for r in whole["train"] if r.patient in chosen}
        assert names(split["val"]) == names(whole["val"])
    first = make_split(records, strata, SplitConfig(train_cases=len(few[1]["train"]), seed=3))
    assert names(first["train"]) == names(few[1]["train"])  # one order
    for wrong in (99, -1):
        with pytest.raises(FoveateError, match=rf"train_patients {wrong}: there are \d+ training patients"):
            make_split(records, strata, SplitConfig(train_patients=wrong))
    with pytest.raises(FoveateError, match=r"train_cases 2 and split\.train_patients 1: accepted is one"):
        SplitConfig(train_cases=2, train_patients=1)


@given(count=st.integers(8, 60), patients=st.integers(8, 30), seed=st.integers(0, 5))
def test_a_drawn_split_is_the_one_that_the_split_verb_writes(count, patients, seed):
    kinds = [str(i % 3) for i in range(count)]
    records = [replace(r, labels={"kind": k}) for r, k in zip(cohort(count, patients), kinds, strict=True)]
    split = make_split(
        records, [f"kind={k}" for k in kinds], SplitConfig(seed=seed, val_share=0.15, test_share=0.2)
    )
    groups = by_patient(records)
    shares = {"val_share": 0.15, "test_share": 0.2}
    drawn = draw(groups, strata(groups, ["kind"]), fractions=(), seed=seed, **shares)
    for part, found in drawn.parts.items():
        assert names(split[part]) == [r.relative for patient in found for r in groups[patient]]


def test_the_order_of_the_records_does_not_matter():
    records, strata = cohort(20), ["a", "b"] * 10
    one = make_split(records, strata, SplitConfig())
    other = make_split(records[::-1], strata[::-1], SplitConfig())
    assert {part: names(r) for part, r in one.items()} == {part: names(r) for part, r in other.items()}


def test_what_the_records_say_is_kept_and_only_validation_is_drawn():
    tests = [Record(path=Path(f"{n}.png"), relative=f"{n}.png", split="test") for n in "tu"]
    records = [*cohort(8, split="train"), *tests]
    split = make_split(records, ["x"] * 10, SplitConfig(val_share=0.25))
    assert names(split["test"]) == ["t.png", "u.png"]
    assert len(split["val"]) == 2
    assert len(split["train"]) == 6


def test_a_given_list_is_obeyed_by_path_name_or_stem(tmp_path):
    file = tmp_path / "splits_final.json"
    file.write_text(
        json.dumps([{"train": ["c0"], "val": ["c1.png"]}, {"train": ["images/c2.png"], "val": ["c3"]}])
    )
    records = cohort(5)
    split = make_split(records, [""] * 5, SplitConfig(source=str(file), fold=1))
    assert [names(split[p]) for p in ("train", "val", "test")] == [["images/c2.png"], ["images/c3.png"], []]
    folder = tmp_path / "lists"
    folder.mkdir()
    (folder / "train.txt").write_text("c0\nc4\n\n")
    (folder / "val.txt").write_text("c1\n")
    split = make_split(records, [""] * 5, SplitConfig(source=str(folder)))
    assert names(split["train"]) == ["images/c0.png", "images/c4.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["nobody"], "val": ["c1"]}, "'nobody': no labelled image has that name"),
        ({"val": ["c1"]}, '"train" is empty or missing'),
        ({"train": ["c0"], "val": ["c0"]}, "is for val, but the same patient or image is for train"),
        ([["c0"]], r"split\.source .*split\.json holds something else than names by part"),
        ({"train": 3, "val": ["c1"]}, "something else than names by part"),
        ("", "something else than names by part"),
    ],
)
def test_a_bad_list_is_refused(tmp_path, content, message):
    file = tmp_path / "split.json"
    file.write_text(json.dumps(content))
    with pytest.raises(FoveateError, match=message):
        make_split(cohort(4), [""] * 4, SplitConfig(source=str(file)))


def test_too_few_patients_and_silly_shares_are_refused():
    with pytest.raises(FoveateError, match=r"No patient is left for val \(val_share 0.2; patients: 1\)"):
        make_split(cohort(6, patients=1), [""] * 6, SplitConfig())
    assert len(make_split(cohort(2), [""] * 2, SplitConfig())["val"]) == 1  # a small share is one patient
    with pytest.raises(FoveateError, match="val_share"):
        SplitConfig(val_share=0.0)
    mixed = [*cohort(2, split="train"), Record(path=Path("q"), relative="q")]
    with pytest.raises(FoveateError, match="q has no split although others have"):
        make_split(mixed, [""] * 3, SplitConfig())


@settings(max_examples=40, deadline=None)
@given(
    owners=st.lists(st.integers(0, 12), min_size=8, max_size=40),
    seed=st.integers(0, 5000),
    counts=st.lists(st.integers(1, 8), min_size=2, max_size=4),
)
def test_label_sets_are_nested_and_patients_stay_together(tmp_path_factory, owners, seed, counts):
    records = [
        Record(path=None, relative=f"i{n}.png", patient=f"p{owner}", split="train" if owner > 4 else "")
        for n, owner in enumerate(owners)
    ]
    parts = {0: "test", 1: "test", 2: "val", 3: "val"}
    home = tmp_path_factory.mktemp("lists")
    lists = {"train": [], "val": ["x.png"], "test": ["y.png"]}
    held = [Record(path=None, relative=f"{n}.png", patient=n) for n in "xy"]
    for record, owner in zip(records, owners, strict=True):
        lists[parts.get(owner, "train")].append(record.relative)
    if len(lists["train"]) < max(counts):
        return
    for part, names in lists.items():
        (home / f"{part}.txt").write_text("".join(f"{name}\n" for name in names))
    everyone = [*records, *held]
    splits = [
        make_split(everyone, [""] * len(everyone), SplitConfig(source=str(home), train_cases=n, seed=seed))
        for n in sorted(counts)
    ]
    for small, large in pairwise(splits):
        assert {r.relative for r in small["train"]} <= {r.relative for r in large["train"]}
        assert small["test"] == large["test"]
    held_out = {r.patient for part in ("val", "test") for r in splits[0][part]}
    assert not held_out & {r.patient for r in splits[-1]["train"]}


def test_names_in_another_encoding_and_with_strange_line_ends_come_back_from_their_lists(tmp_path):
    names = [os.fsdecode(b"m\xfcller.png"), "a\u2028b.png"]
    (tmp_path / "train.txt").write_bytes(b"".join(os.fsencode(name) + b"\n" for name in names))
    (tmp_path / "val.txt").write_text("c.png\n")
    records = [Record(path=Path(name), relative=name) for name in (*names, "c.png")]
    split = make_split(records, [""] * 3, SplitConfig(source=str(tmp_path)))
    assert [record.relative for record in split["train"]] == names


@given(
    count=st.integers(10, 60), patients=st.integers(0, 30), seed=st.integers(0, 5), folds=st.integers(2, 5)
)
def test_every_image_validates_in_one_fold_and_no_patient_in_two(count, patients, seed, folds):
    records = cohort(count, max(patients, 10) if patients else 0)
    settings = SplitConfig(seed=seed, test_share=0.2, folds=folds)
    splits = [make_split(records, [""] * count, replace(settings, fold=k)) for k in range(folds)]
    tests = names(splits[0]["test"])
    assert tests
    assert all(names(split["test"]) == tests for split in splits)
    validated = [name for split in splits for name in names(split["val"])]
    assert sorted([*validated, *tests]) == sorted(names(records))
    for split in splits:
        assert sorted(names([r for part in split.values() for r in part])) == sorted(names(records))
    owners = [{patient_of(record) for record in split["val"]} for split in splits]
    assert all(not a & b for i, a in enumerate(owners) for b in owners[i + 1 :])


def test_strata_are_mixed_in_every_fold():
    records = cohort(200)
    strata = ["rare" if i % 10 == 0 else "common" for i in range(200)]
    rare = {r.relative for r, s in zip(records, strata, strict=True) if s == "rare"}
    for fold in range(5):
        split = make_split(records, strata, SplitConfig(folds=5, fold=fold))
        assert len(split["val"]) == 40
        assert 3 <= len(rare & set(names(split["val"]))) <= 5


def test_a_test_part_that_the_data_say_is_in_no_fold():
    records = [*cohort(8, split="train"), *[replace(r, relative=f"t{r.relative}") for r in cohort(2)]]
    records = [replace(r, split=r.split or "test") for r in records]
    for fold in range(4):
        split = make_split(records, [""] * 10, SplitConfig(folds=4, fold=fold))
        assert names(split["test"]) == names(records[8:])
        assert (len(split["val"]), len(split["train"])) == (2, 6)


@pytest.mark.parametrize("keys", [{"folds": 1}, {"folds": 3, "fold": 3}, {"folds": 3, "source": "a.json"}])
def test_folds_that_are_none_are_refused(keys):
    with pytest.raises(FoveateError, match=r"split\.folds"):
        SplitConfig(**keys)


def test_more_folds_than_patients_are_refused():
    with pytest.raises(FoveateError, match="a fold has no patient, of 3; accepted: fewer folds"):
        make_split(cohort(6, patients=3), [""] * 6, SplitConfig(folds=4))

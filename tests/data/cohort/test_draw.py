"""Grouping, nestedness and mixture of what is drawn, for any cohort; and the same lists on every system."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from foveate.core.types import FoveateError, Record
from foveate.data.cohort.draw import PARTS, by_patient, cut, draw, strata, stratified_order


def record(name, patient="", split="", **labels):
    return Record(path=Path(name), relative=name, patient=patient, split=split, labels=labels)


def images_of(patients):
    """One to four images of each patient."""
    return [
        record(f"{i}-{j}.png", f"p{i}", kind=kind)
        for i, (count, kind) in enumerate(patients)
        for j in range(count)
    ]


patients = st.tuples(st.integers(1, 4), st.sampled_from(["a", "b", "c"]))
cohorts = st.lists(patients, min_size=16, max_size=80).map(images_of)


def drawn_from(records, seed=0, fractions=(0.1, 0.5), **shares):
    groups = by_patient(records)
    shares = {"val_share": 0.2, "test_share": 0.2, **shares}
    return groups, draw(groups, strata(groups), fractions=fractions, seed=seed, **shares)


@settings(max_examples=60, deadline=None)
@given(cohorts, st.integers(0, 5))
def test_every_patient_is_in_one_part_and_every_image_in_one(records, seed):
    groups, drawn = drawn_from(records, seed)
    placed = [patient for part in PARTS for patient in drawn.parts[part]]
    assert sorted(placed) == sorted(groups)
    assert sum(len(groups[patient]) for patient in placed) == len(records)


@settings(max_examples=60, deadline=None)
@given(cohorts, st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5, unique=True))
def test_label_fractions_are_nested_and_do_not_depend_on_each_other(records, fractions):
    _, drawn = drawn_from(records, fractions=fractions)
    last = set()
    for fraction in sorted(fractions):
        found = set(drawn.fractions[fraction])
        assert last <= found <= set(drawn.parts["train"])
        _, alone = drawn_from(records, fractions=[fraction])
        assert alone.fractions[fraction] == drawn.fractions[fraction]
        last = found


@settings(max_examples=60, deadline=None)
@given(cohorts, st.floats(0.01, 0.99))
def test_a_fraction_has_its_share_of_the_images_to_within_half_a_patient(records, fraction):
    groups, drawn = drawn_from(records, fractions=[fraction])
    sizes = {patient: len(groups[patient]) for patient in drawn.parts["train"]}
    found = sum(sizes[patient] for patient in drawn.fractions[fraction])
    assert (
        abs(found - fraction * sum(sizes.values())) <= max(sizes.values()) / 2
        or len(drawn.fractions[fraction]) == 1
    )


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from("abcd"), min_size=8, max_size=200),
    st.lists(st.integers(0, 200), min_size=2, max_size=2),
    st.integers(0, 5),
)
def test_any_stretch_of_the_order_is_mixed_as_the_whole(kinds, ends, seed):
    stratum = {f"p{i}": kind for i, kind in enumerate(kinds)}
    order = stratified_order(stratum, stratum, seed)
    assert sorted(order) == sorted(stratum)
    start, end = sorted(min(end, len(order)) for end in ends)
    whole, found = Counter(kinds), Counter(stratum[patient] for patient in order[start:end])
    for kind, count in whole.items():
        share = count / len(order)
        bound = 2 * (1 + len(whole) * share)  # 1 + S k / n at each end of the stretch
        assert abs(found[kind] - share * (end - start)) <= bound


def test_an_order_without_strata_would_fail_the_mixture():
    """The bound above can be missed: by patients in the order of their kinds."""
    kinds = sorted("ab" * 50)
    found = Counter(kinds[:50])
    assert abs(found["a"] - 25) > 2 * (1 + 2 * 0.5)


def test_the_draw_is_the_same_on_every_system():
    records = [record(f"f{i}.png", f"p{i // 2}", kind=i % 3) for i in range(24)]
    _, drawn = drawn_from(records)
    assert drawn.parts["test"] == RECORDED["test"]
    assert drawn.fractions[0.1] == RECORDED["fraction"]
    _, again = drawn_from(records[::-1])
    assert again == drawn
    _, other = drawn_from(records, seed=1)
    assert other.parts != drawn.parts


RECORDED = {"test": ["patient p1", "patient p5"], "fraction": ["patient p11"]}


def test_names_are_one_in_whichever_way_a_system_spells_them():
    composed = unicodedata.normalize("NFC", "pät")
    records = [record(f"{i}.png", f"{composed}{i}") for i in range(20)]
    apart = [record(r.relative, unicodedata.normalize("NFD", r.patient)) for r in records]
    files = [
        sorted(r.relative for p in drawn.parts["test"] for r in groups[p])
        for groups, drawn in (drawn_from(records), drawn_from(apart))
    ]
    assert files[0] == files[1]


def test_one_patient_more_moves_few_others():
    records = [record(f"{i}.png", f"p{i}") for i in range(200)]
    _, before = drawn_from(records)
    _, after = drawn_from([*records, record("new.png", "new")])
    moved = sum(len(set(before.parts[part]) - set(after.parts[part])) for part in PARTS)
    assert moved <= 3


def test_patients_with_equal_voxels_are_one():
    records = [record("a.png", "p1"), record("b.png", "p2"), record("c.png", "p3"), record("d.png")]
    groups = by_patient(records, [["a.png", "c.png"], ["c.png", "d.png"]])
    assert sorted(sorted(r.relative for r in images) for images in groups.values()) == [
        ["a.png", "c.png", "d.png"],
        ["b.png"],
    ]


def test_what_the_data_set_says_stays():
    records = [record(f"{i}.png", f"p{i}", split="test" if i < 5 else "train") for i in range(20)]
    groups, drawn = drawn_from(records)
    assert {r.relative for p in drawn.parts["test"] for r in groups[p]} == {f"{i}.png" for i in range(5)}
    assert len(drawn.parts["val"]) == 3


def test_a_patient_in_two_given_parts_is_refused_with_both_images():
    records = [record("a.png", "p", "train"), record("b.png", "p", "test")]
    with pytest.raises(FoveateError, match=r"a.png is for train and b.png for test"):
        drawn_from(records)


def test_a_part_that_would_be_empty_is_refused():
    with pytest.raises(FoveateError, match=r"No patient is left for test \(test_share 0.2; patients: 2\)"):
        drawn_from([record("a.png"), record("b.png")], val_share=0.4)
    _, drawn = drawn_from([record(f"{i}.png") for i in range(4)], val_share=0.25, test_share=0)
    assert not drawn.parts["test"]
    _, drawn = drawn_from([record(f"{i}.png") for i in range(4)], val_share=0.05, test_share=0.05)
    assert {part: len(drawn.parts[part]) for part in PARTS} == {"train": 2, "val": 1, "test": 1}


def test_a_stratum_is_the_rarest_value_of_the_patient():
    records = [record(f"{i}.png", f"p{i}", effusion=1, hernia=int(i == 0), age=40.5 + i) for i in range(30)]
    found = strata(by_patient(records), ["effusion", "hernia"])
    assert found["patient p0"] == "hernia=1"
    assert found["patient p1"] == "effusion=1"
    assert set(strata(by_patient(records)).values()) == {"", "hernia=1"}  # an age and a constant sort nobody
    missing = [record("x.png", label=math.nan), record("y.png", label=1), record("z.png", label=0)]
    assert sorted(strata(by_patient(missing)).values()) == ["", "", "label=1"]


def test_cut_puts_a_patient_where_its_middle_image_is():
    assert cut(["a", "b", "c"], {"a": 4, "b": 4, "c": 2}, (0.5, 0.5)) == [["a"], ["b", "c"]]
    assert cut(["a", "b", "c"], {"a": 4, "b": 2, "c": 4}, (0.5, 0.5)) == [["a", "b"], ["c"]]

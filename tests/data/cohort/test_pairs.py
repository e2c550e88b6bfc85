"""Images and label maps in one folder, under ends of names that are drawn: what they hold decides."""

from __future__ import annotations

import re

import numpy as np
import pytest
from tests.data.drawn import image, label_map, names

from foveate.core.types import FoveateError
from foveate.data.cohort.labelled import read_labelled

__all__ = ["names"]
COUNT = 6
SHIFTED = np.diag([2.0, 2.0, 2.0, 1.0])


def pairs(root, **keys):
    records = read_labelled(root, "maps", **keys).records
    return {r.relative: r.maps["labels"].relative_to(root).as_posix() for r in records}


def written(root, cases, image_end, label_end, write=image):
    """Pairs on the disk, and how they belong together."""
    found = {}
    for number, case in enumerate(cases):
        one, other = root / f"{case}{image_end}.nii.gz", root / f"{case}{label_end}.nii.gz"
        write(one, number)
        label_map(other, number)
        found[one.relative_to(root).as_posix()] = other.relative_to(root).as_posix()
    return found


@pytest.mark.parametrize("folder", ["", "all/", "{case}/"])
def test_drawn_ends_pair_by_common_stems(tmp_path, names, folder):
    one, other = names.words(2)
    cases = [folder.format(case=case) + case for case in names.cases(COUNT)]
    expected = written(tmp_path, cases, f"_{one}", f"_{other}")
    assert pairs(tmp_path) == expected
    assert f"_{other}" in " ".join(read_labelled(tmp_path, "maps").notes)


@pytest.mark.parametrize("ends", [("", "-{}"), ("_{}_{}", "_{}"), ("_T1w", "_seg"), ("_{}", "_label")])
def test_so_do_plain_images_longer_ends_and_known_words(tmp_path, names, ends):
    one, other = (re.sub("{}", lambda _: names.word(), end) for end in ends)
    expected = written(tmp_path, [f"sub-{case}" for case in names.words(COUNT)], one, other)
    assert pairs(tmp_path) == expected


def test_a_folder_may_be_the_case(tmp_path, names):
    one, other = names.words(2)
    expected = {}
    for number, case in enumerate(names.cases(COUNT)):
        image(tmp_path / case / f"{one}.nii.gz", number)
        label_map(tmp_path / case / f"{other}.nii.gz", number)
        expected[f"{case}/{one}.nii.gz"] = f"{case}/{other}.nii.gz"
    assert pairs(tmp_path) == expected
    assert pairs(tmp_path, pairs=f"{{case}}/{one}.nii.gz={{case}}/{other}.nii.gz") == expected


def test_several_ways_are_refused_with_the_families_and_what_to_say(tmp_path, names):
    one, other, labels = names.words(3)
    cases = names.cases(COUNT)
    expected = written(tmp_path, cases, f"_{one}", f"_{labels}")
    for number, case in enumerate(cases):
        image(tmp_path / f"{case}_{other}.nii.gz", 50 + number)
    with pytest.raises(FoveateError) as error:
        pairs(tmp_path)
    told = str(error.value)
    assert f"*_{one}: {COUNT} files, images" in told
    assert f"*_{labels}: {COUNT} files, label maps" in told
    said = f"{{case}}_{one}.nii.gz={{case}}_{labels}.nii.gz"
    assert f"--pairs '{said}'" in told
    assert pairs(tmp_path, pairs=said) == expected


def test_the_grid_tells_which_image_a_label_map_belongs_to(tmp_path, names):
    one, other, labels = names.words(3)
    cases = names.cases(COUNT)
    expected = written(tmp_path, cases, f"_{one}", f"_{labels}")
    for number, case in enumerate(cases):
        image(tmp_path / f"{case}_{other}.nii.gz", 50 + number, affine=SHIFTED)
    assert pairs(tmp_path) == expected


def test_a_stem_without_its_partner_is_counted(tmp_path, names):
    one, other = names.words(2)
    cases = names.cases(COUNT)
    expected = written(tmp_path, cases[1:], f"_{one}", f"_{other}")
    image(tmp_path / f"{cases[0]}_{one}.nii.gz", 99)
    assert pairs(tmp_path) == expected
    assert read_labelled(tmp_path, "maps").unlabelled == 1


def test_a_pattern_that_fits_nothing_says_what_it_met(tmp_path, names):
    one, other = names.words(2)
    written(tmp_path, names.cases(COUNT), f"_{one}", f"_{other}")
    with pytest.raises(
        FoveateError, match=rf"{COUNT} the image's pattern \(e.g. .*0 the label map's pattern"
    ):
        pairs(tmp_path, pairs=f"{{case}}_{one}.nii.gz={{case}}_{names.word()}.nii.gz")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("{case}_a.nii.gz", "accepted are two different patterns"),
        ("{case}_a.nii.gz=b.nii.gz", "accepted are two different patterns"),
        ("{case}.nii.gz={case}.nii.gz", "accepted are two different patterns"),
        ("{case}_*.nii.gz={case}_b.nii.gz", "is no wildcard here"),
    ],
)
def test_a_pattern_that_cannot_be_understood_is_refused(tmp_path, names, said, why):
    written(tmp_path, names.cases(2), "_a", "_b")
    with pytest.raises(FoveateError, match=re.escape(f"--pairs {said}") + f".*{why}"):
        pairs(tmp_path, pairs=said)


def test_two_families_of_images_are_no_pairs(tmp_path, names):
    one, other = names.words(2)
    for number, case in enumerate(names.cases(COUNT)):
        image(tmp_path / f"{case}_{one}.nii.gz", number)
        image(tmp_path / f"{case}_{other}.nii.gz", 50 + number)
    with pytest.raises(FoveateError, match=f"{2 * COUNT} images were found .*none with a label map"):
        pairs(tmp_path)

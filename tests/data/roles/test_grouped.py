"""Lines on excluded files."""

from __future__ import annotations

from foveate.data.roles.grouped import grouped

LABELS = "its values look like labels: {} whole numbers from 0 to 2, in flat regions"


def test_label_maps_of_a_family_are_one_line_without_names():
    cases = [(f"p{n}_tissue.nii.gz", LABELS.format(n)) for n in range(34)]
    assert list(grouped(cases)) == ["34 files like *_tissue.nii.gz: label maps"]


def test_other_reasons_name_a_few_files_and_few_files_are_named_all():
    cut = [(f"d/s{n:03d}.png", f"its data end early: {n} of 900 bytes") for n in (3, 70, 8, 9)]
    others = [("d/x.png", "the image is constant"), ("notes.txt", "suffix '.txt' is not an image")]
    assert list(grouped([*cut, *others])) == [
        "4 files like d/*.png (d/s003.png, d/s070.png, d/s008.png, ...): its data end early: 3 of 900 bytes",
        "d/x.png: the image is constant",
        "notes.txt: suffix '.txt' is not an image",
    ]


def test_nothing_is_no_line():
    assert list(grouped([])) == []

"""Which numbered files are the channels of one image; no file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from foveate.core.types import Record
from foveate.data.roles.channels import channel_notes, joined_channels


def records(*relatives: str) -> list[Record]:
    return [
        Record(path=Path("d") / name, relative=name, role="label" if "labels" in name else "image")
        for name in relatives
    ]


def joined(*relatives: str) -> dict[str, list[str]]:
    return {
        record.relative: [path.name for path in record.channels]
        for record in joined_channels(records(*relatives))
    }


def cases(pattern: str, count: int, channels: int) -> list[str]:
    return [pattern.format(case, channel) for case in range(count) for channel in range(channels)]


def test_a_bare_folder_of_volumes():
    assert joined(*cases("c{}_{:04d}.nii.gz", 2, 2)) == {
        "c0_0000.nii.gz": ["c0_0000.nii.gz", "c0_0001.nii.gz"],
        "c1_0000.nii.gz": ["c1_0000.nii.gz", "c1_0001.nii.gz"],
    }


def test_the_order_is_that_of_the_numbers():
    (record,) = joined_channels(records(*reversed(cases("imagesTs/c{}_{:04d}.nii.gz", 1, 3))))
    assert [path.name[-11:-7] for path in record.channels] == ["0000", "0001", "0002"]


@pytest.mark.parametrize(
    "names",
    [
        cases("c{}_{:04d}.nii.gz", 1, 2),  # one case alone may be two visits
        cases("c{}_{:04d}.nii.gz", 2, 17),  # too many: slices or times
        cases("c{}_{:04d}.png", 2, 2),  # pictures are often numbered
        cases("c{}_{:04d}.nii.gz", 2, 1),
        [*cases("c{}_{:04d}.nii.gz", 2, 2), "other.nii.gz"],
        ["a_0000.nii.gz", "a_0001.nii.gz", "b_0000.nii.gz", "b_0002.nii.gz"],
        ["a_0001.nii.gz", "a_0002.nii.gz", "b_0001.nii.gz", "b_0002.nii.gz"],  # nnU-Net counts from 0
        [*cases("images/c{}_{:04d}.nii.gz", 2, 2), "labels/c0_0001.nii.gz"],  # every number has a label map
    ],
)
def test_what_may_count_something_else_stays_apart(names):
    assert joined(*names) == {name: [] for name in names}


def test_pictures_and_single_cases_in_the_folders_of_nnunet():
    assert len(joined(*cases("imagesTr/c{}_{:04d}.png", 2, 3))) == 2
    assert len(joined(*cases("imagesTs/c{}_{:04d}.nii.gz", 1, 2))) == 1


def test_the_folder_that_is_given_counts_and_so_does_a_model():
    one = records(*cases("c{}_{:04d}.nii.gz", 1, 2))
    assert len(joined_channels(one)) == 2
    assert len(joined_channels(one, "imagesTs")) == len(joined_channels(one, expected=2)) == 1
    assert len(joined_channels(one, expected=3)) == len(joined_channels(one, "imagesTs", 1)) == 2


def test_folders_are_judged_one_by_one():
    found = joined(*cases("imagesTr/c{}_{:04d}.nii.gz", 2, 2), "more/a_0000.nii.gz", "more/a_0001.nii.gz")
    assert {name: len(channels) for name, channels in found.items()} == {
        "imagesTr/c0_0000.nii.gz": 2,
        "imagesTr/c1_0000.nii.gz": 2,
        "more/a_0000.nii.gz": 0,
        "more/a_0001.nii.gz": 0,
    }


def test_an_incomplete_case_says_which_channels_have_no_file():
    found = joined_channels(records(*cases("c{}_{:04d}.nii.gz", 2, 3), "c2_0000.nii.gz", "c2_0002.nii.gz"))
    last = found[-1]
    assert (len(found), last.relative, last.absent) == (3, "c2_0000.nii.gz", (1,))
    assert [path.name for path in last.channels] == ["c2_0000.nii.gz", "c2_0002.nii.gz"]
    assert channel_notes(found)[0].startswith("3 images have 3 channels, the files _0000 to _0002")

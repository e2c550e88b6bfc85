"""Previews show what they are given the right way up."""

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.train.pictures import GAP, HEADER, TILE, write_preview


@pytest.mark.parametrize(
    ("shape", "slices", "bright_on_top"),
    [((32, 32), False, False), ((32, 32), True, True), ((8, 8, 8), False, True)],
)
def test_the_last_axis_goes_down_in_pictures_and_up_in_volumes_and_their_slices(
    tmp_path, shape, slices, bright_on_top
):
    views = torch.linspace(0, 1, shape[-1]).expand(1, 1, *shape)  # brighter along the last axis
    write_preview(tmp_path / "drawn.png", {"clean": views}, slices=slices)
    drawn = np.asarray(Image.open(tmp_path / "drawn.png").convert("L"), dtype=float)
    *_, last = range(
        HEADER + GAP, drawn.shape[0] - TILE, TILE + GAP
    )  # of a volume, a plane with its last axis
    picture = drawn[last : last + TILE, GAP : GAP + TILE]
    assert (picture[:40].mean() > picture[-40:].mean() + 50) == bright_on_top
    assert (picture[:40].mean() < picture[-40:].mean() - 50) != bright_on_top

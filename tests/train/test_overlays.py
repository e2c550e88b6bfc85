"""Pictures of validation: a legend of colours, a caption a row, the score of what is drawn."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from foveate.pages.page import asset
from foveate.train.overlays import COLOURS, GAP, HEADER, LINE, TILE, Case, dice, legend_of, write_overlays

NAMES = ["liver", "tumour"]


def regions(shape: tuple[int, ...]) -> dict[str, torch.Tensor]:
    truth, found = torch.zeros(2, *shape, dtype=torch.bool), torch.zeros(2, *shape, dtype=torch.bool)
    truth[0, 2:6, 2:6], truth[1, 9:12, 9:12] = True, True
    found[0, 2:6, 4:8] = True
    return {"truth": truth, "prediction": found}


@pytest.mark.parametrize("shape", [(16, 20), (16, 20, 5)])
def test_rows_have_captions_below_a_legend(tmp_path, shape):
    cases = [
        Case(image=torch.rand(shape), regions=regions(shape), caption=text) for text in ("row 7, 0.25", "")
    ]
    write_overlays(tmp_path / "a.png", cases, NAMES)
    drawn = np.asarray(Image.open(tmp_path / "a.png"))
    assert drawn.shape[1] == 3 * (TILE + GAP) + GAP
    for colour in COLOURS[:2]:
        assert (drawn[:LINE] == colour).all(-1).sum() >= 100, "a square in the legend"
        assert (drawn[LINE:] == colour).all(-1).any(), "an outline"
    tall = (drawn.shape[0] - LINE - HEADER - GAP) // 2
    first, second = (drawn[LINE + HEADER + n * tall :][:LINE] for n in range(2))
    assert first.any()
    assert not second.any()


def test_a_long_legend_takes_several_lines_and_none_takes_none():
    assert legend_of([], 500).height == 0
    assert legend_of(["class"], 500).height == LINE
    assert legend_of([f"a long name of class {n}" for n in range(12)], 500).height > 3 * LINE


def test_the_score_is_the_mean_dice_of_what_is_there():
    found = regions((16, 20))
    assert dice(found) == pytest.approx((2 * 8 / 32 + 0) / 2)
    empty = {name: torch.zeros(1, 4, 4, dtype=torch.bool) for name in found}
    assert np.isnan(dice(empty))


def test_a_class_has_the_colour_that_it_has_in_the_slice_viewer():
    listed = re.search(r"COLOURS = (\[.*?\]);", asset("planes.js"), re.DOTALL)[1]
    assert [tuple(each) for each in json.loads(re.sub(r",\s*\]", "]", listed))] == list(COLOURS)

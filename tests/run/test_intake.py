"""What is said about the data before a run, and what becomes of a tree that holds more than it can use."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from foveate.core.types import FoveateError, Record, Tissue
from foveate.run import intake
from foveate.run import pretrain as run

from ..conftest import tiny_keys, write_cohort


def test_dimension_chooses_in_a_mixed_tree(tmp_path, capsys):
    from foveate.run import settings

    write_cohort(tmp_path / "data" / "volumes", 3, count=2)
    write_cohort(tmp_path / "data" / "pictures", 2, count=3)
    config = settings.from_keys(tiny_keys(3, tmp_path / "data", tmp_path / "run", steps=1))
    assert run.pretrain(config)
    said = capsys.readouterr().err
    assert "--dimension 3: 3 images of the other kind are left out" in said
    assert "data: 2 images, 0 left out" in said


def test_dimension_that_no_image_has(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    record = Record(path=tmp_path / "a.png", relative="a.png")
    with pytest.raises(FoveateError, match="--dimension 3: none of the 1 images is 3D"):
        intake.of_dimension([record], 3)


def test_views_that_miss_the_tissue_rule_are_counted(tiny):
    config = tiny(3)
    crops = run.build_method(config).crops
    cache = intake.open_cache(config, Path(config.data))
    assert intake.tissue_note(cache, crops, 0) == ""
    impossible = replace(crops["global"], tissue=Tissue(threshold=0.99, at_least=0.9))
    note = intake.tissue_note(cache, {**crops, "global": impossible}, 0)
    assert note.startswith("tissue rule: 64 of the first 64 views miss it")
    easy = replace(crops["global"], tissue=Tissue(threshold=0.0, at_most=1.0, at_least=0.01))
    assert "rule: 0 of the first 64" in intake.tissue_note(cache, {**crops, "global": easy}, 0)

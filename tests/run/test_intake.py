"""What is said about the data before a run."""

from dataclasses import replace
from pathlib import Path

from foveate.core.types import Tissue
from foveate.run import intake
from foveate.run.pretrain import build_method


def test_views_that_miss_the_tissue_rule_are_counted(tiny):
    config = tiny(3)
    crops = build_method(config).crops
    cache = intake.open_cache(config, Path(config.data))
    assert intake.tissue_note(cache, crops, 0) == ""
    impossible = replace(crops["global"], tissue=Tissue(threshold=0.99, at_least=0.9))
    note = intake.tissue_note(cache, {**crops, "global": impossible}, 0)
    assert note.startswith("tissue rule: 64 of the first 64 views miss it")
    easy = replace(crops["global"], tissue=Tissue(threshold=0.0, at_most=1.0, at_least=0.01))
    assert "rule: 0 of the first 64" in intake.tissue_note(cache, {**crops, "global": easy}, 0)

"""What is said about the data before a run, and what becomes of a tree that holds more than it can use."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.conftest import tiny_keys, write_cohort
from tests.data.readers.dicom.miniatures import write

from foveate.commands.pretrain import run
from foveate.commands.pretrain.build import build_method
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import FoveateError, Record, Tissue
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.sources.folder import FolderSource
from foveate.runtime import images as intake


def test_dimension_chooses_in_a_mixed_tree(tmp_path, capsys):
    from foveate.commands.pretrain import config as settings

    write_cohort(tmp_path / "data" / "volumes", 3, count=2)
    write_cohort(tmp_path / "data" / "pictures", 2, count=3)
    config = settings.SPEC.from_keys(tiny_keys(3, tmp_path / "data", tmp_path / "run", steps=1))
    assert run.pretrain(config)
    said = capsys.readouterr().err
    assert "--dimension 3: 3 images of another dimension are excluded" in said
    assert "data: 2 images, 0 excluded" in said


def test_dimension_that_no_image_has(tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    record = Record(path=tmp_path / "a.png", relative="a.png")
    with pytest.raises(FoveateError, match="--dimension 3: none of the 1 images is 3D"):
        intake.of_dimension([record], 3)


def test_views_that_miss_the_tissue_rule_are_counted(tiny):
    config = tiny(3)
    crops = build_method(config).crops
    cache = open_cache(config)
    assert intake.tissue_note(cache, crops, 0) == ""
    impossible = replace(crops["global"], tissue=Tissue(threshold=0.99, at_least=0.9))
    note = intake.tissue_note(cache, {**crops, "global": impossible}, 0)
    assert note.startswith("tissue rule: 64 of the first 64 views miss it")
    easy = replace(crops["global"], tissue=Tissue(threshold=0.0, at_most=1.0, at_least=0.01))
    assert "rule: 0 of the first 64" in intake.tissue_note(cache, {**crops, "global": easy}, 0)


def test_volumes_that_no_view_fits_are_named_and_counted(tiny):
    config = tiny(3)
    cache = open_cache(config)
    large = replace(build_method(config).crops["global"], grid=(200,) * 3, source_sizes=((200,) * 3,))
    name = cache[0].relative
    with pytest.raises(
        FoveateError,
        match=rf"^{name}: crop 'global'.* {len(cache) - 1} other images have the same problem\.$",
    ):
        intake.check_volumes(cache, {"global": large})
    with pytest.raises(FoveateError) as found:
        intake.check_volumes(cache, {"global": large}, large, stride=5)
    fitting = [min(volume.shape[axis] for volume in cache) // 5 * 5 for axis in range(3)]
    offered = str(fitting).replace(" ", "")
    assert str(found.value).endswith(f"What fits all {len(cache)} images: --grid {offered}")
    intake.check_volumes(cache, {"global": replace(large, grid=tuple(fitting))})
    with pytest.raises(FoveateError, match=r"No multiple of 150, the encoder's stride, fits all images\.$"):
        intake.check_volumes(cache, {"global": large}, large, stride=150)
    for volume in cache:
        volume.relative = ""  # as of a prepared cache
    with pytest.raises(FoveateError, match=f"^image {cache[0].entry.id} of the cache: crop 'global'"):
        intake.check_volumes(cache, {"global": large})


def test_an_image_that_comes_later_does_not_keep_a_run_from_going_on(tmp_path, capsys):
    from foveate.commands.pretrain import config as settings

    write_cohort(tmp_path / "data", 2, count=3)
    late = min((tmp_path / "data").rglob("*.png"))
    kept = late.read_bytes()
    late.write_bytes(b"")  # as unreadable as a file server makes it in a bad minute
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, tmp_path / "data", tmp_path / "run", steps=1)))
    late.write_bytes(kept)
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, tmp_path / "data", tmp_path / "run", steps=2)))
    said = capsys.readouterr().err
    assert "excluded 1 images: new or readable only since" in said
    assert said.count("data: 2 images") == 2
    assert run.pretrain(settings.SPEC.from_keys(tiny_keys(2, tmp_path / "data", tmp_path / "other", steps=1)))
    assert "data: 3 images" in capsys.readouterr().err


def test_colour_of_dicom_is_said_to_become_grey(tmp_path, capsys):
    colours = np.random.default_rng(0).integers(0, 256, (9, 8, 3)).astype(np.uint8)
    about = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    about |= {"Rows": 9, "Columns": 8}
    write(tmp_path / "a", colours, Modality="US", ImagePositionPatient=None, **about)
    records = [record for record in FolderSource().records(tmp_path) if record.role == "image"]
    intake.say_of_colour(records, PrepareConfig(colour="keep"))
    said = capsys.readouterr().err
    assert "colour in 1 of 1 DICOM pictures that were looked at: it is turned to grey; kept is" in said

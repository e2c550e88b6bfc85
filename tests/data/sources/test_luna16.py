"""World coordinates, flipped directions, subsets."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from tests.data.sources.miniatures import LUNA_COLUMNS, luna16, table

from foveate.core.types import FoveateError, LabelFacts
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cohort.labelled import from_source
from foveate.data.readers.formats import read_volume
from foveate.data.sources.luna16 import Config, _split, build
from foveate.tasks.detection import Config as Detection

TO_RAS = np.diag([-1.0, -1.0, 1.0])


def written_scan(path, direction):
    """A scan whose voxel (7, 3, 5) in file order is the only bright one, and where that is in ITK's world."""
    array = np.zeros((9, 10, 11), np.int16)  # z, y, x
    array[5, 3, 7] = 1000
    image = sitk.GetImageFromArray(array)
    image.SetSpacing((0.7, 0.7, 2.5))
    image.SetOrigin((-198.1, 33.0, -335.2))
    image.SetDirection(direction)
    path.parent.mkdir(parents=True)
    sitk.WriteImage(image, str(path))
    return image, image.TransformIndexToPhysicalPoint((7, 3, 5))


@pytest.mark.parametrize("direction", [(1, 0, 0, 0, 1, 0, 0, 0, 1), (-1, 0, 0, 0, -1, 0, 0, 0, 1)])
def test_nodules_are_where_the_voxel_is_also_with_flipped_directions(tmp_path, direction):
    image, (x, y, z) = written_scan(tmp_path / "subset0" / "1.2.3.mhd", direction)
    table(tmp_path / "annotations.csv", f"{LUNA_COLUMNS}diameter_mm", f"1.2.3,{x},{y},{z},8.25")
    (record,) = build(Config()).records(tmp_path)
    (nodule,) = record.labels["nodules"]
    affine = np.eye(4)  # of array index (x, y, z), in RAS+ millimetres, as reading has it
    affine[:3, :3] = TO_RAS @ np.array(image.GetDirection()).reshape(3, 3) @ np.diag(image.GetSpacing())
    affine[:3, 3] = TO_RAS @ np.array(image.GetOrigin())
    index = np.linalg.solve(affine, [*nodule[:3], 1.0])[:3]
    np.testing.assert_allclose(index, (7, 3, 5), atol=1e-6)
    assert nodule[3] == 8.25
    read = read_volume(record.path)  # brought to RAS+, whatever the directions were
    voxel = np.rint(np.linalg.solve(read.affine, [*nodule[:3], 1.0])[:3]).astype(int)
    assert read.array[0][tuple(voxel)] == 1000


def test_a_header_without_its_voxels_is_set_aside(tmp_path):
    luna16(tmp_path)
    (other,) = (record for record in build(Config()).records(tmp_path) if record.role == "other")
    assert other.relative == "subset0/1.3.6.4.mhd"
    assert other.evidence == "1.3.6.4.raw is missing"


def test_every_subset_has_one_use(tmp_path):
    with pytest.raises(FoveateError, match="different numbers from 0 to 9"):
        Config(val_subsets=(7,))
    with pytest.raises(FoveateError, match="different numbers from 0 to 9"):
        Config(test_subsets=(10,))


def test_a_damaged_table_names_the_line(tmp_path):
    luna16(tmp_path)
    table(tmp_path / "annotations.csv", f"{LUNA_COLUMNS}diameter_mm", "1.3.6.2,1,2,3,4", "1.3.6.2,1,x,3,4")
    with pytest.raises(FoveateError, match=r"annotations.csv, line 3"):
        list(build(Config()).records(tmp_path))


def test_lung_masks_are_maps_where_they_are_there(tmp_path):
    luna16(tmp_path)
    (tmp_path / "seg-lungs-LUNA16").mkdir()
    (tmp_path / "seg-lungs-LUNA16" / "1.3.6.2.mhd").write_bytes(b"x")
    first = next(iter(build(Config()).records(tmp_path)))
    assert first.maps == {"lungs": tmp_path / "seg-lungs-LUNA16" / "1.3.6.2.mhd"}


def test_the_ten_folds_test_every_subset_once():
    parts = {fold: [_split(subset, Config(fold=fold)) for subset in range(10)] for fold in range(10)}
    assert [each.index("test") for each in parts.values()] == list(range(10))
    assert all((each.count("test"), each.count("val")) == (1, 1) for each in parts.values())
    assert parts[9].index("val") == 0
    with pytest.raises(FoveateError, match=r"source.fold 10: accepted are numbers from 0 to 9"):
        Config(fold=10)


def test_findings_become_boxes_and_excluded_ones_are_ignored(tmp_path):
    """A miniature with flipped axes, from its tables to the boxes that are scored."""
    flipped = (-1, 0, 0, 0, -1, 0, 0, 0, 1)
    found = [written_scan(tmp_path / f"subset{i}" / f"1.2.{i}.mhd", flipped)[1] for i in range(2)]
    (x, y, z), (x2, y2, z2) = found
    table(tmp_path / "annotations.csv", f"{LUNA_COLUMNS}diameter_mm", f"1.2.0,{x},{y},{z},4.2")
    folder = tmp_path / "evaluationScript" / "annotations"
    folder.mkdir(parents=True)
    rows = (f"1.2.0,{x},{y},{z + 5},-1", f"1.2.1,{x2},{y2},{z2},-1")
    table(folder / "annotations_excluded.csv", f"{LUNA_COLUMNS}diameter_mm", *rows)
    listed = from_source(build(Config()), tmp_path, "boxes")
    assert (listed.classes, listed.ignore, listed.instances) == (("nodule=1",), (2,), 2)
    cache = prepare(listed.records, tmp_path / "cache", PrepareConfig(), lambda *_: None)
    facts = LabelFacts(
        values=cache[0].map_entry("labels").values,
        classes=listed.classes,
        ignore=listed.ignore,
        instances=listed.instances,
    )
    config = Detection.preset(3, "small", "none").settle(facts)
    first, second = (config.known(volume) for volume in cache)
    bright = np.argwhere(cache[0].read([0, 0, 0], cache[0].shape)[0] > 0.5)
    np.testing.assert_allclose(first.truth.centre, bright, atol=1e-4)
    np.testing.assert_allclose(first.truth.size, [[6, 6, 1.68]], atol=1e-4)
    np.testing.assert_allclose(first.ignored.centre, bright + np.array([0, 0, 2]), atol=1e-4)
    assert len(second.truth) == 0
    np.testing.assert_allclose(second.ignored.size * (0.7, 0.7, 2.5), [[10, 10, 10]], atol=1e-4)

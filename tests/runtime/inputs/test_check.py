"""What makes an image another than those of training: findings over facts, and the facts of real arrays."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import write_cohort

from foveate.core.types import FoveateError
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.sources.folder import FolderSource
from foveate.runtime.inputs.check import UNKNOWN, ImageFacts, TrainedFacts, compare
from foveate.runtime.inputs.facts import as_trained, card_facts, image_facts, trained_facts
from foveate.testing.cohorts import write_volume

MR = ImageFacts(
    dimension=3,
    channels=1,
    spacing_mm=(1.0, 1.0, 3.0),
    size_mm=(200.0, 200.0, 150.0),
    tilt_degrees=5.0,
    low=0.0,
    middle=200.0,
    high=1000.0,
)
CT = replace(MR, low=-1000.0, middle=-600.0, high=500.0)


def trained_on(*images, modality=UNKNOWN, **changes):
    """The facts of a card whose training images were these."""

    def ends(values):
        return min(values), max(values)

    facts = TrainedFacts(
        dimension=3,
        by_voxel=True,
        channels=images[0].channels,
        modalities={modality: 1.0},
        spacing_mm=tuple(ends([i.spacing_mm[k] for i in images]) for k in range(3)),
        size_mm=tuple(ends([i.size_mm[k] for i in images]) for k in range(3)),
        tilt_degrees=ends([i.tilt_degrees for i in images]),
        low=ends([i.low for i in images]),
        width=ends([i.width for i in images]),
        below_zero=ends([i.below_zero for i in images]),
        middle_place=ends([i.middle_place for i in images]),
    )
    return replace(facts, **changes)


def found(trained, image):
    return [(each.severity, each.field) for each in compare(trained, image)]


@pytest.mark.parametrize(
    ("trained", "image", "expected"),
    [
        (trained_on(MR), CT, [("error", "intensity")]),
        (trained_on(CT), MR, [("error", "intensity")]),
        (trained_on(CT, MR), CT, []),
        (trained_on(CT, MR), MR, []),
        (trained_on(CT), replace(CT, low=-90.0, middle=60.0, high=260.0), []),  # a crop inside the body
        (trained_on(MR), replace(MR, low=-4.0), []),  # resampling overshoots
        (trained_on(MR), replace(MR, low=-1.5, middle=0.0, high=6.0), [("warning", "intensity")]),  # z-scores
        (trained_on(MR, modality="mr"), replace(MR, modality="pet", stated=True), [("error", "modality")]),
        (trained_on(MR, modality="mr"), replace(MR, modality="pet"), [("warning", "modality")]),
        (trained_on(MR, modality="mr"), MR, []),
        (trained_on(MR), replace(MR, modality="mr", stated=True), []),
        (trained_on(MR), replace(MR, channels=3), [("error", "number of channels")]),
        (trained_on(replace(MR, channels=3)), MR, [("warning", "number of channels")]),
        (trained_on(MR), replace(MR, dimension=2), [("error", "dimension")]),
        (trained_on(MR), replace(MR, spacing_mm=(1.2, 1.2, 3.5)), []),
        (trained_on(MR), replace(MR, spacing_mm=(3.0, 1.0, 3.0)), [("warning", "spacing")]),
        (trained_on(MR), replace(MR, spacing_mm=(1.0, 1.0, 30.0)), [("error", "spacing")]),
        (trained_on(MR), replace(MR, spacing_mm=(0.1, 0.1, 3.0)), [("error", "spacing")]),
        (trained_on(MR), replace(MR, spacing_mm=(1.5, 1.0, 3.0)), [("warning", "spacing")]),
        (
            trained_on(MR),
            replace(MR, spacing_mm=(3.0, 1.0, 1.0)),
            [("warning", "spacing"), ("warning", "orientation")],
        ),
        (trained_on(MR), replace(MR, tilt_degrees=45.0), [("warning", "orientation")]),
        (trained_on(MR), replace(MR, size_mm=(200.0, 200.0, 1500.0)), [("warning", "size")]),
        (trained_on(MR), replace(MR, middle=700.0), [("warning", "median intensity")]),
        (trained_on(MR, by_voxel=False), replace(MR, spacing_mm=(0.1, 0.1, 3.0)), []),
    ],
)
def test_contract_a_difference_is_an_error_a_warning_or_nothing(trained, image, expected):
    assert found(trained, image) == expected


@pytest.mark.parametrize("factor", [1e-3, 0.1, 10.0, 1e4])
def test_contract_units_do_not_count_where_the_window_follows_the_image(factor):
    image = replace(MR, low=factor * MR.low, middle=factor * MR.middle, high=factor * MR.high)
    assert found(trained_on(MR), image) == []


@pytest.mark.parametrize(
    ("factor", "expected"), [(2, []), (8, ["warning"]), (0.02, ["error"]), (50, ["error"])]
)
def test_contract_units_count_where_the_window_is_fixed(factor, expected):
    image = replace(CT, low=factor * CT.low, middle=factor * CT.middle, high=factor * CT.high)
    severities = [
        s for s, field in found(trained_on(CT, fixed_window=True), image) if field == "intensity range"
    ]
    assert severities == expected


def test_contract_pictures_have_no_pixel_size_to_compare():
    flat = replace(MR, dimension=2, spacing_mm=(1.0, 1.0), size_mm=(500.0, 500.0))
    trained = trained_on(MR, dimension=2, spacing_mm=((0.1, 0.2),) * 2, size_mm=((50.0, 60.0),) * 2)
    assert found(trained, flat) == []
    assert found(trained, replace(flat, spacing_mm=(1.1, 1.1))) == [("error", "spacing"), ("warning", "size")]


@pytest.mark.parametrize("kind", ["npy", "blosc2"])
def test_contract_percentiles_are_those_of_all_voxels_however_they_are_stored(tmp_path, kind):
    if kind == "blosc2":
        pytest.importorskip("blosc2")
    image = np.random.default_rng(0).integers(-500, 3000, (70, 9, 11))
    (tmp_path / "in").mkdir()
    write_volume(tmp_path / "in/a.nii.gz", image)
    _, (facts,) = cached(tmp_path / "in", PrepareConfig(format=kind))
    expected = np.percentile(image, [0.5, 50, 99.5], method="lower")
    assert [facts.low, facts.middle, facts.high] == expected.tolist()


def test_contract_a_card_without_facts_compares_the_dimension_alone():
    assert found(trained_facts({"dimension": 3}, by_voxel=True), CT) == []


def cached(folder, config=None):
    records = [record for record in FolderSource().records(folder) if record.role == "image"]
    cache = prepare(records, folder.parent / "cache", config or PrepareConfig(), lambda _done, _total: None)
    by_name = {record.relative: record for record in records}
    return cache, [image_facts(volume, by_name[volume.relative]) for volume in cache]


@pytest.mark.parametrize("dimension", [2, 3])
def test_contract_facts_survive_the_card_and_training_images_are_like_themselves(tmp_path, dimension):
    cache, facts = cached(write_cohort(tmp_path / "in", dimension))
    written = json.loads(json.dumps(card_facts(cache, PrepareConfig())))
    trained = trained_facts({"dimension": dimension, "input": written}, by_voxel=True)
    assert [compare(trained, each) for each in facts] == [[]] * len(cache)
    assert trained.modalities == {UNKNOWN: 1.0}
    assert trained.width[1] == pytest.approx(max(each.width for each in facts), rel=1e-3)
    if dimension == 3:
        assert facts[0].spacing_mm == (1.0, 1.0, 1.5)
        assert trained.size_mm == ((24.0, 24.0), (26.0, 26.0), (30.0, 30.0))
        assert compare(trained, replace(facts[0], low=-900.0))[0].severity == "error"


@pytest.mark.parametrize(
    "damage",
    [
        {"low": None},
        {"size_mm": [[1, 2, 3, 4, 5]]},
        {"width": [1, 2]},
        {"modalities": 3},
        {"width": [5, 4, 3, 2, 1]},
    ],
)
def test_contract_a_damaged_card_is_an_error_not_a_pass(tmp_path, damage):
    cache, _ = cached(write_cohort(tmp_path / "in", 3, count=2))
    written = card_facts(cache, PrepareConfig()) | damage
    with pytest.raises(FoveateError, match="its `input` is not what fine-tuning writes"):
        trained_facts({"dimension": 3, "input": written}, by_voxel=True)


@pytest.mark.parametrize(
    ("modalities", "profile"),
    [
        ({"ct": 1.0}, "ct"),
        ({UNKNOWN: 1.0}, "generic"),
        ({"ct": 0.5, "mr": 0.5}, "by_modality"),
        (None, "by_modality"),
    ],
)
def test_contract_new_images_are_scaled_as_all_images_of_training_were(modalities, profile):
    trained = trained_on(MR, modalities=modalities)
    assert as_trained(PrepareConfig(), trained).profile == profile
    assert as_trained(PrepareConfig(profile="mr"), trained).profile == "mr"


DATA = os.environ.get("FOVEATE_DATA")
VOLUMES = {
    "ct": ["totalseg_example_ct/example_ct.nii.gz", "lung1_001_ct_organs/ct.nii.gz", "dicom_sts001/CT"],
    "mr": ["totalseg_example_ct/example_mr_sm.nii.gz", "dicom_sts001/MR_T1"],
}


def real(place, folder, *, count=0):
    """Facts of real images whose names do not say their modality, and their cache."""
    records = [record for record in FolderSource().records(Path(DATA) / place) if record.role == "image"]
    records = [replace(record, modality="", evidence="") for record in records][: count or None]
    cache = prepare(records, folder, PrepareConfig(), lambda _done, _total: None)
    return cache, [image_facts(volume) for volume in cache]


@pytest.mark.skipif(not DATA, reason="FOVEATE_DATA names no folder of real images")
def test_real_ct_and_mr_are_told_apart_without_a_header(tmp_path):
    volumes = {
        kind: [real(place, tmp_path / f"{kind}{i}") for i, place in enumerate(places)]
        for kind, places in VOLUMES.items()
    }
    caches = {kind: [cache for cache, _ in found] for kind, found in volumes.items()}
    caches["mr"].append(real("msd_hippocampus/images", tmp_path / "many", count=8)[0])
    for kind, each in caches.items():
        for cache in each:
            card = {"dimension": 3, "input": card_facts(cache, PrepareConfig())}
            for other, found in volumes.items():
                for facts in (one for _, many in found for one in many):
                    findings = compare(trained_facts(card, by_voxel=True), facts)
                    refused = "intensity" in {f.field for f in findings if f.severity == "error"}
                    assert refused == (other != kind), (kind, other, findings)


@pytest.mark.skipif(not DATA, reason="FOVEATE_DATA names no folder of real images")
def test_real_images_of_the_same_data_set_pass(tmp_path):
    cache, facts = real("msd_hippocampus/images", tmp_path / "cache", count=24)
    some = type(cache)(cache.volumes[::4])
    trained = trained_facts({"dimension": 3, "input": card_facts(some, PrepareConfig())}, by_voxel=True)
    assert [compare(trained, each) for each in facts] == [[]] * len(facts)

"""What every discovered source keeps to, on a miniature in its exact layout; no image is opened."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.data.sources.miniatures import MINIATURES

from foveate.core.types import FoveateError
from foveate.data.catalogue import SOURCES, build_source, recognised
from foveate.data.cohort.labelled import from_source
from foveate.data.layouts import Layout

NAMES = SOURCES.names()
LAID_OUT = [name for name in NAMES if name != "folder"]


@pytest.fixture(params=NAMES)
def miniature(request, tmp_path):
    """(root, what is expected, the source) for every source; one without a miniature fails here."""
    root = tmp_path / "data"
    root.mkdir()
    expected = MINIATURES[request.param](root)
    return root, expected, build_source(SOURCES[request.param].Config(**expected.keys))


def images_of(root, source):
    return [record for record in source.records(root) if record.role == "image"]


def test_images_come_in_an_order_of_their_names_alone(miniature, monkeypatch):
    root, expected, source = miniature
    first = list(source.records(root))
    assert [record.relative for record in images_of(root, source)] == list(expected.images)
    listing, scanning = Path.iterdir, os.scandir
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(listing(path), reverse=True)))

    @contextmanager
    def backwards(path):
        with scanning(path) as entries:
            yield sorted(entries, key=lambda entry: entry.name, reverse=True)

    monkeypatch.setattr(os, "scandir", backwards)
    assert list(source.records(root)) == first


def test_dimension_is_known_without_a_pixel(miniature):
    root, expected, source = miniature
    assert source.dimension(root) == expected.dimension


def test_every_record_says_why_it_has_its_role(miniature):
    root, _, source = miniature
    for record in source.records(root):
        assert record.evidence
        assert not any(part.startswith(".") for part in Path(record.relative).parts)


def test_patients_and_splits_are_as_the_layout_says(miniature):
    root, expected, source = miniature
    images = images_of(root, source)
    assert [record.patient for record in images] == list(expected.patients)
    assert [record.split for record in images] == list(expected.splits or [""] * len(images))


def test_maps_are_paired_and_never_images(miniature):
    root, expected, source = miniature
    found = {
        record.relative: path.relative_to(root).as_posix()
        for record in images_of(root, source)
        for path in record.maps.values()
    }
    assert found == expected.maps
    listed = {record.relative for record in source.records(root) if record.role == "label"}
    assert set(expected.maps.values()) <= listed
    assert not listed & set(expected.images)


def test_every_image_has_all_values_and_channels(miniature):
    root, expected, source = miniature
    for record in images_of(root, source):
        assert set(expected.labels) <= set(record.labels)
        assert set(record.labels) == set(images_of(root, source)[0].labels)
        assert len(record.channels) == expected.channels
        assert not record.channels or record.channels[0] == record.path
        assert all(path.is_file() for path in (record.path, *record.channels))


def test_classes_are_named_without_background_and_what_nobody_labelled(miniature):
    root, expected, source = miniature
    if not isinstance(source, Layout):  # any folder of images: nothing is named
        return
    assert expected.classes.items() <= source.classes(root).items()
    assert not {"background", "ignore"} & set(source.classes(root))
    assert source.ignored(root) == expected.ignored
    if any("labels" in record.maps for record in images_of(root, source)):
        assert from_source(source, root, "maps").ignore == expected.ignored


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_wrong_layout_is_refused_with_the_tree(name, tmp_path):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "a.nii.gz").write_bytes(b"x")
    source = build_source(SOURCES[name].Config())
    for root in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(FoveateError) as caught:
            list(source.records(root))
        assert SOURCES[name].TREE.strip() in str(caught.value)
        assert str(root) in str(caught.value)
        assert f"--source {name}" in str(caught.value)


@pytest.mark.parametrize("name", LAID_OUT)
def test_a_tree_is_recognised_as_what_it_is(name, tmp_path):
    MINIATURES[name](tmp_path)
    assert recognised(tmp_path) == [name]


def test_an_ordinary_folder_is_not_taken_for_a_layout(tmp_path):
    MINIATURES["folder"](tmp_path)
    assert recognised(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_page_shows_the_layout(name):
    page = (Path(__file__).parents[2] / "docs" / "sources.md").read_text(encoding="utf-8")
    module = SOURCES[name]
    assert f"| `{name}` |" in page
    assert module.TREE.strip() in page
    assert name == "folder" or module.__doc__.strip() in page
    assert module.Config().name == name

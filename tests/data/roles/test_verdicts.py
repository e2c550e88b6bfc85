"""Files of a family have one role, in a cache, in a scan and in a split, and after a stop as well."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest
from tests.data.conftest import prepared
from tests.data.drawn import SHAPE, image, label_map, names, save, scattered

from foveate.cli import main
from foveate.data.cache import settled
from foveate.data.roles.verdicts import verdicts

__all__ = ["names"]
COUNT = 7


def flat_picture(path):
    """An image with saturated regions, which looks like a label map by itself."""
    array = np.zeros(SHAPE, np.uint8)
    array[2:8, 2:9, 2:9] = 255
    return save(path, array)


@pytest.fixture
def maps_among_images(tmp_path, names):
    """Images and as many label maps, one of which passes for an image by its values."""
    root = tmp_path / "data"
    one, other = names.words(2)
    cases = names.cases(COUNT)
    odd = names.random.randrange(COUNT)
    for number, case in enumerate(cases):
        image(root / f"{case}_{one}.nii.gz", number)
        (scattered if number == odd else label_map)(root / f"{case}_{other}.nii.gz", number)
    return root, one, other


def test_the_one_label_map_that_passes_is_excluded_with_its_family(maps_among_images, tmp_path):
    root, one, other = maps_among_images
    cache = prepared(root, tmp_path / "cache")
    assert sorted(v.relative.rpartition("_")[2] for v in cache) == [f"{one}.nii.gz"] * COUNT
    assert len(cache.rejects) == COUNT
    most = f"{COUNT - 1} of {COUNT}"
    assert cache.notes == (f"{COUNT} files named *_{other} count as label maps: {most} hold labels",)
    stored = (tmp_path / "cache" / "rejects.jsonl").read_text()
    assert "it counts as a label map" in stored
    assert other not in stored


def test_again_or_after_a_stop_the_outcome_is_the_same(maps_among_images, tmp_path):
    root, _, _ = maps_among_images
    first = prepared(root, tmp_path / "cache")
    again = prepared(root, tmp_path / "cache")
    assert [v.relative for v in again] == [v.relative for v in first]
    assert again.rejects == first.rejects
    assert again.notes == first.notes


@pytest.fixture
def images_with_flat_ones(tmp_path, names):
    """Images of which two look like label maps."""
    root = tmp_path / "data"
    end = names.word()
    for number, case in enumerate(names.cases(COUNT)):
        path = root / f"{case}_{end}.nii.gz"
        flat_picture(path) if number < 2 else image(path, number)
    return root, end


def test_a_few_flat_images_stay_with_their_family(images_with_flat_ones, tmp_path):
    root, end = images_with_flat_ones
    cache = prepared(root, tmp_path / "cache")
    assert (len(cache), cache.rejects) == (COUNT, ())
    assert cache.notes == (
        f"{COUNT} files named *_{end} count as images: {COUNT - 2} of {COUNT} hold images",
    )
    assert len(prepared(root, tmp_path / "cache")) == COUNT
    assert end not in (tmp_path / "cache" / settled.FLAT).read_text()


def test_what_was_taken_as_an_image_once_is_known_later(images_with_flat_ones, tmp_path):
    root, _ = images_with_flat_ones
    prepared(root, tmp_path / "cache")
    flat = [p for p in sorted(root.iterdir()) if label_like(p)]
    others = [p for p in sorted(root.iterdir()) if p not in flat]
    for path in others[1:]:  # now most of the family look like label maps, as they always did
        path.unlink()
    assert outcome(root, tmp_path / "cache") == outcome(root, tmp_path / "fresh")
    assert outcome(root, tmp_path / "fresh") is None


def label_like(path):
    import nibabel as nib

    return len(np.unique(np.asanyarray(nib.load(path).dataobj))) < 3


def outcome(root, cache):
    """The names that are left, None where none is."""
    from foveate.core.types import FoveateError

    try:
        return [v.relative for v in prepared(root, cache)]
    except FoveateError:
        return None


def test_a_stop_before_the_decision_changes_nothing(images_with_flat_ones, tmp_path, monkeypatch):
    root, _ = images_with_flat_ones
    calls = []

    def killed(*_args, **_keys):
        calls.append(1)
        raise KeyboardInterrupt

    monkeypatch.setattr(settled, "append_entry", killed)
    with pytest.raises(KeyboardInterrupt):
        prepared(root, tmp_path / "cache")
    monkeypatch.undo()
    assert calls
    after, fresh = prepared(root, tmp_path / "cache"), prepared(root, tmp_path / "fresh")
    assert [v.relative for v in after] == [v.relative for v in fresh]
    assert after.notes == fresh.notes


def rows(out):
    with (out / "inventory.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_scan_says_the_same_and_again_the_same(maps_among_images, tmp_path, capsys):
    root, _, other = maps_among_images
    for _ in range(2):
        assert main(["scan", str(root), "--out", str(tmp_path / "inv"), "--num_workers", "0"]) == 0
        assert f"{COUNT} files named *_{other} count as label maps" in capsys.readouterr().out
        assert sorted(row["role"] for row in rows(tmp_path / "inv")) == ["image"] * COUNT + ["label"] * COUNT
    assert other not in (tmp_path / "inv" / "inventory.csv").read_text()
    label_file = next(p for p in root.iterdir() if p.name.endswith(f"_{other}.nii.gz"))
    label_file.unlink()
    assert main(["scan", str(root), "--out", str(tmp_path / "inv"), "--num_workers", "0"]) == 0
    assert sum(row["role"] == "label" for row in rows(tmp_path / "inv")) == COUNT - 1


def test_a_scan_keeps_a_few_flat_images(images_with_flat_ones, tmp_path):
    root, _ = images_with_flat_ones
    assert main(["scan", str(root), "--out", str(tmp_path / "inv"), "--num_workers", "0"]) == 0
    assert [row["role"] for row in rows(tmp_path / "inv")] == ["image"] * COUNT


def looks(names, end, holding, others, plain=False):
    cases = names.words(holding + others)
    ends = "" if plain else f"_{end}"
    return {f"{case}{ends}.nii.gz": n < holding for n, case in enumerate(cases)}


def test_small_and_even_families_and_mixed_plain_names_decide_for_themselves(names):
    end = names.word()
    assert not verdicts(looks(names, end, 1, 1))
    assert not verdicts(looks(names, end, 3, 3))
    assert not verdicts(looks(names, end, 4, 12, plain=True))
    assert not verdicts(looks(names, end, 12, 4, plain=True))
    (plain,) = verdicts(looks(names, end, 34, 1, plain=True))
    assert (plain.labels, len(plain.overruled), plain.shown) == (True, 1, "*.nii.gz")
    (few,) = verdicts(looks(names, end, 2, 1))
    assert few.labels


def test_families_of_two_folders_are_two(names):
    end = names.word()
    one = {f"a/{name}": hold for name, hold in looks(names, end, 5, 1).items()}
    other = {f"b/{name}": hold for name, hold in looks(names, end, 1, 5).items()}
    found = {verdict.labels: verdict for verdict in verdicts(one | other)}
    assert [name[0] for name in (*found[True].overruled, *found[False].overruled)] == ["a", "b"]
    assert replace(found[True], shown="").reason == "5 of the 6 files that are named alike hold labels"

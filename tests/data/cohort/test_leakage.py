"""Equal voxels under other names, formats and headers; what a run has seen."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
from PIL import Image
from tests.data.drawn import image, label_map, scattered

from foveate.core.types import FoveateError, Record
from foveate.data.cache.prepare import prepare
from foveate.data.cache.profiles import PrepareConfig
from foveate.data.cohort import leakage

VALUES = np.random.default_rng(0).integers(0, 200, (6, 7, 8))


def volume(path, values=VALUES, dtype=np.int16, affine=None):
    nib.save(nib.Nifti1Image(values.astype(dtype), np.eye(4) if affine is None else affine), path)
    return Record(path=path, relative=path.name)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64])
def test_the_type_of_the_voxels_hides_nothing(tmp_path, dtype):
    assert leakage.hash_of(volume(tmp_path / "a.nii.gz")) == leakage.hash_of(
        volume(tmp_path / "b.nii", dtype=dtype)
    )


def test_the_order_of_the_axes_hides_nothing(tmp_path):
    turned = np.ascontiguousarray(VALUES.transpose(2, 0, 1)[:, ::-1])
    affine = np.array([[0, -1, 0, 5], [0, 0, 1, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
    first, second = volume(tmp_path / "a.nii"), volume(tmp_path / "b.nii", turned, affine=affine)
    assert leakage.hash_of(first) == leakage.hash_of(second)


def test_one_voxel_is_a_difference_and_so_is_the_shape(tmp_path):
    other = VALUES.copy()
    other[3, 3, 3] += 1
    hashes = [
        leakage.hash_of(volume(tmp_path / f"{i}.nii", values))
        for i, values in enumerate((VALUES, other, VALUES.reshape(7, 6, 8)))
    ]
    assert len(set(hashes)) == 3


def test_a_picture_in_another_format_is_the_same(tmp_path):
    pixels = VALUES[0].astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    Image.fromarray(np.stack([pixels] * 3, -1)).save(tmp_path / "b.png")
    a, b = (leakage.hash_of(Record(path=tmp_path / f"{n}.png", relative="")) for n in "ab")
    assert a == b


def test_channels_are_hashed_together(tmp_path):
    volume(tmp_path / "a.nii")
    volume(tmp_path / "b.nii", VALUES + 1)
    paths = (tmp_path / "a.nii", tmp_path / "b.nii")
    both = Record(path=paths[0], relative="a.nii", channels=paths)
    swapped = Record(path=paths[1], relative="b.nii", channels=paths[::-1])
    one = Record(path=paths[0], relative="a.nii")
    assert len({leakage.hash_of(record) for record in (both, swapped, one)}) == 3


def test_what_cannot_be_read_has_no_hash(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"no image")
    found = list(leakage.hashes_of([Record(path=tmp_path / "a.nii.gz", relative="a.nii.gz")]))
    assert found == [None]
    assert leakage.twins({"a": None, "b": None, "c": "1", "d": "1"}) == [["c", "d"]]


@pytest.mark.parametrize(("rule", "odd"), [(image, label_map), (label_map, scattered)])
def test_one_file_is_compared_as_what_most_of_its_family_are(tmp_path, rule, odd):
    """A picture that looks like labels, and a label map that passes for an image."""
    paths = [tmp_path / f"c{i}_x.nii.gz" for i in range(5)]
    for number, path in enumerate(paths):
        (odd if number == 2 else rule)(path, number)
    image(tmp_path / "other.nii.gz", 9)
    records = [Record(path=path, relative=path.name) for path in (*paths, tmp_path / "other.nii.gz")]
    hashes = dict(zip((r.relative for r in records), leakage.hashes_of(records), strict=True))
    assert (hashes["c2_x.nii.gz"] is None) == (rule is image)
    kind = "images" if rule is image else "label maps"
    (note,) = leakage.by_role(records, hashes)
    assert f"5 files named *_x count as {kind}: 4 of 5" in note
    assert [hashes[path.name] is not None for path in paths] == [rule is image] * 5
    assert hashes["other.nii.gz"]


def test_workers_change_nothing(tmp_path):
    records = [volume(tmp_path / f"{i}.nii", VALUES + i % 2) for i in range(4)]
    alone = list(leakage.hashes_of(records))
    assert list(leakage.hashes_of(records, 2)) == alone
    assert leakage.twins(dict(zip("abcd", alone, strict=True))) == [["a", "c"], ["b", "d"]]


def test_equal_voxels_in_two_parts_are_refused_with_both_names():
    hashes = {"a": "1", "b": "1", "c": "2", "d": None, "e": None}
    leakage.refuse_shared_voxels({"train": ["a", "b", "d"], "test": ["c", "e"]}, hashes)
    with pytest.raises(FoveateError, match=r"a \(train\) and b \(test\) have equal voxels"):
        leakage.refuse_shared_voxels({"train": ["a", "c"], "test": ["b"]}, hashes)


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    leakage.write_seen(folder, ["Jane^Doe", "", "John"], ["aa", "bb"])
    return folder


def test_images_and_patients_that_a_run_has_seen_are_found_and_refused(run, tmp_path):
    records = [
        Record(path=tmp_path / "1", relative="1", patient="New"),
        Record(path=tmp_path / "2", relative="2", patient="John"),
        Record(path=tmp_path / "3", relative="3"),
        Record(path=tmp_path / "4", relative="4"),
    ]
    found = leakage.seen_before(run, records, ["cc", "dd", "bb", None])
    assert found == {"2": "its patient was pre-trained on", "3": "its voxels were pre-trained on"}
    with pytest.raises(FoveateError, match=r"2 test images .*run: 2: its patient .*--on_seen mark"):
        leakage.refuse_seen(run, found, "refuse")
    leakage.refuse_seen(run, found, "mark")
    leakage.refuse_seen(run, {}, "refuse")


def test_what_a_run_has_seen_is_named_where_it_was_cut(run):
    text = (run / leakage.SEEN).read_text()
    for cut in (text[:-3], "{}"):
        (run / leakage.SEEN).write_text(cut)
        with pytest.raises(FoveateError, match=r"seen\.json is damaged .*backup"):
            leakage.read_seen(run)


def test_a_run_holds_no_name_and_no_plain_hash(run):
    content = b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    for known in (b"Jane", b"Doe", b"John", b'aa"', b"salt"):
        assert known not in content
    assert len(leakage.read_seen(run).patients) == 2


def test_hashes_of_two_projects_have_nothing_in_common(run, tmp_path):
    other = tmp_path / "elsewhere" / "run"
    other.mkdir(parents=True)
    leakage.write_seen(other, ["John"], ["aa"])
    assert not leakage.read_seen(other).images & leakage.read_seen(run).images
    second = run.parent / "second"
    second.mkdir()
    leakage.write_seen(second, ["John"], ["aa"])
    assert leakage.read_seen(second).images <= leakage.read_seen(run).images


@pytest.mark.parametrize("absent", ["run/seen.json", "foveate-project/salt"])
def test_a_run_that_cannot_say_is_an_error(run, absent):
    (run.parent / absent).unlink()
    with pytest.raises(FoveateError, match=r"cannot say which images"):
        leakage.seen_before(run, [], [])


def test_the_cache_holds_the_hash_of_what_was_read(tmp_path):
    record = volume(tmp_path / "a.nii.gz")
    cached = prepare([record], tmp_path / "cache", PrepareConfig(), lambda *_: None)[0]
    assert cached.entry.voxel_hash == leakage.hash_of(record)

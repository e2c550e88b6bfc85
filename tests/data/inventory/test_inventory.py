"""The passes of a scan: what is found, what is kept, what is said of every file."""

import csv
import os
import shutil

import numpy as np
import pytest
from PIL import Image
from tests.data.conftest import write_volume
from tests.data.readers.dicom import miniatures as dicoms

from foveate.core.types import FoveateError
from foveate.data.decoding.decoder import Decoder, FaultyReaderError
from foveate.data.inventory import passes as inventory, state
from foveate.data.inventory.walk import NOT_A_FILE, NOT_LISTED, NOT_REACHED, Walk
from foveate.data.readers.unreadable import UnreadableImageError

SALT = b"s" * 32


def run(root, out, until="full", workers=0):
    """How much each pass did, and the table."""
    out.mkdir(exist_ok=True)
    db = state.open_state(out, str(root))
    scan = inventory.Scan(db=db, root=root, salt=SALT, num_workers=workers, on_progress=lambda *_: None)
    done = [inventory.list_files(scan, out)]
    if until != "stat":
        done.append(inventory.read_headers(scan))
    if until == "full":
        done.append(inventory.read_pixels(scan, thumbnails=True))
    inventory.export(scan, out)
    db.close()
    return done, rows(out / inventory.TABLE)


def rows(path):
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as stream:
        return list(csv.DictReader(stream))


def names(out):
    """File name -> why it was excluded."""
    return {row["file"]: row["reason"] for row in rows(out / "private" / inventory.REJECTED_NAMES)}


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (9, 7), np.uint8)).save(path)
    return path


@pytest.fixture
def tree(tmp_path):
    """A volume, its copy under another format's name, a label, a series with a gap, and what is no image."""
    root = tmp_path / "data"
    write_volume(root / "a.nii.gz", 1)
    shutil.copy(root / "a.nii.gz", root / "again.nii.gz")
    write_volume(root / "b.nii", 2)
    labels = np.kron(np.arange(8).reshape(2, 2, 2), np.ones((5, 5, 5))).astype(np.uint8)
    np.savez(root / "c.npz", image=labels)
    write_volume(root / "labels" / "a.nii.gz", 3, np.uint8)
    picture(root / "p.png")
    stored = dicoms.noise(10)
    dicoms.write_series(root / "series", stored[:5])
    for k in (7, 8, 9):
        tags = {"ImagePositionPatient": dicoms.place(k), "InstanceNumber": k}
        dicoms.write(root / "series" / f"late{k}", stored[k], **tags)
    dicoms.write(root / "series" / "report", None, Modality="SR")  # of the same series
    (root / "notes.txt").write_text("of a patient")
    (root / "broken.png").write_bytes(b"\x89PNG")
    (root / ".DS_Store").write_text("hidden")
    (root / "._p.png").write_text("hidden")
    return root


def test_every_file_is_in_an_image_or_has_a_reason(tree, tmp_path):
    _, table = run(tree, tmp_path / "inv")
    assert sum(int(row["files"]) for row in table) == sum(1 for p in tree.rglob("[!.]*") if p.is_file())
    assert all(row["reason"] for row in table if row["role"] == "other")
    found = {(row["role"], row["format"], row["files"]): row for row in table}
    assert found["image", "DICOM", "5"]["shape"] == "5x6x5"
    assert "gaps" in found["image", "DICOM", "5"]["evidence"]
    assert "labels" in found["label", "npz", "1"]["evidence"]
    left = names(tmp_path / "inv")
    assert "fragment" in left["series/late7"]
    assert "damaged" in left["broken.png"]
    late = {f"series/late{k}" for k in (7, 8, 9)}
    assert set(left) == {*late, "series/report", "broken.png", "notes.txt"}


def test_equal_voxels_are_found_and_ranges_are_the_arrays_own(tree, tmp_path):
    import nibabel as nib

    _, table = run(tree, tmp_path / "inv")
    volumes = [row for row in table if row["format"].startswith("nii") and row["role"] == "image"]
    assert len({row["voxels"] for row in volumes}) == 2
    values = nib.load(tree / "b.nii").get_fdata()
    (row,) = [row for row in volumes if row["format"] == "nii"]
    assert (float(row["minimum"]), float(row["maximum"])) == (values.min(), values.max())
    assert (row["bits"], row["spacing_mm"], row["shape"]) == ("16", "1x1x2.5", "9x10x11")


def test_headers_alone_know_shapes_and_roles(tree, tmp_path, monkeypatch):
    monkeypatch.setattr(inventory, "looks_of", None)
    _, table = run(tree, tmp_path / "inv", "headers")
    known = {row["format"]: row for row in table if row["role"] == "image" and not row["reason"]}
    assert known["nii"]["shape"] == "9x10x11"
    assert known["png"]["shape"] == "7x9"
    assert known["DICOM"]["shape"] == "5x6x5"
    assert known["DICOM"]["spacing_mm"] == "0.75x0.5x2.5"


def test_a_second_scan_opens_nothing(tree, tmp_path, monkeypatch):
    first = run(tree, tmp_path / "inv")

    def opened(*_, **__):
        raise AssertionError

    monkeypatch.setattr(inventory, "facts_of", opened)
    monkeypatch.setattr(inventory, "looks_of", opened)
    done, table = run(tree, tmp_path / "inv")
    assert done == [0, 0, 0]
    assert table == first[1]


def test_what_changed_is_read_again_and_what_is_gone_is_forgotten(tree, tmp_path):
    run(tree, tmp_path / "inv")
    write_volume(tree / "b.nii", 9)
    os.utime(tree / "b.nii", (1, 1))
    (tree / "p.png").unlink()
    dicoms.write(tree / "series" / "late5", dicoms.noise(10)[5], ImagePositionPatient=dicoms.place(5))
    dicoms.write(tree / "series" / "late6", dicoms.noise(10)[6], ImagePositionPatient=dicoms.place(6))
    done, table = run(tree, tmp_path / "inv")
    assert done[2] == 2  # b.nii and the series, whose gap is closed
    assert table == run(tree, tmp_path / "fresh")[1]
    dicom = {row["role"]: row["files"] for row in table if row["format"] == "DICOM"}
    assert dicom == {"image": "10", "other": "1"}


def test_workers_do_not_change_the_table(tree, tmp_path):
    assert run(tree, tmp_path / "one", workers=2)[1] == run(tree, tmp_path / "two")[1]


def test_files_that_are_none_and_loops_end_with_a_word(tmp_path, monkeypatch):
    root = tmp_path / "data"
    picture(root / "in" / "p.png")
    (root / "in" / "loop").symlink_to(root)
    (root / "nowhere").symlink_to(root / "gone")
    os.mkfifo(root / "pipe")
    (root / "shut").mkdir()
    scanning = os.scandir

    def guarded(path):
        if os.fsencode(path).endswith(b"shut"):
            raise PermissionError(13, "Permission denied")
        return scanning(path)

    monkeypatch.setattr(os, "scandir", guarded)
    _, table = run(root, tmp_path / "inv")
    assert len(table) == 4
    left = names(tmp_path / "inv")
    assert left["nowhere"] == NOT_REACHED
    assert left["pipe"] == NOT_A_FILE
    assert left["shut"].startswith(NOT_LISTED)


def test_any_name_is_survived(tmp_path):
    root = tmp_path / "data"
    hostile = ["<script>alert(1)</script>.png", "a\nb.png", "\x1b[31mred.png", "'; DROP TABLE images; --.png"]
    for i, name in enumerate(hostile):
        picture(root / name.replace("/", "_"), i)
    shutil.copy(root / "a\nb.png", os.fsencode(root) + b"/\xff\xfe.png")
    _, table = run(root, tmp_path / "inv")
    assert [row["role"] for row in table] == ["image"] * 5
    assert len({row["voxels"] for row in table}) == 4


def test_the_inventory_itself_is_not_scanned(tmp_path):
    picture(tmp_path / "p.png")
    assert len(run(tmp_path, tmp_path / "inv")[1]) == 1
    assert run(tmp_path, tmp_path / "inv")[0] == [0, 0, 0]


def test_hidden_files_are_counted(tree):
    walk = Walk(tree)
    assert len(list(walk.files())) == 17
    assert walk.hidden == 2


def test_another_folder_and_a_second_scan_at_once_are_refused(tmp_path):
    (tmp_path / "inv").mkdir()
    db = state.open_state(tmp_path / "inv", "one")
    with pytest.raises(FoveateError, match="another scan"):
        state.open_state(tmp_path / "inv", "one")
    db.close()
    with pytest.raises(FoveateError, match="inventory of another folder"):
        state.open_state(tmp_path / "inv", "two")


def test_a_long_extension_of_a_header_is_not_read(tmp_path):
    """A header may promise extensions of gigabytes, which deflate to nothing on the disk."""
    import gzip

    from foveate.data.inventory.headers import _nifti

    write_volume(tmp_path / "a.nii", 1)
    head = (tmp_path / "a.nii").read_bytes()[:348]
    with gzip.open(tmp_path / "a.nii.gz", "wb") as stream:
        stream.write(head + b"\x01\0\0\0" + (1 << 30).to_bytes(4, "little") + b"\x04\0\0\0")
    assert _nifti(tmp_path / "a.nii.gz")["shape"] == "9x10x11"


@pytest.mark.parametrize("place", ["inventory.pixels.thumbnail", "inventory.headers.records_of"])
def test_a_file_on_which_a_reader_fails_is_left_out_with_a_reason(tmp_path, monkeypatch, place):
    root = tmp_path / "data"
    picture(root / "p.png")
    dicoms.write(root / "x", dicoms.noise(1)[0], Modality="DX", ImagePositionPatient=None)

    def failing(*_):
        raise ZeroDivisionError("Jane Doe")

    monkeypatch.setattr(f"foveate.data.{place}", failing)
    _, table = run(root, tmp_path / "inv")
    failed = [row for row in table if "a reader failed on it" in row["reason"]]
    assert failed
    assert {row["role"] for row in failed} == {"other"}
    assert all("(ZeroDivisionError)" in row["reason"] and "Jane" not in row["reason"] for row in failed)


def test_a_full_disk_is_no_files_fault(tmp_path, monkeypatch):
    picture(tmp_path / "data" / "p.png")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("foveate.data.inventory.pixels.thumbnail", full)
    with pytest.raises(OSError, match="No space"):
        run(tmp_path / "data", tmp_path / "inv")


FAULTS = [("_started", FoveateError("does not start")), ("_ask", FaultyReaderError("no module"))]


@pytest.mark.parametrize(("place", "fault"), FAULTS)
def test_a_fault_of_ours_is_no_files_fault(tmp_path, monkeypatch, place, fault):
    picture(tmp_path / "data" / "p.png")

    def faulty(*_):
        raise fault

    monkeypatch.setattr(Decoder, place, faulty)
    with pytest.raises(type(fault), match=str(fault)):
        run(tmp_path / "data", tmp_path / "inv")


def test_what_the_machine_may_have_been_to_blame_for_is_tried_again(tree, tmp_path, monkeypatch):
    def killed(_decoder, files, **_options):
        raise UnreadableImageError(files[0], "it ended the process that decodes it (SIGKILL)")

    with monkeypatch.context() as patch:
        patch.setattr(Decoder, "read", killed)
        assert not any(row["minimum"] for row in run(tree, tmp_path / "inv")[1])
    assert run(tree, tmp_path / "inv")[1] == run(tree, tmp_path / "fresh")[1]


@pytest.mark.parametrize(("head", "suffix"), [("mhd", "raw"), ("nhdr", "raw.gz")])
def test_new_voxels_beside_a_header_that_stays_are_seen(tmp_path, head, suffix):
    import SimpleITK

    def voxels(seed):
        return np.random.default_rng(seed).integers(0, 900, (8, 9, 10)).astype(np.int16)

    def write(folder, seed):
        image = SimpleITK.GetImageFromArray(voxels(seed))
        SimpleITK.WriteImage(image, str(folder / f"a.{head}"), useCompression=suffix.endswith("gz"))

    root = tmp_path / "in"
    root.mkdir()
    write(root, 0)
    _, (first, *_) = run(root, tmp_path / "out")
    (tmp_path / "other").mkdir()
    write(tmp_path / "other", 1)
    shutil.copy(tmp_path / "other" / f"a.{suffix}", root / f"a.{suffix}")
    later = (root / f"a.{head}").stat().st_mtime_ns + 10**9
    os.utime(root / f"a.{suffix}", ns=(later, later))
    _, (second, *_) = run(root, tmp_path / "out")
    assert first["id"] == second["id"]
    assert (first["minimum"], first["maximum"]) != (second["minimum"], second["maximum"])
    assert run(root, tmp_path / "out")[0] == [0, 0, 0]  # and then nothing is new

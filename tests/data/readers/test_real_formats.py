"""Real scans where a folder of them is named, and the DICOM files that come with pydicom."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pydicom.data
import pytest
import SimpleITK as sitk  # noqa: N813

from foveate.data.decoding.decoder import Decoder
from foveate.data.readers.canonical import LPS_TO_RAS, source_affine, to_source
from foveate.data.readers.formats import read_files, read_volume
from foveate.data.readers.unreadable import UnreadableImageError
from foveate.data.sources.folder import FolderSource

DATA = Path(os.environ.get("FOVEATE_DATA", ""))
real = pytest.mark.skipif(
    not os.environ.get("FOVEATE_DATA"), reason="FOVEATE_DATA names no folder of real images"
)
PYDICOM = Path(pydicom.data.__file__).parent / "test_files"


def roles(name):
    return Counter((record.role, record.modality) for record in FolderSource().records(DATA / name))


@real
@pytest.mark.parametrize("name", ["dicom_sts001", "dicom_mr_t1_fnndsc"])
def test_series_are_what_itk_reads_voxel_by_voxel(name):
    for record in (r for r in FolderSource().records(DATA / name) if r.role == "image"):
        volume = read_files(record.files)
        files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(record.path.parent))
        image = sitk.ReadImage(files)
        affine = np.eye(4)
        affine[:3, :3] = np.reshape(image.GetDirection(), (3, 3)) * image.GetSpacing()
        affine[:3, 3] = image.GetOrigin()
        shape = volume.array.shape[1:]
        ours = source_affine(volume.affine, volume.orientation, shape)
        np.testing.assert_allclose(ours, LPS_TO_RAS @ affine, rtol=0, atol=1e-3, err_msg=record.relative)
        values = sitk.GetArrayFromImage(image).T
        np.testing.assert_allclose(to_source(volume.array[0], volume.orientation), values, rtol=1e-6)


@real
def test_roles_and_modalities_of_real_trees():
    ct_mr_pet = {("image", word): 1 for word in ("CT", "MR", "PT")}
    assert roles("dicom_sts001") == {**ct_mr_pet, ("structure", ""): 3, ("other", ""): 2}
    assert roles("sts_tumour_ct_mr") == {
        **{("image", "CT"): 36, ("image", "MR"): 49, ("image", "PT"): 51},
        **{("label", ""): 136, ("other", ""): 3},
    }
    assert roles("totalseg_example_ct") == {
        **{("image", "CT"): 2, ("image", "MR"): 1},
        **{("label", ""): 1, ("other", ""): 2},
    }
    assert roles("msd_hippocampus") == {("image", ""): 260, ("label", ""): 260, ("other", ""): 1}


@real
@pytest.mark.parametrize(
    ("pattern", "labels"),
    [
        ("msd_hippocampus/labels/*", True),
        ("msd_hippocampus/images/*", False),
        ("sts_tumour_ct_mr/*/*_mask.nii.gz", True),
        ("sts_tumour_ct_mr/*/*_image.nii.gz", False),
        ("cxr_tb_lungs/masks/*", True),
        ("cxr_tb_lungs/images/*", False),
        ("lidc_nodules_m3dv/vol50_2x/*", False),
        ("totalseg_example_ct/example_seg.nii.gz", True),
    ],
)
def test_labels_are_known_by_their_values_alone(pattern, labels):
    found = sorted(DATA.glob(pattern))
    assert found
    for path in found[:: max(1, len(found) // 12)]:
        if labels:
            with pytest.raises(UnreadableImageError, match="look like labels"):
                read_volume(path)
        else:
            assert read_volume(path).array.size


def test_every_file_of_pydicom_is_read_or_refused_in_words(record_property):
    decoder = Decoder()
    outcomes: Counter[str] = Counter()
    reasons: dict[str, str] = {}
    for path in sorted(p for p in PYDICOM.rglob("*") if p.is_file() and p.suffix not in {".py", ".pyc"}):
        try:
            volume = decoder.read((path,))
        except UnreadableImageError as error:
            outcomes["refused"] += 1
            reasons[path.stem] = error.reason
        else:
            outcomes["read"] += 1
            assert np.isfinite(volume.array).all()
            assert volume.array.ndim == 3
    decoder.close()
    print(dict(outcomes))
    for stem, reason in reasons.items():
        assert not any(word in reason for word in ("\n", stem, "AttributeError"))
    assert outcomes["read"] >= 38
    assert sum(outcomes.values()) >= 170


@pytest.mark.parametrize(
    "kind", ["RLE", "bigendian", "expb", "implicit", "jp2klossless", "jpeg_ls_lossless", "padded"]
)
def test_every_transfer_syntax_gives_the_same_numbers(kind):
    plain = read_volume(PYDICOM / "MR_small.dcm")
    np.testing.assert_array_equal(read_volume(PYDICOM / f"MR_small_{kind}.dcm").array, plain.array)


def test_the_tree_of_pydicom_is_listed(capsys):
    records = list(FolderSource().records(PYDICOM))
    found = Counter(record.role for record in records)
    print(dict(found))
    assert found["image"] >= 8
    assert found["structure"] == 3
    names = ("Doe", "CompressedSamples", "Lestrade", "Anonymized")
    assert not any(name in record.evidence for record in records for name in names)

"""A comparison on slices of DICOM series, with their structures as labels, counted in patients."""

import pytest
from pydicom.uid import generate_uid
from tests.commands.compare.test_compare import cells, grid, resolve, write
from tests.data.readers.dicom.drawings import contour, rtstruct, series

from foveate.commands.compare import run as compare


@pytest.mark.slow
def test_slices_and_structures_with_labels_counted_in_patients(tmp_path):
    square = [(2.5, 3.5), (2.5, 12.5), (11.5, 12.5), (11.5, 3.5)]
    names = []
    for k in range(6):
        uid, frame = generate_uid(), generate_uid()
        series(tmp_path / f"data/p{k}", (8, 18, 18), uid, frame, f"P{k // 2 if k < 4 else k}", value=k)
        rtstruct(tmp_path / f"data/p{k}/rs", {"GTV": [contour(square, z) for z in range(3, 7)]}, uid, frame)
        names.append(f"p{k}/000")
    content = grid(data=str(tmp_path / "data"), count="patients", labels=[1])
    task = content["tasks"]["blobs"]
    task["both"] |= {"dimension": 2, "slices.axis": "z"}
    task["pretrain"]["method"]["global_crops"] = {"grid": [32, 32]}
    task["finetune"] |= {"structures": "tumour=GTV", "task.crops.grid": [32, 32]}
    del task["finetune"]["task.crops.source_sizes"]
    file = write(
        tmp_path,
        content | {"finetune_seeds": [0], "draws": 20},
        {"train": names[:2], "val": names[2:4], "test": names[4:]},
    )
    assert compare.compare(resolve(str(file), {"out": str(tmp_path / "out")}))
    found = cells(tmp_path / "out")
    tests = [cell for cell in found.values() if cell["kind"] == "test"]
    assert {cell["arm"] for cell in tests} == {"scratch", "scratch_long", "restoring"}
    assert all(len(cell["cases"]) == 2 for cell in tests)  # volumes, not slices
    assert all("dice/tumour" in cell["cases"][0] for cell in tests)

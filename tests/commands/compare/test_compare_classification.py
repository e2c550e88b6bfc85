"""A comparison of classifications: what the test is told of the classes."""

import numpy as np
import pytest
from PIL import Image
from tests.commands.compare.test_compare import NAMES, PARTS, cells, grid, resolve, write
from tests.conftest import SHAPES, blobs

from foveate.commands.compare import run as compare


@pytest.mark.slow
def test_whole_images_with_classes_that_only_the_labels_name(tmp_path):
    """The classes of a column are found in the training labels, and the test is encoded with them."""
    rows = ["image,finding"]
    for i, name in enumerate(NAMES):
        path = tmp_path / "data" / name.replace(".nii.gz", ".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blobs(SHAPES[2], i).astype(np.uint8)).save(path)
        rows.append(f"{path.name},{('sick', 'well')[i % 2]}")
    (tmp_path / "data/labels.csv").write_text("\n".join(rows) + "\n")
    pictures = {part: [name.replace(".nii.gz", ".png") for name in names] for part, names in PARTS.items()}
    content = grid(data=str(tmp_path / "data"), labels=[3], probe_labels=[3], metric="auroc")
    task = content["tasks"]["blobs"]
    task["pretrain"]["method"]["global_crops"] = {"grid": [32, 32]}
    task["finetune"] = {"task": "classification", "task.targets": ["finding"], "steps": 2, "batch_size": 2}
    task["finetune"] |= {
        "task.crops.grid": [32, 32],
        "log_every": 1,
        "task.appearance.normalisation": "zscore",
    }
    file = write(tmp_path, content, pictures)
    assert compare.compare(resolve(str(file), {"out": str(tmp_path / "out")}))
    tests = [cell for cell in cells(tmp_path / "out").values() if cell["kind"] == "test"]
    assert len(tests) == 10  # scratch and the arm trained whole and probed, scratch_long, at two seeds
    for cell in tests:
        assert cell["class_names"] == ["sick", "well"]
        assert sorted(case["label"][0] for case in cell["cases"]) == [0, 0, 1, 1]
    assert "blobs: auroc" in (tmp_path / "out/table.md").read_text()

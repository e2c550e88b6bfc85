"""A comparison of detections: from pictures to the table, whose score is that of the rule as loops."""

import numpy as np
import pytest
from tests.commands.compare.test_compare import NAMES, PARTS, cells, grid, resolve, write
from tests.commands.compare.test_compare_localization import save
from tests.scoring.test_froc import slow_froc, slow_sensitivity

from foveate.commands.compare import run as compare
from foveate.scoring.boxes.froc import MOST_MARKS, RATES

PICTURES = {name: name.replace(".nii.gz", ".png") for name in NAMES}
EMPTY = NAMES[5]  # a test image without a finding, which counts among the scans


def draw(folder, name, number):
    """A picture with two bright squares, or with none, and its label map."""
    rng = np.random.default_rng(number)
    image, label = rng.integers(0, 200, (32, 32)), np.zeros((32, 32), np.uint8)
    for x in (2, 18) if name != EMPTY else ():
        low, side = rng.integers(0, 6, 2) + np.array([x, 8]), rng.integers(5, 9)
        square = tuple(slice(a, a + side) for a in low)
        image[square], label[square] = 200, 1
    save(folder, PICTURES[name], image, label)


def slow_cpm(cases):
    """CPM of the boxes that a run has kept, mark by mark."""
    scans = []
    for case in cases:
        _, known, ignored = map(int, case["boxes"][:3])
        rows = np.reshape(case["boxes"][3:], (-1, 6)).tolist()
        scans.append((rows[:known], rows[known : known + ignored], rows[known + ignored :]))
    assert sorted(len(truth) for truth, *_ in scans) == [0, 2, 2, 2]
    points, _ = slow_froc(scans, most=MOST_MARKS)
    return np.mean([slow_sensitivity(points, rate) for rate in RATES])


@pytest.mark.slow
def test_a_detection_is_compared_by_its_cpm(tmp_path):
    for i, name in enumerate(NAMES):
        draw(tmp_path / "data", name, i)
    pictures = {part: [PICTURES[name] for name in each] for part, each in PARTS.items()}
    content = grid(data=str(tmp_path / "data"), labels=[3], metric="cpm")
    content |= {"arms": {"again": {"planted": "no_gain"}}}
    task = content["tasks"]["blobs"]
    del task["pretrain"]
    task["finetune"] = {"task": "detection", "steps": 20, "batch_size": 2, "log_every": 10}
    task["finetune"] |= {"task.crops.grid": [32, 32], "task.appearance.normalisation": "zscore"}
    file = write(tmp_path, content, pictures)
    assert compare.compare(resolve(str(file), {"out": str(tmp_path / "out")}))
    found = [cell for cell in cells(tmp_path / "out").values() if cell["arm"] == "scratch"]
    assert len(found) == 2
    cpm = [slow_cpm(cell["cases"]) for cell in found]
    _, *rows = [row.split(",") for row in (tmp_path / "out/table.csv").read_text().splitlines()]
    (score,) = (float(row[4]) for row in rows if row[1] == "scratch")
    assert 0 < np.mean(cpm) < 1
    assert score == pytest.approx(np.mean(cpm), rel=1e-5)
    assert "blobs: cpm" in (tmp_path / "out/table.md").read_text()

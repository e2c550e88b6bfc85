"""A comparison of localisations: distances of walls, of which less is better, from pictures to the table."""

import numpy as np
import pytest
from PIL import Image
from tests.commands.compare.test_compare import NAMES, PARTS, cells, grid, resolve, write

from foveate.commands.compare import run as compare

ABSENT = NAMES[5].replace(".nii.gz", ".png")  # a test image without the second organ


def draw(folder, name, number):
    """A picture with two bright organs, and its label map."""
    rng = np.random.default_rng(number)
    image, label = rng.integers(0, 60, (32, 32)), np.zeros((32, 32), np.uint8)
    for value, x in ((1, 4), (2, 18)):
        if value == 1 or name != ABSENT:
            low = rng.integers(0, 4, 2) + np.array([x, 8])
            organ = tuple(slice(a, a + side) for a, side in zip(low, rng.integers(6, 10, 2), strict=True))
            image[organ], label[organ] = 100 * value, value
    save(folder, name, image, label)


def save(folder, name, image, label):
    """A picture and its label map, where a folder has them."""
    for place, array in ((name, image), (name.replace("images", "labels"), label)):
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(folder / place)


def wall_error(numbers):
    """Per class the mean distance between the walls of the true and the answered box, in two axes."""
    counts, rows = numbers[:3], np.reshape(numbers[3:], (-1, 6))
    truth, found = rows[: int(counts[1])], rows[int(counts[1] + counts[2]) :]
    errors = {}
    for row in truth:
        (other,) = (each for each in found if each[4] == row[4])
        walls = [each[:2] + sign * each[2:4] / 2 for sign in (-1, 1) for each in (row, other)]
        errors[int(row[4])] = np.abs([walls[0] - walls[1], walls[2] - walls[3]]).mean()
    return errors


@pytest.mark.slow
def test_walls_that_are_nearer_are_better(tmp_path):
    names = {name: name.replace(".nii.gz", ".png") for name in NAMES}
    for i, picture in enumerate(names.values()):
        draw(tmp_path / "data", picture, i)
    pictures = {part: [names[name] for name in each] for part, each in PARTS.items()}
    content = grid(data=str(tmp_path / "data"), labels=[3], metric="wall_mm")
    content |= {"finetune_seeds": [0], "arms": {"again": {"planted": "no_gain"}}}
    task = content["tasks"]["blobs"]
    del task["pretrain"]
    task["finetune"] = {"task": "localization", "steps": 2, "batch_size": 2, "log_every": 1}
    task["finetune"] |= {"task.crops.grid": [32, 32], "task.appearance.normalisation": "zscore"}
    file = write(tmp_path, content, pictures)
    assert compare.compare(resolve(str(file), {"out": str(tmp_path / "out")}))
    (cell,) = (each for each in cells(tmp_path / "out").values() if each["arm"] == "scratch")
    errors = [wall_error(case["boxes"]) for case in cell["cases"]]
    assert sorted(len(each) for each in errors) == [1, 2, 2, 2]
    mean = np.mean([np.mean([each[k] for each in errors if k in each]) for k in (0, 1)])
    _, *rows = [row.split(",") for row in (tmp_path / "out/table.csv").read_text().splitlines()]
    (score,) = (float(row[4]) for row in rows if row[1] == "scratch")
    assert score == pytest.approx(-mean, rel=1e-5)
    assert "blobs: minus wall_mm" in (tmp_path / "out/table.md").read_text()

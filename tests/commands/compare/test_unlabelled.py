"""Arms that learn from unlabelled images as well, and arms that start with another arm's pre-training."""

import json
import shutil

import pytest
from tests.commands.compare.test_compare import cells, data, grid, resolve, write

from foveate.commands.compare import held, report, run as compare
from foveate.commands.compare.cost import long_steps
from foveate.commands.compare.folder import Bench
from foveate.commands.compare.grid import finetune_keys, jobs_of, working_jobs
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from foveate.nets.weights import store as weights

__all__ = ["data"]
SEMI = {"semi": {"supervised_steps": 1}}
ARMS = {
    "restoring": {"method": "context_restoration", "finetune": {"tuning.transfer": "encoder_decoder"}},
    "mixed": {"unlabelled": "rest", "finetune": SEMI},
    "both": {"after": "restoring", "unlabelled": "rest", "finetune": SEMI},
    "encoder_alone": {"after": "restoring", "finetune": {"tuning.transfer": "encoder"}},
}


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A finished comparison with one label: (its configuration, its folder)."""
    home = tmp_path_factory.mktemp("unlabelled")
    content = grid(data=str(data), labels=[1]) | {"finetune_seeds": [0], "arms": ARMS}
    config = resolve(str(write(home, content)), {"out": str(home / "out")})
    assert compare.compare(config)
    return config, home / "out"


def test_every_arm_is_done_with_one_pre_training(finished):
    config, out = finished
    found = cells(out)
    assert [name for name in found if name.endswith("pretrain")] == ["blobs-restoring-p0-pretrain"]
    assert {cell["arm"] for cell in found.values()} == {"scratch", "scratch_long", *ARMS}
    spent = {cell["arm"]: 0.0 for cell in found.values()}
    for cell in found.values():
        for arm in ("restoring", "both", "encoder_alone") if cell["kind"] == "pretrain" else (cell["arm"],):
            spent[arm] += cell["seconds"] / 3600
    hours = report.hours_of(config, list(found.values()))
    assert {arm: hours["blobs", arm] for arm in spent} == pytest.approx(spent)


def test_the_others_of_the_training_part_are_unlabelled_and_count_as_seen(finished):
    _, out = finished
    for arm, images in (("mixed", 2), ("both", 2), ("restoring", 0), ("scratch", 0)):
        run = out / f"runs/blobs-{arm}-p0-full-n1-f0"
        said = parsing.read_yaml(run / "run.yaml")
        assert said["unlabelled"] == ("rest" if images else "")
        assert len(json.loads((run / "split.json").read_text()).get("unlabelled", [])) == images
        assert weights.read(run)[1].get("unlabelled", 0) == images
        seen = len(json.loads((run / "seen.json").read_text())["images"])
        assert seen == (4 if images or arm == "restoring" else 2)  # three to train, one to validate


def test_an_arm_after_another_takes_its_weights_and_keys_over(finished):
    _, out = finished
    parts = {
        arm: {path.name for path in (out / f"runs/blobs-{arm}-p0-full-n1-f0").glob("transfer.*")}
        for arm in ARMS
    }
    whole = {"transfer.encoder.json", "transfer.decoder.json"}
    assert parts == {
        "restoring": whole,
        "both": whole,
        "encoder_alone": {"transfer.encoder.json"},
        "mixed": set(),
    }


def test_all_have_the_same_labelled_images_in_the_same_order(finished):
    tests = [cell for cell in cells(finished[1]).values() if cell["kind"] == "test"]
    assert len({cell["first_batch"] for cell in tests}) == 1
    table = (finished[1] / "table.md").read_text()
    assert "other batches" not in table
    assert "| both " in table


def test_an_average_for_all_is_the_teacher_where_images_are_unlabelled(data, tmp_path):
    content = grid(data=str(data), labels=[1]) | {"arms": ARMS}
    content["tasks"]["blobs"]["finetune"]["tuning.average"] = 0.9
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})
    keys = {j.arm: finetune_keys(config, j, 0.1, 1) for j in jobs_of(config) if j.kind == "test"}
    assert {arm: each.get("tuning.average") for arm, each in keys.items()} == {
        **dict.fromkeys(("scratch", "scratch_long", "restoring", "encoder_alone"), 0.9),
        **dict.fromkeys(("mixed", "both")),
    }


def test_only_an_arm_after_another_does_the_pre_training_too(data, tmp_path):
    content = grid(data=str(data), labels=[1]) | {"arms": ARMS, "finetune_seeds": [0]}
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out"), "only": "both"})
    assert [job.name for job in working_jobs(config)] == [
        "blobs-restoring-p0-pretrain",
        "blobs-both-p0-full-n1-f0",
    ]


def test_a_held_out_image_in_a_folder_of_unlabelled_ones_is_refused(data, tmp_path):
    folder = tmp_path / "more"
    folder.mkdir()
    shutil.copy(data / "images/case7.nii.gz", folder / "found.nii.gz")
    content = grid(data=str(data)) | {"arms": {"mixed": {"unlabelled": str(folder)}}}
    config = resolve(str(write(tmp_path, content)), {"out": str(tmp_path / "out")})
    with pytest.raises(FoveateError, match=r"found\.nii\.gz .* have equal voxels"):
        held.held_out(Bench(config), "blobs")


def test_the_longer_scratch_pays_for_unlabelled_images_as_well():
    seconds = {"scratch": (0, 0, 0.2), "a": (0, 0, 0.4), "b/unlabelled": (0, 0, 0.3)}
    steps = {"scratch": 400, "a": 300}
    assert long_steps(steps, seconds, {}) == 1000
    assert long_steps(steps, seconds, {"b": ("a", "b/unlabelled")}) == 1200
    assert long_steps({"scratch": 400}, seconds, {"b": ("b", "b/unlabelled")}) == 600


@pytest.mark.parametrize(
    ("arm", "words"),
    [
        ({"after": "nobody"}, "accepted are arms with a method or weights: restoring"),
        ({"after": "mixed"}, "accepted are arms with a method or weights: restoring"),
        (
            {"after": "restoring", "method": "context_restoration"},
            "accepted is one of method, weights, after",
        ),
        ({"after": "restoring", "pretrain": {"optim.lr": 0.1}}, "nothing is pre-trained"),
        ({"planted": "no_gain", "unlabelled": "rest"}, "trained as scratch"),
        ({"after": "restoring", "finetune": SEMI}, "must be equal for all arms"),
        ({"unlabelled": "$NOT_SET_ANYWHERE/x"}, "is not set"),
        ({}, "missing or empty"),
    ],
)
def test_arms_that_cannot_be_are_refused(data, tmp_path, arm, words):
    arms = {"restoring": "context_restoration", "mixed": {"unlabelled": "rest"}, "strange": arm}
    file = write(tmp_path, grid(data=str(data)) | {"arms": arms})
    with pytest.raises(FoveateError, match=words):
        resolve(str(file), {"out": "x"})


def test_keys_of_unlabelled_images_are_those_of_an_arm(data, tmp_path):
    for keys, words in ((SEMI, "set it in arms.NAME.finetune"), ({"unlabelled": "rest"}, "comparison sets")):
        file = write(tmp_path, grid(data=str(data), finetune={"task": "segmentation", **keys}))
        with pytest.raises(FoveateError, match=words):
            resolve(str(file), {"out": "x"})

"""`--data NAME=FOLDER:WEIGHT,...`: several data sets in one run."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from tests.conftest import stop_at, tiny_keys

from foveate.commands.finetune.config import SPEC as FINETUNE
from foveate.commands.plan.measure import probed_data
from foveate.commands.pretrain import run
from foveate.commands.pretrain.config import SPEC
from foveate.commands.pretrain.images import open_cache
from foveate.core.types import FoveateError
from foveate.data.loader import records_of

WEIGHTS = "exported/weights.safetensors"


@pytest.fixture(scope="module")
def folders(cohorts, tmp_path_factory):
    """Two folders of 2D images, of six and of three, and what the keys of a run on both are."""
    few = tmp_path_factory.mktemp("sets") / "few"
    few.mkdir()
    for path in sorted(cohorts[2].iterdir())[:3]:
        shutil.copy(path, few)
    return cohorts[2], few


def config_of(data, out, **keys):
    return SPEC.from_keys(tiny_keys(2, data, out, **keys))


def mixed(folders, weights=("0.75", "0.25")):
    return f"CT={folders[0]}:{weights[0]},MR={folders[1]}:{weights[1]}"


def test_a_resumed_run_on_two_sets_is_bit_equal_and_says_what_was_drawn(folders, tmp_path, capsys):
    keys = {"steps": 6, "save_every": 100, "health_every": 0, "preview_every": 100}
    whole, cut = (config_of(mixed(folders), tmp_path / name, **keys) for name in "ab")
    assert run.pretrain(whole)
    stop_at(cut, 3)
    assert run.pretrain(cut)
    for file in (WEIGHTS, "exported/card.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file
    card = json.loads((tmp_path / "a/exported/card.json").read_text())
    drawn = [volume.relative for volume in records_of(open_cache(whole), seed=0, indices=range(12))]
    assert len(drawn) == sum(each["samples"] for each in card["sets"].values()) == 12
    assert card["sets"]["CT"] == {"share": 0.75, "images": 6, "samples": card["sets"]["CT"]["samples"]}
    assert card["sets"]["CT"]["samples"] > card["sets"]["MR"]["samples"]
    log = (tmp_path / "a/train.log").read_text()
    assert f"CT 75 % (6 images, {card['sets']['CT']['samples']} samples" in log
    assert "MR 25 % (3 images" in log
    keys = yaml.safe_load((tmp_path / "a/run.yaml").read_text())
    assert (keys["sets"], keys["data"]) == ("CT:0.75,MR:0.25", "")
    assert str(folders[0]) in (tmp_path / "a/private/paths.yaml").read_text()
    with pytest.raises(FoveateError, match=r"sets: CT:0.75,MR:0.25 -> CT:0.5,MR:0.5"):
        run.pretrain(replace(whole, data=mixed(folders, ("0.5", "0.5")), sets="CT:0.5,MR:0.5"))


def test_held_out_images_leave_both_sets_and_the_shares_stay(folders, tmp_path):
    config = config_of(mixed(folders), tmp_path / "run", holdout=2)
    cache = open_cache(config)
    held, rest = run.health.hold_out(cache, config)
    assert len(held) == 2
    assert (len(rest), rest.mix.sets[0].share) == (7, cache.mix.sets[0].share)
    assert sum(each.images for each in rest.mix.sets) == 7
    assert rest.data_hash != cache.data_hash
    swapped = config_of(mixed(folders[::-1]), tmp_path / "run")
    assert open_cache(swapped).data_hash != cache.data_hash  # which set an image is in counts


def test_dry_run_and_plan_say_the_sets(folders, tmp_path):
    config = config_of(mixed(folders), tmp_path / "run", steps=100)
    said = run.dry_run(config)
    assert "CT 75 % (6 images, 150 samples, so each image 25 times)" in said
    assert "images: 9 found" in said
    assert "\n\n" not in run.dry_run(config_of(str(folders[0]), tmp_path / "run", steps=1))
    (tmp_path / "scratch").mkdir()
    probe, cache, counts = probed_data(config, tmp_path / "scratch")
    assert (probe.images, counts, len(cache)) == (9, [6, 3], 9)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("CT={a}", "has no weight"),
        ("CT={a}:0.5,MR={b}", "'MR=.*' has no weight"),
        ("CT={a}:0.5,MR={b}:0", "MR: the weight '0' is not a number above 0"),
        ("CT={a}:0.5,MR={b}:-1", "MR: the weight '-1' is not a number above 0"),
        ("CT={a}:0.5,MR={b}:nan", "MR: the weight 'nan' is not a number above 0"),
        ("CT={a}:1,MR={b}:0.00001", "MR: the weight is 1e-05 of all; accepted: at least 0.0001"),
        ("CT={a}:0.5,CT={b}:0.5", "two sets CT"),
        ("CT={a}:0.5,MR={a}/:0.5", "the same folder"),
        ("CT={a}:0.5,MR={empty}:0.5", "data set MR: "),
        ("CT={a}:0.5,MR={a}x:0.5", "data set MR: "),
        ("CT={a}:0.5,MR={volumes}:0.5", r"mixes dimensions \(CT 2D, MR 3D\)"),
    ],
)
def test_what_cannot_be_mixed_is_said(folders, cohorts, tmp_path, data, said):
    (tmp_path / "empty").mkdir()
    places = {"a": folders[0], "b": folders[1], "empty": tmp_path / "empty", "volumes": cohorts[3]}
    keys = tiny_keys(2, Path(), tmp_path / "run")
    del keys["dimension"]
    with pytest.raises(FoveateError, match=said):
        SPEC.from_keys({**keys, "data": data.format(**places)})


def test_sets_of_other_channels_are_refused_and_other_commands_take_one(folders, cohorts, tmp_path):
    data = f"CT={folders[0]}:1,MR={cohorts[3]}:1"
    with pytest.raises(FoveateError, match="CT and MR cannot be mixed: 2D images with 1 channel, slices of"):
        open_cache(config_of(data, tmp_path / "run"))
    with pytest.raises(FoveateError, match="accepted by pretrain and plan; finetune takes one"):
        FINETUNE.from_keys({"data": data, "task": "segmentation", "init": "none", "out": str(tmp_path)})
    with pytest.raises(FoveateError, match="its lists are of one data set"):
        config_of(mixed(folders), tmp_path / "run", split=str(tmp_path))
    with pytest.raises(FoveateError, match=r"--data says CT:0.75,MR:0.25; omit --sets"):
        config_of(mixed(folders), tmp_path / "run", sets="CT:1,MR:1")

"""`foveate prepare`, and a run that starts from its cache."""

import json
from pathlib import Path

import pytest
from PIL import Image
from tests.conftest import tiny_keys

from foveate.cli import main
from foveate.commands.prepare import run as verb
from foveate.commands.prepare.config import SPEC
from foveate.commands.pretrain import config as settings, run
from foveate.core.types import FoveateError
from foveate.data.cache.complete import COMPLETE
from foveate.data.cache.index import INDEX, PROFILE


def prepare_cohort(cohorts, out, **flags):
    return main(
        ["prepare", "--data", str(cohorts), "--out", str(out), *(x for f in flags.items() for x in f)]
    )


@pytest.mark.parametrize("dimension", [2, 3])
def test_a_run_on_the_cache_is_a_run_on_the_folder(cohorts, tmp_path, dimension, capsys):
    cache = tmp_path / "cache"
    assert prepare_cohort(cohorts[dimension], cache) == 0
    assert "6 generic" in capsys.readouterr().err
    losses = []
    for data, out in ((cohorts[dimension], "a"), (cache, "b")):
        keys = {key: v for key, v in tiny_keys(dimension, data, tmp_path / out).items() if key != "dimension"}
        assert run.pretrain(settings.SPEC.from_keys(keys))
        lines = (tmp_path / out / "metrics.jsonl").read_text().splitlines()
        losses.append([{k: v for k, v in json.loads(x).items() if k.startswith("loss")} for x in lines])
    assert losses[0] == losses[1]


def test_the_cache_says_how_it_was_made(cohorts, tmp_path):
    cache = tmp_path / "cache"
    assert prepare_cohort(cohorts[3], cache, **{"--prepare.spacing_mm": "[2,2,2]"}) == 0
    keys = tiny_keys(3, cache, tmp_path / "run")
    assert settings.SPEC.from_keys(keys).prepare.spacing_mm == (2, 2, 2)
    other = settings.SPEC.from_keys({**keys, "prepare": {"profile": "ct"}})
    with pytest.raises(FoveateError, match="is a prepared cache"):
        run.pretrain(other)


def test_an_unfinished_or_incomplete_cache_is_refused(cohorts, tmp_path):
    cache = tmp_path / "cache"
    prepare_cohort(cohorts[3], cache)
    keys = tiny_keys(3, cache, tmp_path / "run")
    next((cache / "volumes").iterdir()).unlink()
    with pytest.raises(FoveateError, match="lacks 1 of its 6 volumes"):
        run.pretrain(settings.SPEC.from_keys(keys))
    (cache / COMPLETE).unlink()
    with pytest.raises(FoveateError, match="not finished"):
        run.pretrain(settings.SPEC.from_keys(keys))
    assert prepare_cohort(cohorts[3], cache) == 0  # goes on: one volume is decoded
    assert len((cache / INDEX).read_text().splitlines()) == 7
    assert run.pretrain(settings.SPEC.from_keys(keys))


def test_a_cache_of_another_format_is_refused(cohorts, tmp_path):
    cache = tmp_path / "cache"
    prepare_cohort(cohorts[3], cache)
    (cache / PROFILE).write_text(json.dumps({"format_version": 1}))
    with pytest.raises(FoveateError, match="format 1"):
        settings.SPEC.from_keys(tiny_keys(3, cache, tmp_path / "run"))


def test_volumes_that_left_the_source_leave_the_cache(tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number in range(3):
        Image.effect_noise((40, 40), 50 + number).save(source / f"{number}.png")
    config = SPEC.resolve({}, {"data": str(source), "out": str(tmp_path / "cache")})
    assert len(verb.prepare(config)) == 3
    (source / "1.png").unlink()
    assert len(verb.prepare(config)) == 2
    assert len(json.loads((tmp_path / "cache" / COMPLETE).read_bytes())) == 2


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out", "x"], "Give --data FOLDER"),
        (
            ["--data", "x", "--out", "y", "--prepare.profil", "ct"],
            "did you mean prepare.profile",
        ),
        (["--data", "x", "--out", "y", "--dimension", "2", "--prepare.profile", "cat"], "profile"),
    ],
)
def test_mistakes_are_one_paragraph(flags, said, capsys):
    assert main(["prepare", *flags]) == 2
    text = capsys.readouterr().err
    assert said in text
    assert text.count("\n") == 1


def test_a_folder_of_something_else_is_left_alone(cohorts, tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("x")
    assert prepare_cohort(cohorts[3], tmp_path) == 2
    assert "holds other files" in capsys.readouterr().err
    assert [path.name for path in Path(tmp_path).iterdir()] == ["thesis.tex"]


def test_help_and_configuration_are_complete(capsys):
    assert main(["prepare", "--help"]) == 0
    assert "--prepare.spacing_mm" in capsys.readouterr().out
    assert (
        main(
            [
                "prepare",
                "--data",
                "a",
                "--out",
                "b",
                "--dimension",
                "2",
                "--prepare.profile",
                "mr",
                "--print_config",
            ]
        )
        == 0
    )
    assert "profile: mr" in capsys.readouterr().out


def test_a_split_chooses_when_the_cache_is_made_not_later(cohorts, tmp_path):
    cache, lists = tmp_path / "cache", tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("v0.nii.gz\nv3.nii.gz\n")
    assert prepare_cohort(cohorts[3], cache, **{"--split": str(lists)}) == 0
    assert len(json.loads((cache / COMPLETE).read_bytes())) == 2
    config = settings.SPEC.from_keys({**tiny_keys(3, cache, tmp_path / "run"), "split": str(lists)})
    with pytest.raises(FoveateError, match="cannot choose from it"):
        run.pretrain(config)

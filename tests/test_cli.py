"""The command line as a user meets it: what it prints, what it refuses, how it exits."""

import re
import subprocess
import sys
from dataclasses import dataclass

import numpy as np
import pytest
import yaml
from PIL import Image

from foveate.cli import main
from foveate.commands.pretrain import config as settings
from foveate.core import config as parsing
from foveate.core.types import FoveateError
from tests.conftest import tiny_keys, write_cohort


def refusal(capsys, *arguments):
    """The one paragraph of a refused command, which exits with 2 and no traceback."""
    assert main(list(arguments)) == 2
    text = capsys.readouterr().err
    assert "Traceback" not in text
    return text.strip().splitlines()[-1]


def flags_of(keys):
    """Keyword arguments as a command line."""
    flat = parsing.flatten(keys)
    return [part for key, value in flat for part in (f"--{key}", str(value))]


def test_print_config_is_complete_and_reads_back(capsys, tmp_path):
    arguments = ["--dimension", "3", "--size", "small", "--optim.lr", "3e-4", "--method.scales", "[0, 2]"]
    assert main(["pretrain", *arguments, "--print_config"]) == 0
    text = capsys.readouterr().out
    (tmp_path / "c.yaml").write_text(text)
    assert main(["pretrain", "--config", str(tmp_path / "c.yaml"), "--print_config"]) == 0
    assert capsys.readouterr().out == text
    mapping = yaml.safe_load(text)
    assert mapping["optim"]["lr"] == 3e-4
    assert mapping["method"]["scales"] == [0, 2]


def test_windows_is_told_where_foveate_runs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "platform", "win32")
    assert "inside WSL" in refusal(capsys, "pretrain", "--data", "x", "--out", "y")
    assert main(["--help"]) == 0


def test_bare_and_dotted_names_are_the_same(capsys):
    printed = []
    for method in ("--method", "--method.name"):
        assert main(["pretrain", "--dimension", "2", method, "pcrlv2", "--print_config"]) == 0
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1]


def test_command_line_beats_config_beats_recipe(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("seed: 5\nsteps: 7\n")
    name = "pcrlv2_luna16"
    command = [
        "pretrain",
        "--recipe",
        name,
        "--config",
        str(tmp_path / "c.yaml"),
        "--steps",
        "9",
        "--print_config",
    ]
    assert main(command) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert (found["seed"], found["steps"], found["dimension"]) == (5, 9, 3)


def test_methods_lists_citations(capsys):
    assert main(["methods"]) == 0
    assert re.search(r"pcrlv2 .*arXiv:2301\.00772", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["pretrian"], ["pretrian", "did you mean pretrain"]),
        (["pretrain", "--dimension", "3", "--method", "pcrlv3"], ["pcrlv3", "did you mean pcrlv2"]),
        (["pretrain", "--dimension", "3", "--encoder", "unet"], ["unet", "unet3d"]),
        (["pretrain", "--dimension", "2", "--encoder", "unet3d"], ["does not exist in 2D", "resnet18"]),
        (["pretrain", "--dimension", "3", "--optim.lrr", "1"], ["--optim.lrr", "did you mean optim.lr"]),
        (["pretrain", "--dimension", "3", "--encoder.levls", "3"], ["encoder.levls", "encoder.levels"]),
        (
            ["pretrain", "--dimension", "2", "--encoder.levels", "3"],
            ["--encoder.levels belongs to sononet, unet2d, unet3d", "resnet18"],
        ),
        (["pretrain", "--dimension", "3", "--optim.name", "adam"], ["optim.name", "adamw"]),
        (["pretrain", "--dimension", "3", "--steps", "many"], ["steps", "many"]),
        (["pretrain", "--dimension", "4"], ["--dimension 4", "2, 3"]),
        (["pretrain", "--size", "tiny", "--dimension", "3"], ["--size tiny", "small, paper"]),
        (["pretrain", "--steps"], ["--steps has no value"]),
        (["pretrain", "data"], ["'data' stands alone"]),
        (["pretrain", "--out", "x"], ["--data FOLDER"]),
        (["pretrain", "--dimension", "3", "--recipe", "nope"], ["--recipe nope", "pcrlv2_luna16"]),
        (["pretrain", "--config", "nowhere.yaml"], ["nowhere.yaml", "no such file"]),
        (["pretrain", "--dimension", "3", "--data", "nowhere", "--out", "x"], ["nowhere"]),
    ],
)
def test_refusals_name_the_key_what_was_found_and_what_is_accepted(
    capsys, arguments, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = refusal(capsys, *arguments)
    for word in words:
        assert word in text


@dataclass(frozen=True, kw_only=True)
class OtherConfig:
    """A method that this repository may or may not have one day."""

    momentum_of_teacher: float = 0.99


def test_keys_of_another_method_are_named_as_such():
    defaults, others = settings.default_config({"dimension": 3}), {"method": {"other": OtherConfig}}
    with pytest.raises(FoveateError, match="belongs to other, and this run uses pcrlv2"):
        parsing.check_keys(["method.momentum_of_teacher"], defaults, lambda: others, verb="pretrain")


GIVEN = {
    "finetune": ("--task", "segmentation", "--dimension", "3"),
    "prepare": ("--data", "d", "--out", "o"),
    "pretrain": ("--dimension", "3"),
    "plan": ("--dimension", "3"),
}


@pytest.mark.parametrize(
    "verb", ["pretrain", "plan", "finetune", "prepare", "scan", "split", "predict", "evaluate", "compare"]
)
def test_an_unknown_key_points_to_the_help_of_its_own_verb(capsys, tmp_path, verb):
    given = GIVEN.get(verb, ())
    if verb == "compare":
        file = tmp_path / "compare.yaml"
        file.write_text("arms: {one: pgl}\ntasks: {one: {data: d}}\n")
        given = ("--config", str(file))
    text = refusal(capsys, verb, *given, "--stepps", "3")
    assert "--stepps: there is no such key" in text
    assert f"`foveate {verb} --help_all` lists all" in text


def test_views_that_the_stride_does_not_divide(capsys, cohorts, tmp_path):
    keys = tiny_keys(3, cohorts[3], tmp_path / "run", method={"global_crops": {"grid": [20, 16, 16]}})
    text = refusal(capsys, "pretrain", *flags_of(keys))
    assert "method.global_crops.grid [20, 16, 16]" in text
    assert "multiples of 8" in text
    assert not (tmp_path / "run").exists()


def test_mixed_dimensions_nothing_readable_and_too_small(capsys, tmp_path):
    folder = write_cohort(tmp_path / "mixed", 3, 1)
    write_cohort(folder, 2, 1)
    out = ("--out", str(tmp_path / "run"))
    text = refusal(capsys, "pretrain", "--data", str(folder), *out)
    assert "2D" in text
    assert "3D" in text
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("x")
    text = refusal(capsys, "pretrain", "--data", str(tmp_path / "empty"), *out)
    assert ".nii.gz" in text
    keys = tiny_keys(3, write_cohort(tmp_path / "small", 3, 1), tmp_path / "run")
    keys["method"]["global_crops"] |= {"grid": [64, 16, 16], "source_sizes": [[64, 16, 16]]}
    text = refusal(capsys, "pretrain", *flags_of(keys))
    assert "v0.nii.gz" in text
    assert "64" in text


def test_bad_files_are_left_out_by_name_and_the_run_goes_on(capsys, tmp_path):
    folder = write_cohort(tmp_path / "images", 2, 3)
    (folder / "broken.png").write_bytes((folder / "p0.png").read_bytes()[:100])
    Image.fromarray(np.full((64, 64), 7, np.uint8)).save(folder / "flat.png")
    (folder / "._p0.png").write_bytes(b"hidden")
    assert main(["pretrain", *flags_of(tiny_keys(2, folder, tmp_path / "run", steps=1))]) == 0
    text = capsys.readouterr().err
    assert re.search(r"excluded: broken\.png", text)
    assert re.search(r"excluded: flat\.png.*constant", text)
    assert "data: 3 images, 2 excluded" in text
    assert "._p0" not in text


def test_dry_run_writes_nothing_to_out(capsys, cohorts, tmp_path):
    keys = tiny_keys(2, cohorts[2], tmp_path / "run")
    assert main(["pretrain", *flags_of(keys), "--dry_run"]) == 0
    text = capsys.readouterr().out
    assert "6 found" in text
    assert "parameters" in text
    assert not (tmp_path / "run").exists()


def test_first_line_says_the_size_and_suggests_small_on_a_cpu():
    from foveate.commands.pretrain.card import headline

    paper = settings.default_config({"dimension": 2, "size": "paper", "accelerator": "cpu"})
    small = settings.default_config({"dimension": 2, "size": "small"})
    assert "size paper" in headline(paper)
    assert re.search(r"about [\d,]+ h at this size. For CPUs: --size small", headline(paper))
    assert "size small" in headline(small)
    assert "No accelerator" not in headline(small)


@pytest.mark.parametrize("words", [["--help"], ["methods"]])
def test_a_reader_that_has_seen_enough_is_no_error(words):
    command = "import sys; sys.stdin.read(); from foveate.cli import main; sys.exit(main())"
    child = subprocess.Popen(
        [sys.executable, "-c", command, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    child.stdout.close()  # as `head` does once it has its lines
    child.stdin.close()  # now it may speak
    assert child.stderr.read() == b""
    assert child.wait() == 141

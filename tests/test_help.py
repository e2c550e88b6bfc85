"""What `--help` shows, and the script that completes words."""

import json
import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from foveate.cli import BY_NAME, SWITCHES, main
from foveate.runtime.command import recipe_path
from foveate.runtime.listing import refuse_unknown

LOADED_LATER = {
    *(
        "monai",
        "scipy",
        "sklearn",
        "matplotlib",
        "skimage",
        "SimpleITK",
        "mlflow",
        "nibabel",
        "PIL",
        "pydicom",
    ),
    *("lightning_fabric", "lightning", "blosc2", "nilearn", "tensorboard", "wandb"),
}
HELP_OF_ALL = """
import contextlib, io, json, sys
from foveate.cli import BY_NAME, main
loaded = {}
for verb in BY_NAME:
    with contextlib.redirect_stdout(io.StringIO()):
        assert main([verb, "--help"]) == 0
    loaded[verb] = sorted({name.split(".")[0] for name in sys.modules})
print(json.dumps(loaded))
"""


def test_help_loads_no_library_that_reads_images_builds_networks_or_draws():
    done = subprocess.run([sys.executable, "-c", HELP_OF_ALL], capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert set(loaded) == set(BY_NAME)
    assert not {verb: found for verb, names in loaded.items() if (found := LOADED_LATER & set(names))}


def test_help_teaches(capsys):
    assert main(["pretrain", "--help_all"]) == 0
    text = capsys.readouterr().out
    for word in ("--method.scale_sampling", "A scale for each compared pair", "--encoder.width", "pcrlv2"):
        assert word in text
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    assert all(f"foveate {verb} --" in text for verb in ("demo", "pretrain", "finetune", "compare"))


@pytest.mark.parametrize(
    "verb", ["pretrain", "plan", "finetune", "prepare", "scan", "split", "compare", "predict"]
)
@pytest.mark.parametrize("width", [60, 110, 300])
def test_help_fits_shows_every_key_once_and_no_types_of_python(capsys, monkeypatch, verb, width):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main([verb, "--help_all"]) == 0
    lines = capsys.readouterr().out.splitlines()
    options = lines[next(i for i, line in enumerate(lines) if line.startswith("options")) :]
    assert max(len(line) for line in options if not re.match(r"\S|  --", line)) <= min(width, 110)
    keys = re.findall(r"^  --([\w.]+)", "\n".join(options), re.MULTILINE)
    assert len(keys) == len(set(keys)) > 3
    assert not re.search(r"Literal|Union|tuple\[|default: \]", "\n".join(options))


def test_help_says_defaults_choices_and_what_is_detected(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "110")
    assert main(["pretrain", "--help_all"]) == 0
    text = capsys.readouterr().out
    for line in (
        "  --size small|paper          ",
        "  --dimension 2|3             2 or 3; detected from the files by default.\n",
        "  --method NAME               [default: pcrlv2]",
        "  --sync_batchnorm true|false\n",
        "  --prepare.percentiles LIST  The two percentiles",
        "[default: [0.5, 99.5]]",
    ):
        assert line in text
    assert main(["compare", "--help"]) == 0
    text = capsys.readouterr().out
    assert (
        text.index("  method  ")
        < text.index("  finetune  ")
        < text.index("  data  ")
        < text.index("  probe  ")
    )


@pytest.mark.parametrize("verb", sorted(BY_NAME))
def test_short_help_has_examples_that_are_accepted_and_few_keys(capsys, monkeypatch, verb):
    command = BY_NAME[verb]
    spec = command.load_spec()
    monkeypatch.setenv("COLUMNS", "100")
    assert main([verb, "--help"]) == 0
    text = capsys.readouterr().out
    keys = re.findall(r"^  --([a-z][\w.]*)", text, re.MULTILINE)
    assert len(set(keys) - {"recipe", "config", *SWITCHES}) <= 15, keys
    assert len(text.splitlines()) < 110
    for example in spec.examples:
        assert example in text
        program, name, *words = shlex.split(example, comments=True)
        assert (program, name) == ("foveate", verb)
        flags, _ = command.read_words(words, SWITCHES)
        refuse_unknown(verb, flags)
        spec.require(flags, command.positional)
        if recipe := flags.get("recipe"):
            assert recipe_path(verb, recipe).is_file()


@cache
def completion():
    """The script of `--completion bash`."""
    words = [sys.executable, "-m", "foveate.cli", "--completion", "bash"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def completed(*words):
    """What bash offers after the last word."""
    line = " ".join(f"'{word}'" for word in words)
    ask = f"COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}; _foveate; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    bash = ["bash", "--norc", "-c", f"{completion()}\n{ask}"]
    return subprocess.run(bash, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_keys_and_names():
    assert completed("foveate", "pre") == ["prepare", "pretrain", "predict"]
    assert completed("foveate", "finetune", "--tuning.tr") == ["--tuning.transfer"]
    assert completed("foveate", "pretrain", "--method", "pc") == ["pcrlv2"]
    assert completed("foveate", "finetune", "--help") == ["--help", "--help_all"]
    assert completed("foveate", "pretrain", "--data", "some/fol") == []  # bash goes on with files


def test_completion_of_another_shell_is_refused(capsys):
    assert main(["--completion", "fish"]) == 2
    assert "bash and zsh" in capsys.readouterr().err

"""nnU-Net plans, preprocesses and trains from an exported folder, by the commands in its README.

train_nnunet.py EXPORT RAW [GIT], in a process without foveate. RAW is nnU-Net's folder of raw data with one
data set, number 1. GIT is a folder into which pip has installed nnU-Net's git version; without it, the
commands for that version are not run. Passes if the log says that the weights were read, and if the first
validation and every loss are those of a run with the same weights copied by hand, but not those of a run
without them.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ID = "1"
FIGURES = re.compile(r"(?:first validation:|train_loss|val_loss) .*")
ENDING = ["-device", "cpu", "--disable_checkpointing"]


def commands(folder):
    """Those of README.txt."""
    lines = (folder / "README.txt").read_text().splitlines()
    return [line.strip().replace("ID", ID).split() for line in lines if line.startswith("  ")]


def run(command, cwd, **more):
    """One of them, by this Python's own programs; what it said."""
    program = [] if command[0] == "python" else ["-I", "-W", "ignore", str(HERE / "launch.py"), command[0]]
    done = subprocess.run(
        [sys.executable, *program, *command[1:]],
        cwd=cwd,
        env={**os.environ, **more},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def figures(said):
    """First validation and losses of a training."""
    return [re.sub(r"^.*?: (?=train|val|first)", "", found) for found in FIGURES.findall(said)]


def compare(folder, read, by_hand, scratch, says, **more):
    """Three trainings, a command each; the log of the first has these words."""
    found = []
    for name, command in (("read", read), ("by hand", by_hand), ("scratch", scratch)):
        said = run([*command, *ENDING], folder, nnUNet_n_proc_DA="0", **more)
        assert name != "read" or says in said, said[-3000:]
        found.append(figures(said))
        print(name, *found[-1], sep="\n  ", flush=True)
    assert len(found[0]) == 3, found[0]
    assert found[0] == found[1], "the weights were not read as they are"
    assert found[0][0] != found[2][0], "the weights changed nothing"


def released(folder, plan, own_plans, train):
    """By -pretrained_weights."""
    run([*plan, "-np", "1", "-npfp", "1"], folder)
    print("plans:", run(own_plans, folder).strip(), flush=True)
    bare = train[: train.index("-pretrained_weights")]
    compare(
        folder,
        [*train, "-tr", "FoveateMini"],
        [*bare, "-tr", "FoveateByHand"],
        [*bare, "-tr", "FoveateMini"],
        "Loading pretrained weights from file  full.pth",
        FOVEATE_WEIGHTS=str(folder / "full.pth"),
    )
    print("nnU-Net started from full.pth")


def from_git(folder, git, preprocessed, plan, train):
    """By nnUNetv2_train_pretrained, after the plans of `released`."""
    os.environ["FOVEATE_LIBRARY"] = str(git)
    shutil.copy(HERE / "mini_trainer.py", git / "nnunetv2" / "training" / "nnUNetTrainer")
    run([*plan, "-np", "1"], folder)
    (made,) = preprocessed.glob("Dataset001_*/ptPlans__foveate____*.json")
    print("plans:", made.stem, flush=True)
    train = [made.stem if word == "PLANS" else word for word in train]
    compare(
        folder,
        [*train, "-tr", "FoveatePretrained"],
        [*train, "-tr", "FoveatePretrainedByHand"],
        [*train, "-tr", "FoveatePretrained", "--from_scratch"],
        "Loaded Network from adapt.pth",
        FOVEATE_WEIGHTS=str(folder / "adapt.pth"),
    )
    print("nnU-Net's git version started from adapt.pth")


def main(folder, raw, git=None):
    assert find_spec("foveate") is None, "foveate can be imported here"
    places = {f"nnUNet_{name}": str(raw.parent / name) for name in ("preprocessed", "results")}
    os.environ |= {**places, "nnUNet_raw": str(raw), "nnUNet_extTrainer": str(HERE)}
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    *plain, plan, train = commands(folder)
    released(folder, *plain)
    if git:
        from_git(folder, git, raw.parent / "preprocessed", plan, train)
    else:
        print(f"no git version of nnU-Net (make test-export NNUNET=...), not tested: {' '.join(plan)}")


if __name__ == "__main__":
    main(*(Path(word).resolve() for word in sys.argv[1:]))

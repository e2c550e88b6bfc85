"""nnU-Net plans, preprocesses and trains from an exported folder, by the commands in its README.

train_nnunet.py EXPORT RAW, in a process without foveate. RAW is nnU-Net's folder of raw data with one data
set, number 1. Passes if the log says that the weights were read, and if the first validation and every loss
are those of a run with the same weights copied by hand, but not those of a run without them.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

HERE = Path(__file__).resolve().parent
ID = "1"
FIGURES = re.compile(r"(?:first validation:|train_loss|val_loss) .*")
NEEDS_GIT = "nnunetv2.experiment_planning.like_nnssl"


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


def main(folder, raw):
    assert find_spec("foveate") is None, "foveate can be imported here"
    places = {f"nnUNet_{name}": str(raw.parent / name) for name in ("preprocessed", "results")}
    os.environ |= {**places, "nnUNet_raw": str(raw), "nnUNet_extTrainer": str(HERE)}
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "nnUNet_compile": "f"}
    plan, own_plans, train, *git = commands(folder)
    run([*plan, "-np", "1", "-npfp", "1"], folder)
    print("plans:", run(own_plans, folder).strip(), flush=True)
    said, alone = {}, {"FOVEATE_WEIGHTS": str(folder / "full.pth"), "nnUNet_n_proc_DA": "0"}
    bare = train[: train.index("-pretrained_weights")]
    for trainer, command in (("FoveateMini", train), ("FoveateByHand", bare), ("FoveateMini", bare)):
        name = "scratch" if command is bare and trainer == "FoveateMini" else trainer
        more = ["-tr", trainer, "-device", "cpu", "--disable_checkpointing"]
        said[name] = run([*command, *more], folder, **alone)
        print(name, *figures(said[name]), sep="\n  ", flush=True)
    assert "Loading pretrained weights from file  full.pth" in said["FoveateMini"]
    mine, by_hand, scratch = (figures(said[name]) for name in ("FoveateMini", "FoveateByHand", "scratch"))
    assert len(mine) == 3, mine
    assert mine == by_hand, "the weights were not read as they are"
    assert mine[0] != scratch[0], "the weights changed nothing"
    if find_spec(NEEDS_GIT) is None:
        print(f"not in this nnU-Net, not tested: {' '.join(git[0])}")
    print("nnU-Net started from the exported weights")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve())

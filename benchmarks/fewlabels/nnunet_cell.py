"""nnU-Net on the same patients, in an environment of its own: writes what it reads, scores what it wrote.

    python -m venv NNUNET && NNUNET/bin/pip install torch nnunetv2==2.8.0
    python benchmarks/fewlabels/nnunet_cell.py write --cell acdc --count 3 --seed 0 --work W --environment
    NNUNET
    (the commands that it prints, with NNUNET/bin first in the path)
    python benchmarks/fewlabels/nnunet_cell.py score --cell acdc --count 3 --seed 0 --work W

There is no option for the number of epochs, so `write` puts a trainer into the environment that counts CPU
time: epochs of 10 iterations, a polynomial rate over the budget, the end when it is used up. Patch and
batch are those of the plan. Fold 0 trains on the labelled cases and validates on ours, by a
`splits_final.json`; the last weights predict.
"""

from __future__ import annotations

import argparse
import json
import subprocess
from pathlib import Path

import nibabel as nib
import numpy as np

from arguments import Job, job_of, parser
from cells import Case, dice, read, save

DATASET = 900  # a number that nnU-Net's own data sets do not have
TRAINER = '''"""A trainer that stops on CPU time; written by benchmarks/fewlabels/nnunet_cell.py of
foveate."""

import os
import time

from nnunetv2.training.lr_scheduler.polylr import PolyLRScheduler
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer


class nnUNetTrainerCpuTime(nnUNetTrainer):
    """FOVEATE_CPU_SECONDS of this process, spread over epochs of 10 iterations."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.num_iterations_per_epoch, self.num_val_iterations_per_epoch = 10, 1
        self.num_epochs, self.save_every = 10**6, 10**6
        self.budget, self.begun = float(os.environ["FOVEATE_CPU_SECONDS"]), None

    def configure_optimizers(self):
        optimizer, _ = super().configure_optimizers()
        return optimizer, PolyLRScheduler(optimizer, self.initial_lr, 1000)

    def on_train_epoch_start(self):
        self.begun = time.process_time() if self.begun is None else self.begun
        share = min(1.0, (time.process_time() - self.begun) / self.budget)
        epoch, self.current_epoch = self.current_epoch, int(999 * share)  # what the scheduler reads
        super().on_train_epoch_start()
        self.current_epoch = epoch
        if share >= 1:
            self.num_epochs = epoch + 1  # this one is the last
'''


def folder_of(work: Path, job: Job) -> Path:
    """Of one cell in nnU-Net's raw data."""
    return work / "raw" / f"Dataset{DATASET}_{job.name}{job.count}s{job.seed}"


def written(case: Case, image: Path, label: Path | None) -> None:
    """One case as NIfTI; a picture is a volume of one slice."""
    affine = nib.load(case.image).affine if case.image.suffix not in (".npz", ".png") else np.eye(4)
    values, classes = read(case)
    for path, array in ((image, values.astype(np.float32)), (label, classes.astype(np.uint8))):
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            nib.save(nib.Nifti1Image(array, affine), path)


def write(job: Job, work: Path, environment: Path) -> None:
    """Raw data, the split, the trainer, and the commands to give."""
    folder, names = folder_of(work, job), {}
    for part, cases in (("train", job.train), ("val", job.val), ("test", job.test)):
        kind = "Ts" if part == "test" else "Tr"
        names[part] = [f"{part}{i:03d}" for i in range(len(cases))]
        for name, case in zip(names[part], cases, strict=True):
            label = folder / "labelsTr" / f"{name}.nii.gz" if part != "test" else None
            written(case, folder / f"images{kind}" / f"{name}_0000.nii.gz", label)
    labels = {"background": 0, **{text.partition("=")[0]: i for i, text in enumerate(job.cell.classes, 1)}}
    facts = {
        "channel_names": {"0": "image"},
        "labels": labels,
        "numTraining": len(job.train) + len(job.val),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(facts))
    split = work / "preprocessed" / folder.name / "splits_final.json"
    split.parent.mkdir(parents=True, exist_ok=True)
    split.write_text(json.dumps([{part: names[part] for part in ("train", "val")}]))
    find = "import nnunetv2.training.nnUNetTrainer as t; print(t.__path__[0])"
    done = subprocess.run(
        [environment / "bin/python", "-c", find], capture_output=True, text=True, check=True
    )
    (Path(done.stdout.strip()) / "nnUNetTrainerCpuTime.py").write_text(TRAINER)
    shape = "2d" if job.cell.dimension == 2 else "3d_fullres"
    model = f"-d {DATASET} -c {shape} -f 0 -tr nnUNetTrainerCpuTime"
    print(
        f"export nnUNet_raw={work / 'raw'} nnUNet_preprocessed={work / 'preprocessed'} "
        f"nnUNet_results={work / 'results'}\n"
        f"export OMP_NUM_THREADS=1 nnUNet_n_proc_DA=0 nnUNet_compile=f FOVEATE_CPU_SECONDS={job.budget:g}\n"
        f"nnUNetv2_plan_and_preprocess -d {DATASET} -c {shape} -np 1\n"
        f"nnUNetv2_train {DATASET} {shape} 0 -tr nnUNetTrainerCpuTime -device cpu\n"
        f"nnUNetv2_predict -i {folder / 'imagesTs'} -o {work / 'predicted'} {model} -device cpu "
        "-chk checkpoint_final.pth --disable_tta -npp 1 -nps 1"
    )


def score(job: Job, work: Path) -> None:
    """Dice of what it predicted for the test."""
    found = []
    for i, case in enumerate(job.test):
        predicted = np.asarray(nib.load(work / "predicted" / f"test{i:03d}.nii.gz").dataobj)
        found.append(dice(predicted.astype(np.int64), read(case)[1], len(job.cell.classes)))
    print(f"test {np.mean(found):.4f} of {len(found)}")
    print(save("nnunet", job.name, job.count, job.seed, job.budget, {"test": found}).name)


def main() -> None:
    """Write or score."""
    arguments = parser(__doc__ or "")
    arguments.formatter_class = argparse.RawDescriptionHelpFormatter
    arguments.add_argument("what", choices=("write", "score"))
    arguments.add_argument("--work", type=Path, required=True)
    arguments.add_argument("--environment", type=Path, help="where nnU-Net is installed; for write")
    given = arguments.parse_args()
    job = job_of(given)
    if given.what == "score":
        score(job, given.work.resolve())
    elif given.environment is None:
        raise SystemExit("write needs --environment")
    else:
        write(job, given.work.resolve(), given.environment)


if __name__ == "__main__":
    main()

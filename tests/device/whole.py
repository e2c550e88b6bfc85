"""Whole runs on the pretended device: what a user starts, from the images to the last file."""

import re
import time
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import steps
import torch

from foveate.commands.evaluate.config import SPEC as EVALUATION
from foveate.commands.evaluate.run import evaluate
from foveate.commands.finetune.run import dry_run as finetune_dry_run, finetune
from foveate.commands.plan import measure as plan_measure
from foveate.commands.plan.run import plan
from foveate.commands.predict.config import SPEC as PREDICTION
from foveate.commands.predict.run import predict
from foveate.commands.pretrain import run as pretraining
from foveate.commands.pretrain.run import dry_run, pretrain
from foveate.runtime.registries import METHODS
from foveate.testing.runs import task_keys, tiny_keys

EVERY = {"health_every": 1, "preview_every": 1, "save_every": 1}
ENCODERS = {
    "resnet18": {},
    "resnet18 dilated": {"norm": "group", "shortcut": "pad", "dilated": True},
    "resenc": {"blocks": [1, 1, 1, 1]},
    "swin": {"width": 12, "window": 4},
}
GRIDS = {2: [64, 64], 3: [32, 32, 32]}


def pretrained(dimension, name, method=None, **keys):
    """A run to its end, and on from its last checkpoint."""
    keys = {**EVERY, **keys}
    config = steps.method_config(dimension, name, method, **keys)
    assert pretrain(config)
    assert pretrain(steps.method_config(dimension, name, method, **keys, out=Path(config.out), steps=3))
    return config.out


def answered(config, **more):
    """A fine-tuning to its end; all its images predicted, its test images evaluated."""
    assert finetune(config)
    data, on = config.data, {"run": config.out, "accelerator": "cuda"}
    assert predict(PREDICTION.from_keys({**on, "data": f"{data}/images", "out": f"{config.out}-p", **more}))
    assert evaluate(EVALUATION.from_keys({**on, "data": data, "out": f"{config.out}-e", "draws": 50}))


def finetuned(dimension, name, target="kind", **keys):
    """The same of a task, with answers in every form."""
    more = {}
    if name == "segmentation":
        more = {"probabilities": True, "mirror": "x", "window": {"batch_size": 2}}
    answered(steps.task_config(dimension, name, target, preview_every=1, **keys), **more)


def probed(dimension):
    """A run that asks on the way how well its features tell images apart."""
    images, labels = steps.images(dimension), steps.new_folder()
    labels.mkdir()
    files = sorted(path.name for path in images.iterdir() if path.suffix in (".gz", ".png"))
    rows = [f"{name},{'ab'[i % 2]},p{i}" for i, name in enumerate(files)]
    (labels / "labels.csv").write_text("\n".join(["image,label,patient", *rows]))
    pretrained(dimension, "pcrlv2", probe=str(labels), probe_every=1, holdout=2)


def tuned_from_a_run(dimension):
    """Fine-tuning from a pre-training on the same device, with the encoder frozen."""
    init = pretrained(dimension, "pcrlv2")
    finetuned(
        dimension,
        "segmentation",
        init=str(init),
        tuning={"encoder": "frozen"},
        on_seen="mark",
        encoder={},
    )


def sliced(_dimension):
    """A 2D network on volumes: pre-trained on slices, fine-tuned from there, masks and scores of volumes."""
    crops, on = {"grid": [32, 32]}, {**steps.ON_DEVICE, "steps": 2, "preview_every": 1}
    method = {"name": "context_restoration", "global_crops": crops}
    keys = tiny_keys(2, steps.images(3), steps.new_folder(), method, **on)
    assert pretrain(steps.PRETRAINING.from_keys(keys))
    tuned = task_keys("segmentation", 2, steps.labelled(3), steps.new_folder(), "grade") | on
    tuned |= {"init": keys["out"], "on_seen": "mark", "encoder": {}}
    tuned["task"]["crops"] = {**crops, "source_sizes": [crops["grid"]]}
    answered(steps.TUNING.from_keys(tuned))


@contextmanager
def short_memory(module, most):
    """Inside the context the device holds no more samples than `most` of what `module` builds."""
    build = module.build_method

    def built(config):
        method = build(config)
        forward = method.forward

        def forwarded(batch, progress):
            if len(batch["index"]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
            return forward(batch, progress)

        method.forward = forwarded
        return method

    module.build_method = built
    try:
        yield
    finally:
        module.build_method = build


def planned_too_much(dimension):
    """The plan goes on when the device is full, and says what would fit."""
    with short_memory(plan_measure, 5):
        text = plan(steps.method_config(dimension, "pcrlv2", batch_size=6))
    assert "the batch does not fit" in text
    assert "--batch_size 3 --accumulate 2" in text


def fitted_batch(dimension):
    """`--batch_size auto` on the device."""
    with short_memory(pretraining, 2):
        config = steps.method_config(dimension, "simsiam", batch_size="auto")
        assert pretrain(config)
    text = (Path(config.out) / "run.yaml").read_text()
    assert "batch_size: 2\n" in text
    assert "accumulate: 2\n" in text


def dry_run_waits(dimension):
    """A step is over when the device is done, not when the host is."""
    behind, before = 0.5, torch.cuda.synchronize
    torch.cuda.synchronize = lambda *_: time.sleep(behind)
    try:
        text = dry_run(steps.method_config(dimension, "simsiam"))
    finally:
        torch.cuda.synchronize = before
    assert float(re.search(r"; ([0-9.]+) s, the first step", text)[1]) >= behind


def encoder_run(dimension, name):
    """A short run with another encoder, whose views have to be larger."""
    encoder = {"name": name.split()[0], "width": 4, **ENCODERS[name]}
    crops = {"grid": GRIDS[dimension], **({"source_sizes": [[24, 26, 20]]} if dimension > 2 else {})}
    config = steps.method_config(dimension, "masked", {"global_crops": crops}, encoder=encoder, steps=1)
    assert pretrain(config)


def pretrainings(dimension):
    """Name -> a run of every method, and of the ways through them that defaults do not take."""
    run = partial(pretrained, dimension)
    sampling = {"skip_touching": True, "fewest_cells": 1}
    published = {
        "compat": "reference",
        "restoration": "linear",
        "restore_views": "both",
        "scale_sampling": "all",
        "projector": "mlp",
    }
    return {
        **{name: partial(run, name) for name in METHODS.names()},
        "pcrlv2 as published": partial(run, "pcrlv2", published),
        "pcrlv2 in float32": partial(run, "pcrlv2", precision="32-true"),
        "every corruption": partial(run, "simsiam", {"global_appearance": steps.everything(dimension)}),
        "region means": partial(run, "region_contrast", {"region_pool": "mean", "sampling": sampling}),
        "pgl of the encoder": partial(run, "pgl", {"features": "encoder", "level": 1, "global_weight": 1.0}),
        "moved weight": partial(run, "context_restoration", {"moved_weight": 3.0, "error": "huber"}),
        "accumulated, recomputed, clipped": partial(
            run,
            "byol",
            accumulate=2,
            activation_checkpointing=True,
            optim={"name": "sgd", "clip_norm": 1.0},
        ),
        "workers": partial(run, "simclr", num_workers=1),
    }


def encoders(dimension):
    """Name -> a run with every encoder."""
    return {name: partial(encoder_run, dimension, name) for name in ENCODERS}


def tasks(dimension):
    """Name -> fine-tuning, prediction and evaluation, in every kind of labels."""
    segment, classify = (partial(finetuned, dimension, task) for task in ("segmentation", "classification"))
    overlapping = {
        "classes": ["bright=1", "again=1"],
        "region_loss": "tversky",
        "focus": 2.0,
        "deep_supervision": 1,
        "ignore": [7],
    }
    unlabelled = {**steps.UNLABELLED, "semi": {"supervised_steps": 1, "health_every": 1}}
    apart = {**unlabelled, "semi": {**unlabelled["semi"], "batch_norm": "apart", "largest_component": True}}
    return {
        "segmentation": segment,
        "segmentation of overlapping classes": partial(segment, task=overlapping),
        "segmentation from a run": partial(tuned_from_a_run, dimension),
        "segmentation in float32": partial(segment, precision="32-true"),
        "segmentation, unlabelled": partial(segment, **unlabelled),
        "segmentation, unlabelled, overlapping classes": partial(segment, **apart, task=steps.OVERLAPPING),
        "classes": partial(classify, task={"weighting": "balanced"}),
        "findings": partial(classify, "found", task={"kind": "multilabel"}),
        "a number": partial(classify, "age", task={"kind": "regression"}),
    }


def rest(dimension):
    """Name -> what is neither a run nor its answers."""
    config = partial(steps.method_config, dimension, "pcrlv2")
    return {
        "probe": partial(probed, dimension),
        **({"slices of volumes": partial(sliced, dimension)} if dimension == 2 else {}),
        "plan": lambda: plan(config(batch_size=3)),
        "plan of a batch that does not fit": partial(planned_too_much, dimension),
        "batch that is fitted": partial(fitted_batch, dimension),
        "dry run": lambda: dry_run(config()),
        "clock of a dry run": partial(dry_run_waits, dimension),
        "dry run of a task": lambda: finetune_dry_run(steps.task_config(dimension, "segmentation")),
    }


GROUPS = {"pretrain": pretrainings, "encoder": encoders, "task": tasks, "rest": rest}


def found(name):
    """The run of a name such as "task segmentation 2D"."""
    group, _, rest_of_it = name.partition(" ")
    body, _, dimension = rest_of_it.rpartition(" ")
    return GROUPS[group](int(dimension[0]))[body]

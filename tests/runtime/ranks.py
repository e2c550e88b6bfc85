"""What one of two processes does in test_processes: several runs, one process group, then what it holds."""

import json
import math
import os
import signal
from hashlib import blake2b
from pathlib import Path

from foveate.commands.finetune import config as finetune_settings, run as tuning
from foveate.commands.pretrain import config as settings, run
from foveate.core.config import read_yaml
from foveate.core.types import FoveateError
from foveate.train.peers import Peers, check_same


def digest(model):
    """Of every parameter, a teacher's included."""
    found = blake2b(digest_size=16)
    for name, value in sorted(model.named_parameters()):
        found.update(name.encode() + value.detach().contiguous().numpy().tobytes())
    return found.hexdigest()


SIGNALS = {"broken": signal.SIGTERM, "tuned": signal.SIGUSR1}


def words(action):
    """The kind and the text of what an action raises."""
    try:
        action()
    except FoveateError as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]


def spoilt(model, rank):
    """A model whose first loss is not a number on one process only."""
    forward = model.forward

    def forwarded(batch, progress):
        losses = forward(batch, progress)
        name = next(iter(losses))
        return losses | {name: losses[name] * (math.nan if rank == 1 and progress.step == 2 else 1.0)}

    model.forward = forwarded
    return model


def main(folder):
    seen = {}
    fit, log_class, run.CALIBRATION_BATCHES = run.fit, run.RunLog, 1

    class Bomb(log_class):
        """Process 1, and it alone, is told to stop after a step."""

        def advance(self, step):
            super().advance(step)
            if self.folder.name in SIGNALS and step == 2 and not self.active:
                os.kill(os.getpid(), SIGNALS[self.folder.name])

    def spied(fabric, model, *arguments, **options):
        name = Path(options["log"].folder).name
        model = spoilt(model, fabric.global_rank) if name == "spoilt" else model
        ending = fit(fabric, model, *arguments, **options)
        seen[name] = digest(model)
        return ending

    shared = tuning.validate

    def compared(fabric, task, cases, peers, step):
        """Validation as the processes share it, and by this process alone with what process 0 has learnt."""
        found = shared(fabric, task, cases, peers, step)
        task.eval()
        alone = task.validate(cases)
        task.train()
        seen.setdefault("validated", []).append([len(cases), found, alone])
        return found

    tuning.validate = compared
    run.fit, run.RunLog = spied, Bomb
    tuning.RunLog = Bomb
    for path in sorted(folder.glob("*.yaml")):
        if path.stem.startswith("semi"):
            config = finetune_settings.SPEC.resolve(read_yaml(path), {})
            fabric = run.build_fabric(config)
            seen[path.stem] = tuning.finetune_here(config, fabric).name
            continue
        if path.stem == "tuned":
            config = finetune_settings.SPEC.resolve(read_yaml(path), {})
            fabric = run.build_fabric(config)
            seen["tuned"] = [tuning.finetune_here(config, fabric).name for _ in range(2)]
            continue
        config = settings.SPEC.resolve(read_yaml(path), {})
        fabric = run.build_fabric(config)
        if path.stem == "spoilt":
            seen["spoilt"] = words(lambda: run.pretrain_here(config, fabric))  # noqa: B023
        else:
            seen[f"{path.stem} ended"] = run.pretrain_here(config, fabric).name
        if path.stem == "broken":
            seen["broken again"] = run.pretrain_here(config, fabric).name
    peers = Peers(fabric)
    seen["same"] = words(lambda: check_same(peers, "a", "images"))
    seen["other"] = words(lambda: check_same(peers, str(fabric.global_rank), "images"))
    (folder / f"seen-{fabric.global_rank}.json").write_text(json.dumps(seen))

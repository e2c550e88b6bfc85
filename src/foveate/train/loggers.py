"""Loggers beside metrics.jsonl, all into the run folder; nothing leaves the machine or names it."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final

from foveate.core.types import FoveateError

if TYPE_CHECKING:
    from tensorboard.compat.proto.summary_pb2 import Summary

RUN_NAME = "foveate"


class Logger(Protocol):
    """A destination for the metrics of a run, beside metrics.jsonl."""

    def metrics(self, row: Mapping[str, float]) -> None:
        """The numbers of `row["step"]`."""
        ...

    def close(self) -> None:
        """Write what is left."""
        ...


def numbers(row: Mapping[str, float]) -> dict[str, float]:
    """The finite numbers of a line, without its step."""
    return {
        name: float(value)
        for name, value in row.items()
        if name != "step" and isinstance(value, int | float) and math.isfinite(value)
    }


def dotted(name: str) -> str:
    """A name for stores that keep one file a name: "loss/pixel" would need "loss" to be a folder.

    >>> dotted("loss/pixel")
    'loss.pixel'
    """
    return name.replace("/", ".")


@final
class TensorBoard:
    """An event file in `tensorboard/`, written without TensorFlow; its name holds no host."""

    def __init__(self, folder: Path) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        target = folder / "tensorboard"
        target.mkdir(exist_ok=True)
        name = f"events.out.tfevents.{time.time_ns()}.{RUN_NAME}"
        self.writer = RecordWriter((target / name).open("wb"))
        self.event(file_version="brain.Event:2")

    def event(self, **fields: str | int | Summary) -> None:
        """One record."""
        from tensorboard.compat.proto.event_pb2 import Event

        self.writer.write(Event(wall_time=time.time(), **fields).SerializeToString())

    def metrics(self, row: Mapping[str, float]) -> None:
        """The numbers of a step."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers(row).items()]
        self.event(step=int(row["step"]), summary=Summary(value=values))
        self.writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self.writer.close()


@final
class MLflow:
    """A file store in `mlruns/`; a run that goes on is the same run there."""

    def __init__(self, folder: Path) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        from mlflow.entities import ViewType
        from mlflow.store.tracking.file_store import FileStore

        self.store = FileStore(str(folder / "mlruns"), "mlflow-artifacts:/")  # no path
        runs = self.store.search_runs(["0"], "", ViewType.ACTIVE_ONLY)
        now = int(time.time() * 1000)
        run = runs[0] if runs else self.store.create_run("0", "", now, [], RUN_NAME)
        self.run_id: str = run.info.run_id

    def metrics(self, row: Mapping[str, float]) -> None:
        """The numbers of a step."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        step = int(row["step"])
        each = [Metric(dotted(name), value, now, step) for name, value in numbers(row).items()]
        self.store.log_batch(self.run_id, metrics=each, params=[], tags=[])

    def close(self) -> None:
        """Mark the run as over."""
        from mlflow.entities import RunStatus

        self.store.update_run_info(self.run_id, RunStatus.FINISHED, int(time.time() * 1000), RUN_NAME)


@final
class WeightsAndBiases:
    """An offline run in `wandb/`, to be sent by hand with `wandb sync` or never."""

    def __init__(self, folder: Path) -> None:
        os.environ["WANDB_MODE"] = "offline"  # an environment that says otherwise is not asked
        os.environ["WANDB_ERROR_REPORTING"] = "false"
        import wandb

        private = wandb.Settings(
            mode="offline", console="off", silent=True, host="none", program="none", root_dir=str(folder),
            disable_git=True, disable_code=True, x_disable_stats=True, x_disable_meta=True,
            x_disable_machine_info=True, disable_job_creation=True, x_save_requirements=False,
        )  # fmt: skip
        self.folder = folder
        self.run = wandb.init(project="foveate", name=RUN_NAME, dir=str(folder), settings=private)

    def metrics(self, row: Mapping[str, float]) -> None:
        """The numbers of a step; lines of one step become one."""
        self.run.log(numbers(row), step=int(row["step"]))

    def close(self) -> None:
        """Write what is left, and remove the library's own diaries: they name folders of this machine."""
        self.run.finish()
        for pattern in ("wandb/*.log", "wandb/*/logs/*", "wandb/latest-run"):
            for diary in self.folder.glob(pattern):
                diary.unlink()


LOGGERS: dict[str, tuple[str, Callable[[Path], Logger]]] = {
    "tensorboard": ("tensorboard", TensorBoard),
    "mlflow": ("mlflow", MLflow),
    "wandb": ("wandb", WeightsAndBiases),
}


def names_of(text: str) -> list[str]:
    """The loggers that `--loggers` names, all known and installed."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in LOGGERS:
            raise FoveateError(f"--loggers {name}: accepted are {', '.join(LOGGERS)}, separated by commas.")
        if find_spec(LOGGERS[name][0]) is None:
            raise FoveateError(f"--loggers {name}: {name} is not installed: pip install 'foveate[loggers]'.")
    return names


def open_loggers(text: str, folder: Path) -> list[Logger]:
    """Those that `--loggers` names, in a run folder."""
    return [LOGGERS[name][1](folder) for name in names_of(text)]

"""A task and its moving average: what training with unlabelled images has whatever the task answers."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import ClassVar

from foveate.core.contracts import Draw, Trainable
from foveate.core.tasks import Task
from foveate.core.types import Batch, CropSpec, FoveateError, Progress
from foveate.nets.ema import follow, frozen_copy, risen
from foveate.nets.layers import running_statistics
from foveate.train.semi.settings import SemiConfig


class Taught(Trainable):
    """The task is trained, its average teaches.

    Rows 2k and 2k+1 of a batch are a pair: two labelled samples at first, later a labelled and an unlabelled.
    A leaf narrows the type of `task` and `teacher`.
    """

    sample_size: ClassVar[
        int
    ]  # fixed samples that health looks at: a window holds many answers, an image one

    def __init__(self, task: Task, config: SemiConfig) -> None:
        super().__init__()
        if len(task.crops) != 1:
            raise FoveateError(
                f"--unlabelled: {task.config.name} reads {len(task.crops)} kinds of windows; 1 is accepted."
            )
        self.task, self.config = task, config
        self.teacher = frozen_copy(task)
        (self.crop,) = task.crops

    @property
    def crops(self) -> Mapping[str, CropSpec]:
        """The task's."""
        return self.task.crops

    @property
    def draws(self) -> Sequence[Draw]:
        """The task's."""
        return self.task.draws

    @property
    def judged(self) -> Task:
        """What is validated and exported."""
        return self.teacher if self.config.weights == "teacher" else self.task

    @abstractmethod
    def measure(self, batch: Batch) -> dict[str, float]:
        """What the pseudo-labels of fixed samples say; changes nothing."""

    def after_step(self, progress: Progress) -> None:
        """The average follows, at first more closely."""
        follow(self.teacher, self.task, risen(self.config.momentum, progress))


@contextmanager
def labelling(network: Task, norm: str) -> Iterator[None]:
    """Inside the context a network normalises with the statistics that are wanted, and writes none."""
    was = network.training
    network.train(norm == "batch")
    try:
        with running_statistics(network, update=False):
            yield
    finally:
        network.train(was)

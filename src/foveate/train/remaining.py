"""How long a training still takes: its steps, and what is done between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import final


@final
@dataclass(kw_only=True)
class Remaining:
    """Adds up what steps and the work between them have taken so far, and what of both is still to come.

    Attributes:
        total: Steps of the run.
        every: Work between steps -> after how many steps it is done, and after the last one too. Other work
            is expected as often as it has been done so far.
        begun: The step at which this process began.
    """

    total: int
    every: Mapping[str, int] = field(default_factory=dict)
    begun: int = 0
    per_step: float = 0.0
    spent: dict[str, tuple[int, float]] = field(default_factory=dict)  # work -> how often, seconds

    def stepped(self, seconds: float) -> None:
        """A step took so long, without the work after it; the newest count most."""
        self.per_step = (self.per_step + seconds) / 2 if self.per_step else seconds

    def did(self, work: str, seconds: float) -> None:
        """Some work between two steps took so long."""
        count, before = self.spent.get(work, (0, 0.0))
        self.spent[work] = count + 1, before + seconds

    def still(self, work: str, step: int) -> int:
        """How often some work is still to be done after a step.

        >>> left = Remaining(total=25, every={"validation": 10})
        >>> [left.still("validation", step) for step in (0, 9, 10, 20, 25)]
        [3, 3, 2, 1, 0]
        """
        number = self.every[work]
        if not number or step >= self.total:
            return 0
        return self.total // number - step // number + (self.total % number > 0)

    def seconds(self, step: int) -> float:
        """Seconds to the end of the run, with all that has been measured."""
        to_come, done = self.total - step, max(1, step - self.begun)
        between = sum(
            seconds / count * self.still(work, step) if work in self.every else seconds / done * to_come
            for work, (count, seconds) in self.spent.items()
        )
        return to_come * self.per_step + between

    def shown(self, step: int) -> str:
        """For people: the time, and what of the work to come it does not hold because none was done yet."""
        left = timedelta(seconds=round(self.seconds(step)))
        unknown = [work for work in self.every if work not in self.spent and self.still(work, step)]
        return f"{left} left" + (f", {' and '.join(unknown)} not counted yet" if unknown else "")

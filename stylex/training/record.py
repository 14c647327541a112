"""What a training run has logged, as far as those need it who watch it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

RECENT = 60  # values kept of every figure: more than any rule looks back


@dataclass
class Record:
    """What was logged so far, in plain values that a checkpoint can hold.

    Attributes:
        step: Of the latest figures.
        latest: Every figure's latest value, finite or not.
        recent: Every figure's last finite values.
        first: Its first.
        least: Its smallest.
        most: Its largest.
        count: How many there were.
    """

    step: int = 0
    latest: dict[str, float] = field(default_factory=dict)
    recent: dict[str, list[float]] = field(default_factory=dict)
    first: dict[str, float] = field(default_factory=dict)
    least: dict[str, float] = field(default_factory=dict)
    most: dict[str, float] = field(default_factory=dict)
    count: dict[str, int] = field(default_factory=dict)

    def add(self, step: int, metrics: Mapping[str, float]) -> None:
        """Takes down what was logged at a step."""
        self.step = step
        for name, value in metrics.items():
            self.latest[name] = float(value)
            if math.isfinite(value):
                self.recent[name] = [*self.recent.get(name, []), float(value)][-RECENT:]
                self.first.setdefault(name, float(value))
                self.least[name] = min(value, self.least.get(name, math.inf))
                self.most[name] = max(value, self.most.get(name, -math.inf))
                self.count[name] = self.count.get(name, 0) + 1

    def last(self, name: str, count: int) -> list[float]:
        """The last values of a figure, oldest first; none if there are fewer."""
        values = self.recent.get(name, [])
        return values[-count:] if len(values) >= count else []

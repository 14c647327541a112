"""What all metrics of counterfactuals share: each is reported twice, with both denominators.

A metric over the images that flip alone hides those that do not. So every update says which
counterfactuals are valid (the classifier calls them the target), and every result has two
estimates: over all images and over the valid ones.
"""

import math
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torchmetrics import Metric

from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share


@dataclass(frozen=True)
class Scores:
    """A metric's two figures.

    Attributes:
        over_all: Over all images.
        over_valid: Over those whose counterfactual the classifier calls the target.
    """

    over_all: Estimate
    over_valid: Estimate


class CounterfactualMetric(Metric):
    """Keeps which counterfactuals are valid; a subclass estimates a figure of some rows.

    `compute` gives plain numbers, as loggers want them: for `all` and `valid` the figure, its
    interval's ends `_low` and `_high`, and its denominator `_count`. What cannot be had is NaN.
    `scores` gives the same as estimates.
    """

    is_differentiable = False
    full_state_update = False
    valid: list[Tensor] | Tensor

    def __init__(self, **settings: Any) -> None:
        """Adds the state.

        Args:
            settings: torchmetrics' own, such as `sync_on_compute`.
        """
        super().__init__(**settings)
        self.add_state("valid", default=[], dist_reduce_fx="cat")

    @abstractmethod
    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Estimates the figure over some of the counterfactuals seen so far."""

    def compute(self) -> dict[str, Tensor]:
        """Gives the figures over all images and over the valid ones."""
        valid = joined(self.valid).bool()
        return {
            **_as_numbers("all", self.estimate(torch.ones_like(valid))),
            **_as_numbers("valid", self.estimate(valid)),
        }

    def scores(self) -> Scores:
        """Computes, and gives the figures as estimates."""
        numbers = self.compute()
        return Scores(_as_estimate("all", numbers), _as_estimate("valid", numbers))


class PerImageMetric(CounterfactualMetric):
    """Keeps one value an image; its figure is their mean.

    Attributes:
        is_share: Whether the values are 0 or 1, so that the interval is Wilson's.
    """

    is_share = False
    values: list[Tensor] | Tensor

    def __init__(self, **settings: Any) -> None:
        """Adds the state.

        Args:
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.add_state("values", default=[], dist_reduce_fx="cat")

    def keep(self, values: Float[Tensor, " b"] | Bool[Tensor, " b"], valid: Tensor) -> None:
        """Keeps the values of a batch.

        Raises:
            InputError: If a value is not finite.
        """
        if not values.isfinite().all():
            raise InputError(
                f"{type(self).__name__} must be finite for every image, got NaN or infinity; "
                "check the network that gives it"
            )
        assert len(values) == len(valid)
        assert isinstance(self.values, list)
        assert isinstance(self.valid, list)
        self.values.append(values.detach().double())
        self.valid.append(valid)

    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Gives mean or share over some images, with its interval."""
        values = joined(self.values)[rows]
        return share(values > 0.5) if self.is_share else mean(values.float())


def joined(state: list[Tensor] | Tensor) -> Tensor:
    """Joins a list state; processes that met have joined it already."""
    parts = [state] if isinstance(state, Tensor) else state
    return torch.cat(parts) if parts else torch.zeros(0)


def _as_numbers(name: str, estimate: Estimate) -> dict[str, Tensor]:
    low, high = estimate.interval or (math.nan, math.nan)
    value = math.nan if estimate.value is None else estimate.value
    numbers = {"": value, "_low": low, "_high": high, "_count": float(estimate.num_images)}
    return {
        name + part: torch.tensor(number, dtype=torch.float64) for part, number in numbers.items()
    }


def _as_estimate(name: str, numbers: Mapping[str, Tensor]) -> Estimate:
    value, low, high, count = (
        float(numbers[name + part]) for part in ("", "_low", "_high", "_count")
    )
    return Estimate(
        None if math.isnan(value) else value,
        int(count),
        None if math.isnan(low) else (low, high),
    )

"""How well a reader tells each factor: pure functions of readings and true values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.data.drawn import Factor, Values
from stylex.estimates import Estimate

NUM_RESAMPLES = 500


@dataclass(frozen=True)
class Legibility:
    """How well one factor is read, over the images in which it can be seen.

    Attributes:
        factor: Its name.
        is_binary: Whether the score is the balanced accuracy; else it is R².
        score: 1 is perfect; 0.5 (balanced accuracy) or 0 (R²) is blind.
        error: Root mean square error of the reading, in spreads of the factor.
    """

    factor: str
    is_binary: bool
    score: Estimate
    error: float


def legibility(
    readings: Values, values: Values, seen: Bool[Tensor, "n f"], factors: Sequence[Factor]
) -> tuple[Legibility, ...]:
    """Scores of every factor, with intervals by a bootstrap over images drawn with a fixed seed.

    Args:
        readings: As `Reader.read` gives them.
        values: The truth.
        seen: Where a factor can be seen.
        factors: In the order of the values.
    """
    found = []
    for i, factor in enumerate(factors):
        there = seen[:, i]
        read, true = readings[there, i].double(), values[there, i].double()
        score = balanced_accuracy if factor.is_binary else determination
        error = float((read - true).square().mean().sqrt() / factor.spread)
        found.append(
            Legibility(factor.name, factor.is_binary, _bootstrap(score, read, true), error)
        )
    return tuple(found)


def determination(
    read: Float[Tensor, " n"], true: Float[Tensor, " n"], weights: Float[Tensor, "r n"]
) -> Float[Tensor, " r"]:
    """R²: 1 less the squared error as a share of the variance, under each row of weights."""
    total = weights.sum(dim=1)
    variance = weights @ true.square() - (weights @ true).square() / total
    return 1 - weights @ (read - true).square() / variance


def balanced_accuracy(
    read: Float[Tensor, " n"], true: Float[Tensor, " n"], weights: Float[Tensor, "r n"]
) -> Float[Tensor, " r"]:
    """Mean of the accuracies on images with the factor and without, under each row of weights."""
    right = ((read > 0.5) == (true > 0.5)).double()
    there, absent = true, 1 - true
    return (
        weights @ (right * there) / (weights @ there)
        + weights @ (right * absent) / (weights @ absent)
    ) / 2


def _bootstrap(
    score: Any,  # noqa: ANN401  either of the two functions above
    read: Float[Tensor, " n"],
    true: Float[Tensor, " n"],
) -> Estimate:
    count = len(true)
    value = float(score(read, true, torch.ones(1, count, dtype=torch.float64)))
    if value != value:  # one kind of image alone, or none
        return Estimate(None, count, None)
    random = torch.Generator().manual_seed(0)
    drawn = torch.randint(count, (NUM_RESAMPLES, count), generator=random)
    weights = torch.zeros(NUM_RESAMPLES, count, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.ones_like(weights))
    resampled = score(read, true, weights)
    limits = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = resampled[resampled.isfinite()].quantile(limits).tolist()
    return Estimate(value, count, (low, high))


def read_legibility(facts: Mapping[str, Any]) -> Legibility:
    """A score from a file.

    Raises:
        KeyError: If it is none.
    """
    score = facts["score"]
    interval = tuple(score["interval"]) if score["interval"] else None
    estimate = Estimate(score["value"], score["num_images"], interval)
    return Legibility(facts["factor"], facts["is_binary"], estimate, facts["error"])

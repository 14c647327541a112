"""Figures with their denominator and interval."""

import math
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Z_95 = 1.959963984540054  # of the standard normal distribution
NUM_RESAMPLES = 1000


@dataclass(frozen=True)
class Estimate:
    """A figure measured on images.

    Attributes:
        value: The figure; none when there was no image to measure on.
        num_images: Its denominator.
        interval: 95 % interval: Wilson's for a share, a bootstrap over images for a mean.
    """

    value: float | None
    num_images: int
    interval: tuple[float, float] | None

    def as_json(self) -> dict[str, object]:
        """The three parts by name."""
        return asdict(self)


def share(flags: Bool[Tensor, " n"]) -> Estimate:
    """Share of true flags with Wilson's interval (Wilson 1927)."""
    count = len(flags)
    if not count:
        return Estimate(None, 0, None)
    p = float(flags.double().mean())
    centre = (p + Z_95**2 / (2 * count)) / (1 + Z_95**2 / count)
    half = Z_95 / (1 + Z_95**2 / count) * math.sqrt(p * (1 - p) / count + Z_95**2 / (4 * count**2))
    return Estimate(p, count, (max(0.0, centre - half), min(1.0, centre + half)))


def mean(values: Float[Tensor, " n"]) -> Estimate:
    """Mean with a percentile bootstrap over images, drawn with a fixed seed."""
    count = len(values)
    if not count:
        return Estimate(None, 0, None)
    values = values.double().cpu()
    generator = torch.Generator().manual_seed(0)
    means = torch.stack(
        [
            values[torch.randint(count, (count,), generator=generator)].mean()
            for _ in range(NUM_RESAMPLES)
        ]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(values.mean()), count, (low, high))

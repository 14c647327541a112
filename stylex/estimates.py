"""Figures with their denominator and interval; ranks and p-values."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.errors import InputError

Z_95 = 1.959963984540054  # of the standard normal distribution
NUM_RESAMPLES = 1000
MAX_DRAWS = 1_000_000  # indices held at once: 8 MB
NUM_SPLITS = 200


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


@dataclass(frozen=True)
class RankStability:
    """Ranks (1 is the largest mean effect) of an attribute in random halves of the images.

    Attributes:
        median: Over all halves; ties share the mean of their ranks.
        interval: Quantiles 5 % and 95 % over all halves; all images together rank more stably.
    """

    median: float
    interval: tuple[float, float]


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
    means = torch.cat(
        [
            values[torch.randint(count, (len(part), count), generator=generator)].mean(dim=1)
            for part in torch.arange(NUM_RESAMPLES).split(max(1, MAX_DRAWS // count))
        ]
    )
    low, high = torch.quantile(means, torch.tensor([0.025, 0.975], dtype=torch.float64)).tolist()
    return Estimate(float(values.mean()), count, (low, high))


def rank_stability(
    effects: Float[Tensor, "n a"], seed: int
) -> tuple[tuple[RankStability, ...], float | None]:
    """How far the order of attributes by mean effect depends on the images drawn.

    200 times the images are split into two random halves that share none (an odd one is left
    out), and the attributes are ranked in each. Assumes that the images are independent draws;
    splits reuse them, so the correlation's mean is a figure without an interval.

    Args:
        effects: Of the attributes, on at least two images that did not select them.
        seed: Of the splits.

    Returns:
        Of every attribute, its ranks in the 400 halves; and the mean over the splits of the
        Spearman correlation between the two orders (0 where a half ties all attributes), none for
        one attribute.

    Raises:
        InputError: If there are fewer than two images.
    """
    num_images, num_attributes = effects.shape
    if num_images < 2:
        raise InputError(
            f"split-half stability needs at least 2 images, got {num_images}; give more images"
        )
    generator = torch.Generator().manual_seed(seed)
    half = num_images // 2
    member = torch.zeros(NUM_SPLITS, 2, num_images, dtype=torch.float64)
    for split in member:
        order = torch.randperm(num_images, generator=generator)
        split[0, order[:half]] = split[1, order[half : 2 * half]] = 1 / half
    means = member @ effects.double()  # [splits 2 a]
    ranks = _midranks(means)
    limits = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    low, median, high = ranks.flatten(0, 1).quantile(limits, dim=0).tolist()
    stabilities = tuple(
        RankStability(m, (lo, hi)) for m, lo, hi in zip(median, low, high, strict=True)
    )
    if num_attributes < 2:
        return stabilities, None
    return stabilities, float(spearman(means[:, 0], means[:, 1]).mean())


def spearman(first: Float[Tensor, "*m a"], second: Float[Tensor, "*m a"]) -> Float[Tensor, "*m"]:
    """Correlations of two orders; equal values share their ranks, 0 where all of either are equal.

    Source: Spearman 1904.
    """
    one, two = (_midranks(values) - (values.shape[-1] + 1) / 2 for values in (first, second))
    norm = (one.square().sum(dim=-1) * two.square().sum(dim=-1)).sqrt()
    return (one * two).sum(dim=-1) / norm.clamp(min=1e-9)


def _midranks(values: Float[Tensor, "*m a"]) -> Float[Tensor, "*m a"]:
    """Rank 1 is the largest; equal values share the mean of their ranks."""
    values = values.contiguous()
    ordered = values.sort(dim=-1).values
    smaller = torch.searchsorted(ordered, values)
    smaller_or_equal = torch.searchsorted(ordered, values, right=True)
    return values.shape[-1] - (smaller + smaller_or_equal - 1).double() / 2


def p_value(observed: float, null: Float[Tensor, " r"]) -> float:
    """One-sided p of a randomisation test: (1 + number of null values ≥ observed) / (1 + number).

    Never below 1 / (1 + r). Assumes that under the null the observed value is one more draw of the
    same kind. Source: Phipson & Smyth 2010.

    Args:
        observed: The statistic.
        null: The same statistic under the null.
    """
    return (1 + int((null >= observed).sum())) / (1 + len(null))


def q_values(p: Sequence[float]) -> list[float]:
    """Adjusted p-values of Benjamini & Hochberg (1995), in the order given.

    Calling q ≤ 0.05 significant keeps the expected share of false calls at 0.05, if the tests are
    independent or depend positively (Benjamini & Yekutieli 2001).

    Raises:
        InputError: If a p-value is not in (0, 1].
    """
    for value in p:
        if not 0 < value <= 1:
            raise InputError(f"p-values must be in (0, 1], got {value}; give probabilities")
    if not p:
        return []
    values, order = torch.tensor(p, dtype=torch.float64).sort()
    scaled = values * len(p) / torch.arange(1, len(p) + 1)
    adjusted = scaled.flip(0).cummin(dim=0).values.flip(0)
    return torch.empty_like(adjusted).scatter(0, order, adjusted).tolist()

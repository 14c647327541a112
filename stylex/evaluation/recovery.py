"""Whether the directions of a method are the factors that a classifier relies on.

Pure functions of numbers. A direction's profile is the mean change of every factor's reading under
it, in spreads; its main factor is the one that it moved most. Of equal moves the first factor
counts; a profile of zeros has no main factor, and counts as a direction that found nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, spearman

NONE = -1  # the main factor of a profile of zeros
NUM_RESAMPLES = 1000
_BOUNDS = {"rank_agreement": (-1.0, 1.0)}  # the other scores are shares


@dataclass(frozen=True)
class Recovery:
    """Scores of one search's first K directions; none where a score is undefined.

    Attributes:
        recovery: Share of the relied-upon factors that are the main factor of a direction.
        purity: Mean share of a direction's movement that lies in its main factor; 0 for a direction
            that moves nothing.
        precision: Share of the directions whose main factor is relied upon.
        distractor_rate: 1 less the precision.
        distractor_movement: Mean share of a direction's movement that lies in factors that are not
            relied upon, over directions that move something.
        rank_agreement: Spearman's correlation, over all factors, of the largest effect of a
            direction whose main factor it is (0 if there is none) with the reliance on it, both
            without sign; 0 where either is the same for all.
        sign_accuracy: Of the directions whose main factor is relied upon, the share whose effect
            has the sign that the factor's movement and the reliance on it foretell.
        directions: How many were scored; fewer than K if the method has fewer.
    """

    recovery: float | None
    purity: float | None
    precision: float | None
    distractor_rate: float | None
    distractor_movement: float | None
    rank_agreement: float | None
    sign_accuracy: float | None
    directions: int


@dataclass(frozen=True)
class Moves:
    """What a search's directions did to every image, in the method's order.

    Attributes:
        movement: Change of the readings from the reconstruction to the edited image, in spreads,
            [k n f].
        effects: Change of the target's log odds, in logits, [k n].
    """

    movement: Float[Tensor, "k n f"]
    effects: Float[Tensor, "k n"]


def moves(
    readings: Float[Tensor, "k n f"],
    base: Float[Tensor, "n f"],
    odds: Float[Tensor, "k n"],
    base_odds: Float[Tensor, " n"],
    spreads: Float[Tensor, " f"],
) -> Moves:
    """Differences of edited images from their reconstructions, in spreads and logits."""
    return Moves((readings - base) / spreads, odds - base_odds)


def main_factors(profile: Float[Tensor, "*r k f"]) -> Int64[Tensor, "*r k"]:
    """Position of the factor that each direction moved most; -1 if it moved none."""
    moved = profile.abs()
    return torch.where(moved.sum(dim=-1) > 0, moved.argmax(dim=-1), NONE)


def recover(
    profile: Float[Tensor, "k f"],
    effects: Float[Tensor, " k"],
    reliance: Float[Tensor, " f"],
    relied: Bool[Tensor, " f"],
    most: int,
) -> Recovery:
    """Scores the first directions of a method.

    Args:
        profile: Mean movement of every factor under every direction, in spreads.
        effects: Mean change of the target's log odds under every direction.
        reliance: Measured effect of every factor on the target.
        relied: Which factors the classifier relies on.
        most: K, at least 1; a method with fewer directions is scored on those it has.

    Raises:
        InputError: If `most` is below 1.
    """
    if most < 1:
        raise InputError(f"directions are scored from 1 upwards, got {most}; give 1 or more")
    profile, effects = profile[:most], effects[:most]
    scores = _scores(profile[None], effects[None], reliance, relied)
    values = {name: _known(float(score)) for name, score in scores.items()}
    return Recovery(**values, directions=len(profile))


def _known(score: float) -> float | None:
    return None if math.isnan(score) else score


def _scores(
    profile: Float[Tensor, "r k f"],
    effects: Float[Tensor, "r k"],
    reliance: Float[Tensor, " f"],
    relied: Bool[Tensor, " f"],
) -> dict[str, Float[Tensor, " r"]]:
    """The scores of several resamples at once; not a number where one is undefined."""
    profile, effects, reliance = profile.double(), effects.double(), reliance.double()
    total = profile.abs().sum(dim=2, keepdim=True)
    shares = profile.abs() / total.clamp(min=1e-300)  # [r k f]
    is_main = main_factors(profile)[:, :, None] == torch.arange(len(relied))  # [r k f]
    is_known = (is_main & relied).any(dim=2)  # [r k]
    moves_any = is_main.any(dim=2)
    none = profile.new_zeros(len(profile), 1, len(relied))  # so that the largest of none is 0
    best = torch.cat((none, is_main * effects.abs()[:, :, None]), dim=1).amax(dim=1)
    foretold = (is_main * profile * reliance).sum(dim=2)
    is_right = (effects.sign() == foretold.sign()) & is_known
    precision = is_known.double().mean(dim=1)
    return {
        "recovery": is_main.any(dim=1)[:, relied].double().mean(dim=1),
        "purity": shares.amax(dim=2).mean(dim=1),
        "precision": precision,
        "distractor_rate": 1 - precision,
        "distractor_movement": shares[:, :, ~relied].sum(dim=(1, 2)) / moves_any.sum(dim=1),
        "rank_agreement": spearman(best, reliance.abs().expand(len(best), -1)),
        "sign_accuracy": is_right.double().sum(dim=1) / is_known.sum(dim=1),
    }


def recover_mean(
    found: Moves, reliance: Float[Tensor, " f"], relied: Bool[Tensor, " f"], most: int
) -> Recovery:
    """Scores of one search over all its images."""
    profile, effects = found.movement.mean(dim=1), found.effects.mean(dim=1)
    return recover(profile, effects, reliance, relied, most)


def over_images(
    found: Moves,
    reliance: Float[Tensor, " f"],
    relied: Bool[Tensor, " f"],
    most: int,
    errors: Float[Tensor, " f"],
    seed: int,
) -> dict[str, Estimate]:
    """Scores of one search, with intervals by a bootstrap over images that blurs the readings.

    Each resample draws images and adds to each factor's mean movement the error that a mean of as
    many differences of two readings has, as if the reader erred independently on every image.
    That noise can only spread movement over factors, so an interval is widened to hold its value.

    Args:
        found: What the directions did.
        reliance: Measured effect of every factor on the target.
        relied: Which factors the classifier relies on.
        most: K.
        errors: Root mean square error of the reader, of every factor, in spreads.
        seed: Of the resamples.
    """
    found = Moves(found.movement[:most].double(), found.effects[:most].double())
    values = asdict(recover_mean(found, reliance, relied, most))
    num_images = found.movement.shape[1]
    if not num_images:
        return {name: Estimate(None, 0, None) for name in values}
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randint(num_images, (NUM_RESAMPLES, num_images), generator=random)
    weights = torch.zeros(NUM_RESAMPLES, num_images, dtype=torch.float64)
    weights.scatter_add_(1, drawn, torch.full_like(weights, 1 / num_images))
    profile = torch.einsum("knf,rn->rkf", found.movement, weights)
    noise = torch.randn(profile.shape, dtype=torch.float64, generator=random)
    profile += noise * errors.double() * math.sqrt(2 / num_images)
    resampled = _scores(profile, weights @ found.effects.T, reliance, relied)
    return {
        name: Estimate(value, num_images, _limits(value, resampled.get(name)))
        for name, value in values.items()
    }


def _limits(
    value: float | None, resampled: Float[Tensor, " r"] | None
) -> tuple[float, float] | None:
    if value is None or resampled is None:
        return None
    limits = torch.tensor([0.025, 0.975], dtype=torch.float64)
    low, high = resampled[~resampled.isnan()].quantile(limits).tolist()
    return min(low, value), max(high, value)


def over_seeds(scores: Sequence[Recovery]) -> dict[str, Estimate]:
    """Means over searches of several seeds, with Student's t intervals.

    `num_images` counts the seeds. A seed whose score is undefined is left out of that score. One
    seed has no interval. Intervals end where scores do.
    """
    rows = [asdict(score) for score in scores]
    names = [name for name in Recovery.__dataclass_fields__]
    return {
        name: mean_of_seeds(
            [row[name] for row in rows if row[name] is not None],
            (0.0, math.inf) if name == "directions" else _BOUNDS.get(name, (0.0, 1.0)),
        )
        for name in names
    }


def mean_of_seeds(values: Sequence[float], bounds: tuple[float, float]) -> Estimate:
    """A mean over seeds with Student's 95 % interval, cut at the bounds; none for one seed."""
    count = len(values)
    if not count:
        return Estimate(None, 0, None)
    each = torch.tensor(values, dtype=torch.float64)
    centre = float(each.mean())
    if count == 1:
        return Estimate(centre, 1, None)
    half = student_t(count - 1) * float(each.std()) / math.sqrt(count)
    return Estimate(centre, count, (max(bounds[0], centre - half), min(bounds[1], centre + half)))


def student_t(freedom: int) -> float:
    """Quantile 97.5 % of Student's t distribution.

    With t = √ν tan θ the density is proportional to cos^(ν−1) θ; the integral is found on a grid.
    """
    angles = torch.linspace(0, math.pi / 2, 200_001, dtype=torch.float64)
    below = torch.cumulative_trapezoid(angles.cos() ** (freedom - 1), angles)
    place = int(torch.searchsorted(below, 0.95 * below[-1]))
    return math.sqrt(freedom) * math.tan(float(angles[place + 1]))

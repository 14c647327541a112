"""What speaks for the reported attributes, on images that their selection did not see.

A selection keeps the best of many, so figures on the images selected on flatter it: the rows given
to `gather` are the held-out ones, called anything but the target. First come pure functions of
tables of effects; `gather` measures and calls them.
Source of the random classifiers: Adebayo et al. 2018 (arXiv:1810.03292).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import (
    Estimate,
    RankStability,
    mean,
    p_value,
    q_values,
    rank_stability,
    share,
)
from stylex.model import StylEx
from stylex.search.counterfactuals import move
from stylex.search.edits import Edits
from stylex.search.engine import Evaluator
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics

DOSES = (0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0)  # multiples of the search's strength
FIRST_STEPS = 2  # first part of a dose-response curve; its last step is the last part
SATURATED = 0.25  # of the first part's slope
NEAR = 0.1  # of a coordinate's range
SIGNIFICANT = 0.05  # false discovery rate
NUM_PAIRED = 10  # first attributes whose pairs are measured
MAX_PAIR_IMAGES = 50


@dataclass(frozen=True)
class Dose:
    """Mean change of the target's logit at one strength."""

    strength: float
    effect: Estimate


@dataclass(frozen=True)
class DoseResponse:
    """Effect against strength; see `dose_response` for the rules.

    Attributes:
        doses: At rising strengths.
        monotone: Whether no step falls.
        saturating: Whether it is monotone and flattens.
    """

    doses: tuple[Dose, ...]
    monotone: bool
    saturating: bool


@dataclass(frozen=True)
class ExtremePosition:
    """Where the value that an edit moves to lies among the reference images' own.

    Attributes:
        z: Distance from their mean, in their standard deviations; negative below it.
        near: Share of them within 10 % of their range of it; a single one is a lone outlier.
    """

    z: float
    near: Estimate


@dataclass(frozen=True)
class Evidence:
    """What speaks for one attribute; images are those held out.

    Attributes:
        effect: Mean change of the target's logit.
        moved: Share of images on which that change is above a threshold.
        flips: Share of images whose decision becomes the target by this attribute alone.
        rank: Of the attribute among those reported; none for one image.
        dose_response: Effect against strength.
        p: Against classifiers of random weights, one-sided; none for one image, or without them.
            See `gather`.
        q: p adjusted for the number of attributes reported; none where p is.
        significant: Whether q is at most 0.05; none where p is.
        extreme: Position of the extreme among all reference images.
    """

    effect: Estimate
    moved: Estimate
    flips: Estimate
    rank: RankStability | None
    dose_response: DoseResponse
    p: float | None
    q: float | None
    significant: bool | None
    extreme: ExtremePosition

    def as_json(self) -> dict[str, Any]:
        """All figures by name."""
        return asdict(self)


@dataclass(frozen=True)
class Interaction:
    """Two attributes together.

    Attributes:
        first: Position of one among the attributes reported, from 1.
        second: Position of the other.
        flips: Share of images whose decision becomes the target by both and by neither alone.
        effect: Mean of what both change the target's logit by, less the sum of what each does;
            above 0 they help each other.
    """

    first: int
    second: int
    flips: Estimate
    effect: Estimate

    def as_json(self) -> dict[str, Any]:
        """All figures by name."""
        return asdict(self)


class Findings(NamedTuple):
    """What `gather` gives.

    Attributes:
        evidence: Of every pick, in their order.
        rank_correlation: Mean Spearman correlation between the orders that the two halves of a
            random split give the attributes; none for one image or one attribute.
        interactions: Of pairs among the first ten picks; empty for one image.
    """

    evidence: tuple[Evidence, ...]
    rank_correlation: float | None
    interactions: tuple[Interaction, ...]


def dose_response(strengths: Sequence[float], effects: Float[Tensor, "d n"]) -> DoseResponse:
    """Effect against strength, from no effect at strength 0.

    A step falls if the 95 % interval of its mean change over images (paired: the same images at
    both strengths) lies below 0; the curve is monotone if no step does. It is saturating if it is
    monotone and the mean slope of its last step is below a quarter of that over its first two
    steps, from 0 on; slopes are per unit of strength. With `DOSES` these are 1.5 to 2 and 0 to
    0.5. One image is judged by its own curve.

    Args:
        strengths: Above 0, rising; at least three.
        effects: On the target, at each strength on each image.

    Raises:
        InputError: If the strengths are too few or do not rise from 0.
    """
    grid = (0.0, *strengths)
    if len(strengths) <= FIRST_STEPS or any(b <= a for a, b in zip(grid, grid[1:], strict=False)):
        raise InputError(
            f"strengths of a dose-response curve must be at least {FIRST_STEPS + 1} numbers that "
            f"rise from 0, got {list(strengths)}; sort them"
        )
    effects = effects.double()
    steps = effects.diff(dim=0, prepend=torch.zeros_like(effects[:1]))
    monotone = not any(_falls(step) for step in steps)
    last = float(steps[-1].mean()) / (grid[-1] - grid[-2])
    first = float(effects[FIRST_STEPS - 1].mean()) / grid[FIRST_STEPS]
    return DoseResponse(
        tuple(Dose(s, mean(e)) for s, e in zip(strengths, effects, strict=True)),
        monotone,
        monotone and last < SATURATED * first,
    )


def _falls(changes: Float[Tensor, " n"]) -> bool:
    """Whether the 95 % interval of the mean lies below 0."""
    interval = mean(changes).interval
    return interval is not None and interval[1] < 0


def standardised_effects(
    changes: Float[Tensor, "*edits n k"], base_logits: Float[Tensor, "*any n k"]
) -> Float[Tensor, "*edits k"]:
    """Mean change of each logit over its standard deviation on the unedited images: no scale.

    0 where the logit is the same on all images: such a classifier sees nothing to move.

    Args:
        changes: By edits, on at least two images.
        base_logits: Of the unedited reconstructions; leading axes broadcast.
    """
    spread = base_logits.std(dim=-2)
    constant = base_logits.amax(dim=-2) == base_logits.amin(dim=-2)
    return (changes.mean(dim=-2) / spread).masked_fill(constant, 0.0)


def extreme_position(values: Float[Tensor, " n"], extreme: float) -> ExtremePosition:
    """Where an extreme lies among values.

    Args:
        values: Of a coordinate, on all reference images.
        extreme: The value that an edit of strength 1 sets it to.
    """
    values = values.double()
    length = float(values.max() - values.min())
    away = extreme - float(values.mean())
    return ExtremePosition(
        away / float(values.std(correction=0)) if length else 0.0,
        share((values - extreme).abs() <= NEAR * length),
    )


def interaction(
    base_logits: Float[Tensor, "n k"],
    alone: tuple[Float[Tensor, "n k"], Float[Tensor, "n k"]],
    together: Float[Tensor, "n k"],
    target: int,
) -> tuple[Estimate, Estimate]:
    """What two edits do together beyond what each does alone.

    Args:
        base_logits: Of the unedited reconstructions, called anything but the target.
        alone: Changes of the logits by each edit.
        together: Changes by both.
        target: The class to move to.

    Returns:
        Share of images flipped by both and by neither alone; mean interaction effect in logits.
    """
    first, second, both = ((base_logits + c).argmax(dim=1) == target for c in (*alone, together))
    beyond = (together - alone[0] - alone[1])[:, target]
    return share(both & ~first & ~second), mean(beyond)


def gather(
    model: StylEx,
    engine: Evaluator,
    statistics: Statistics,
    picks: Sequence[Pick],
    rows: Int64[Tensor, " n"],
    target: int,
    *,
    strength: float,
    moved: float,
    num_random: int,
    seed: int,
) -> Findings:
    """Measures the evidence for attributes.

    Costs a pass per attribute, image and dose (7), one more whose picture all random classifiers
    see, and one per pair and image, of at most 50 images.

    p asks whether the classifier reacts to an edit more than its own architecture does with its
    weights permuted. The statistic is `standardised_effects` on the held-out images; the null pool
    of an attribute holds that of the same edits for every class of every random classifier, each
    taken as a draw of its own, so p is at least 1 / (1 + num_random · classes). q assumes that
    tests which share their random classifiers depend positively. This is the test of an edit fixed
    beforehand: held-out images do not undo that the search chose these edits for this classifier,
    so p and q are optimistic. Where random classifiers were searched themselves (`fashion-32`, 30
    of them, ten best mean effects for each class), 16 % of the searches had a significant
    attribute; 5 % are meant.

    Args:
        model: The model under explanation.
        engine: Measures edits of the images of `statistics`.
        statistics: Of all reference images.
        picks: The attributes, in the order reported.
        rows: Held-out rows of `statistics`; shares and intervals of one row say little, and what
            needs two is none.
        target: The class to move to.
        strength: Of the search; dose-response goes to twice that.
        moved: An image is moved by an effect above this, in logits (the official notebook: 0.2).
        num_random: Random classifiers; 0 leaves out p, q and `significant`.
        seed: Of the random halves and the random classifiers.

    Raises:
        InputError: If there is no pick or row, or `num_random` is negative; see
            `FrozenClassifier.randomised`.
    """
    if not picks or not len(rows):
        raise InputError(
            f"evidence needs at least one attribute and one image, got {len(picks)} and "
            f"{len(rows)}; give more images"
        )
    if num_random < 0:
        raise InputError(f"num_random must be at least 0, got {num_random}; give 0 for no test")
    base = statistics.base_logits[rows]
    changes = _changes(engine, rows, picks, strength)  # [d a n k]
    single = changes[DOSES.index(1.0)]
    ranks: tuple[RankStability | None, ...] = (None,) * len(picks)
    correlation, p = None, []
    if len(rows) > 1:
        ranks, correlation = rank_stability(single[..., target].t(), seed)
    if len(rows) > 1 and num_random:
        observed = standardised_effects(single, base)[:, target].tolist()
        edited = _edited(statistics, rows, picks, strength)
        null = _null(model, edited, num_random, seed, engine.batch_size)
        p = [p_value(o, pool) for o, pool in zip(observed, null, strict=True)]
    q = q_values(p)
    evidence = tuple(
        Evidence(
            effect=mean(single[i, :, target]),
            moved=share(single[i, :, target] > moved),
            flips=share((base + single[i]).argmax(dim=1) == target),
            rank=ranks[i],
            dose_response=dose_response([strength * d for d in DOSES], changes[:, i, :, target]),
            p=p[i] if p else None,
            q=q[i] if p else None,
            significant=q[i] <= SIGNIFICANT if p else None,
            extreme=extreme_position(
                statistics.styles[:, pick.coordinate],
                float(statistics.extremes[pick.direction, pick.coordinate]),
            ),
        )
        for i, pick in enumerate(picks)
    )
    pairs = _interactions(engine, statistics, rows, picks, single, target, strength)
    return Findings(evidence, correlation, pairs)


def _changes(
    engine: Evaluator, rows: Int64[Tensor, " n"], picks: Sequence[Pick], strength: float
) -> Float[Tensor, "d a n k"]:
    """Changes of all logits by every pick alone, at every dose; one list of edits."""
    shape = (len(DOSES), len(picks), len(rows))
    dose, pick, image = torch.cartesian_prod(*(torch.arange(size) for size in shape)).unbind(dim=1)
    coordinates, directions = torch.tensor(picks)[pick].unbind(dim=1)
    strengths = strength * torch.tensor(DOSES)[dose]
    changes = engine.measure(Edits(rows[image], coordinates, directions, strengths))
    return changes.unflatten(0, shape)


def _edited(
    statistics: Statistics, rows: Int64[Tensor, " n"], picks: Sequence[Pick], strength: float
) -> Float[Tensor, "edits n s"]:
    """Styles of the images, unedited and with every pick alone."""
    styles = statistics.styles[rows]
    moved = (move(styles, [pick], statistics.extremes, strength) for pick in picks)
    return torch.stack((styles, *moved))


@torch.no_grad()
def _null(
    model: StylEx, edited: Float[Tensor, "edits n s"], num_random: int, seed: int, batch_size: int
) -> Float[Tensor, "a r"]:
    """Standardised effects of every edit on all classes of random classifiers; one synthesis."""
    classifiers = [model.classifier.randomised(seed + i) for i in range(num_random)]
    device = model.generator.const.device
    parts = []
    for styles in edited.flatten(0, 1).split(batch_size):
        images = model.render(styles.to(device))
        parts.append(torch.stack([classifier(images).cpu() for classifier in classifiers]))
    logits = torch.cat(parts, dim=1).unflatten(1, edited.shape[:2])  # [r edits n k]
    base, moved = logits[:, :1], logits[:, 1:]
    return standardised_effects(moved - base, base).transpose(0, 1).flatten(1)


def _interactions(
    engine: Evaluator,
    statistics: Statistics,
    rows: Int64[Tensor, " n"],
    picks: Sequence[Pick],
    single: Float[Tensor, "a n k"],
    target: int,
    strength: float,
) -> tuple[Interaction, ...]:
    """Of all pairs of two coordinates among the first picks, on the first images."""
    if len(rows) < 2:
        return ()
    rows, single = rows[:MAX_PAIR_IMAGES], single[:, :MAX_PAIR_IMAGES]
    styles, base = statistics.styles[rows], statistics.base_logits[rows]
    found = []
    for i, j in combinations(range(min(NUM_PAIRED, len(picks))), 2):
        if picks[i].coordinate == picks[j].coordinate:
            continue  # a coordinate has one value
        both = move(styles, [picks[i], picks[j]], statistics.extremes, strength)
        together = engine.logits(both) - base
        flips, effect = interaction(base, (single[i], single[j]), together, target)
        found.append(Interaction(i + 1, j + 1, flips, effect))
    return tuple(found)

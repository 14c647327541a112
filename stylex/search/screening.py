"""The best edit of many, found with few exact measurements.

Every edit's effect is first estimated from the gradient at the unedited image. Then every edit is
measured on a few images drawn at random (the audit), and those that may still be the best on more,
until the best one is known at a stated confidence. An edit's mean over all images is estimated by
regression: what the gradient and a few facts of the images predict for all of them, corrected by
what was measured on some.
Sources: the regression estimator, Cochran 1977, "Sampling Techniques", chapter 7; successive
    elimination, Even-Dar et al. 2006 (JMLR 7), sampled as in LUCB, Kalyanakrishnan et al. 2012.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import share
from stylex.search.edits import Edits
from stylex.search.selection import Gain, Pick

Measure = Callable[[Edits], Float[Tensor, "m k"]]

NUM_COVARIATES = 8  # principal components of logits and styles
RIDGE = 8.0  # of the regression, in images: with fewer the coefficients stay near 0
PRIOR = 6.0  # images' worth of belief that an edit varies as much as the others
CHALLENGERS, OPEN_SHARE = 16, 4  # edits measured on more images in a round: at least, or one in
STEPS = (4, 32)  # images more: as many as an edit has, but within these
FEW = 4  # audits' worth of images; a question with fewer is audited in full
STRIDE = 7919  # edits' audits begin at different images: a prime
DRAWN_AT_ONCE = 2**24  # entries of a table of images and edits
JOINT_CONFIDENCE = 0.95  # of a decision's bound


@dataclass(frozen=True)
class Screening:
    """How sure a search is before it decides.

    Attributes:
        audit_images: Images that every edit is measured on at least, half of them among those of
            the question.
        confidence: Of each comparison of two edits, one-sided.
        tolerance: Edits whose mean gains differ by no more than this, in the score's unit, are as
            good as each other.
        seed: Of the order in which images are drawn.
    """

    audit_images: int
    confidence: float
    tolerance: float
    seed: int

    def __post_init__(self) -> None:
        """Refuses settings that no screening can have."""
        if self.audit_images < 2:
            raise InputError(f"audit_images must be at least 2, got {self.audit_images}")
        if not 0.5 < self.confidence < 1:
            raise InputError(f"confidence must be between 0.5 and 1, got {self.confidence}")
        if self.tolerance < 0:
            raise InputError(f"tolerance must be at least 0, got {self.tolerance}")


@dataclass(frozen=True)
class Decision:
    """How sure a pick is.

    Attributes:
        pick: The edit with the highest mean gain.
        gain: That mean, in the score's unit.
        bound: No other edit's mean is higher by more than this, with 95 % confidence jointly over
            all edits (Bonferroni); below 0 the pick is the best.
        num_images: Images that the means are over.
    """

    pick: Pick
    gain: float
    bound: float
    num_images: int


def covariates(facts: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
    """Leading principal components of standardised facts of images, scaled to deviation 1.

    There are at most eight, and one for every eight images.
    """
    count = min(NUM_COVARIATES, len(facts) // 8, facts.shape[1])
    centred = (facts - facts.mean(dim=0)).double()
    scaled = centred / centred.std(dim=0).clamp_min(1e-6) if len(facts) > 1 else centred
    components = torch.linalg.svd(scaled, full_matrices=False).U[:, :count]
    return (components * math.sqrt(len(facts))).float()


class ScreenedTable:
    """Effects that are measured as far as a selection's questions need them.

    Assumed: an edit's errors of prediction are drawn at random from those on all images, which the
    order of drawing sees to, and their mean is nearly normal; an edit measured on few of a
    question's images errs on the others as it does on those measured.

    Attributes:
        num_images: Number of images.
        num_coordinates: Number of coordinates.
        decisions: Of every question answered, in order.
    """

    def __init__(
        self,
        measure: Measure,
        predicted: Float[Tensor, "n 2 m"],
        facts: Float[Tensor, "n c"],
        strength: float,
        screening: Screening,
    ) -> None:
        """Prepares a table of which nothing is measured.

        Args:
            measure: Exact changes of all logits by edits of these images.
            predicted: Estimates of the gain of every entry, in any scale; 0 where there is none.
            facts: Covariates of the images, see `covariates`.
            strength: Of the edits.
            screening: How sure to be.
        """
        self.num_images, _, self.num_coordinates = predicted.shape
        self.decisions: list[Decision] = []
        self._measure, self._strength, self._screening = measure, strength, screening
        scale = predicted.std().clamp_min(1e-9) if predicted.numel() > 1 else torch.tensor(1.0)
        self._predicted = (predicted / scale).clamp(-8, 8).flatten(1)  # [n a], a = 2 m
        self._facts = facts
        self._order = stratified_order(facts, screening.audit_images, screening.seed)
        self._known = torch.zeros(self._predicted.shape, dtype=torch.bool)
        self._images = self._arms = torch.zeros(0, dtype=torch.int64)
        self._effects: Tensor | None = None
        self._scored: tuple[Gain, Tensor] | None = None

    def best(self, gain: Gain, among: Bool[Tensor, " n"], free: Bool[Tensor, "2 m"]) -> Pick | None:
        """See `selection.Table`."""
        alive = free.flatten()
        if not alive.any() or not among.any():
            return None
        self._audit(alive)
        self._audit_inside(alive, among)
        z = NormalDist().inv_cdf(self._screening.confidence)
        while True:
            found = self._estimate(gain, among)
            lead = int(found.mean.masked_fill(~alive, -math.inf).argmax())
            excess = found.excess(lead, alive, z)
            rivals = excess > self._screening.tolerance
            open_ = (rivals & (found.count < found.population)).nonzero()[:, 0]
            most = max(CHALLENGERS, len(open_) // OPEN_SHARE)
            chosen = open_[excess[open_].argsort(descending=True)[:most]]
            if rivals.any() and found.count[lead] < found.population:
                chosen = torch.cat((chosen, torch.tensor([lead])))
            if not len(chosen):
                return self._decide(found, lead, alive)
            self._draw(chosen, found.count[chosen].clamp(*STEPS), among)

    def raises(self, pick: Pick, gain: Gain, among: Bool[Tensor, " n"]) -> bool:
        """See `selection.Table`; decided at the confidence of a comparison."""
        arm = self._arm(pick)
        z = NormalDist().inv_cdf(self._screening.confidence)
        alone = torch.zeros(self._known.shape[1], dtype=torch.bool)
        alone[arm] = True
        self._audit(alone)
        while True:
            found = self._estimate(gain, among)
            mean, error = float(found.mean[arm]), float(found.variance[arm]) ** 0.5
            if abs(mean) > z * error or found.count[arm] >= found.population:
                return mean > 0
            here = torch.tensor([arm])
            self._draw(here, found.count[here].clamp(*STEPS), among)

    def column(self, pick: Pick, among: Bool[Tensor, " n"]) -> Float[Tensor, "b k"]:
        """See `selection.Table`."""
        arm = self._arm(pick)
        self._draw(torch.tensor([arm]), torch.tensor([self.num_images]), among)
        here = self._arms == arm
        assert self._effects is not None
        effects = self._effects.new_zeros(self.num_images, self._effects.shape[1])
        effects[self._images[here]] = self._effects[here]
        return effects[among]

    def means(self, gain: Gain, among: Bool[Tensor, " n"]) -> Float[Tensor, "2 m"]:
        """Estimates of every edit's mean gain over some images, from what is measured by now."""
        self._audit(torch.ones(self._known.shape[1], dtype=torch.bool))
        return self._estimate(gain, among).mean.float().view(2, -1)

    def stable(self, change: float, most_share: float) -> Bool[Tensor, " n"]:
        """Images but those that surely have a greater share of entries beyond ±`change`.

        Judged on the entries of the audit, at the lower end of Wilson's 95 % interval.
        """
        self._audit(torch.ones(self._known.shape[1], dtype=torch.bool))
        assert self._effects is not None
        flags = self._effects.abs() > change
        shares = [share(flags[self._images == i].flatten()) for i in range(self.num_images)]
        return torch.tensor([s.interval is None or s.interval[0] <= most_share for s in shares])

    def _arm(self, pick: Pick) -> int:
        return pick.direction * self.num_coordinates + pick.coordinate

    def _decide(self, found: "Means", lead: int, alive: Bool[Tensor, " a"]) -> Pick | None:
        if not found.mean[lead] > 0:
            return None
        others = max(int(alive.sum()) - 1, 1)
        z = NormalDist().inv_cdf(1 - (1 - JOINT_CONFIDENCE) / others)
        bound = float(found.excess(lead, alive, z).max())
        direction, coordinate = divmod(lead, self.num_coordinates)
        pick = Pick(coordinate, direction)
        self.decisions.append(Decision(pick, float(found.mean[lead]), bound, found.population))
        return pick

    def _audit(self, alive: Bool[Tensor, " a"]) -> None:
        """Measures every edit on its first images, which begin at a place of its own."""
        least = min(self._screening.audit_images, self.num_images)
        missing = (least - self._known.sum(dim=0)).clamp_min(0) * alive
        arms = missing.nonzero()[:, 0]
        everything = torch.ones(self.num_images, dtype=torch.bool)
        self._draw(arms, missing[arms], everything, begin=arms * STRIDE)

    def _audit_inside(self, alive: Bool[Tensor, " a"], among: Bool[Tensor, " n"]) -> None:
        """Measures every edit on half as many of a question's own images; if they are few, on all.

        Of few images each is another one's stand-in no longer.
        """
        least, population = self._screening.audit_images, int(among.sum())
        least = min(least, population) if population <= FEW * least else least // 2
        inside = self._arms[among[self._images]].bincount(minlength=len(alive))
        arms = (alive & (inside < least)).nonzero()[:, 0]
        self._draw(arms, least - inside[arms], among, begin=arms * STRIDE)

    def _draw(
        self,
        arms: Int64[Tensor, " q"],
        counts: Int64[Tensor, " q"],
        among: Bool[Tensor, " n"],
        begin: Int64[Tensor, " q"] | None = None,
    ) -> None:
        """Measures edits on their next images, in the order of drawing from a place on."""
        rows = self._order[among[self._order]]
        begin = torch.zeros_like(arms) if begin is None else begin % len(rows)
        images, drawn = [], []
        for part in torch.arange(len(arms)).split(max(1, DRAWN_AT_ONCE // max(len(rows), 1))):
            place = (torch.arange(len(rows))[:, None] + begin[part]) % len(rows)
            unknown = ~self._known[rows[place], arms[part]]  # [rows q]
            taken = unknown & (unknown.cumsum(dim=0) <= counts[part])
            position, column = taken.nonzero().unbind(dim=1)
            images.append(rows[place[position, column]])
            drawn.append(arms[part][column])
        if images:
            self._add(torch.cat(images), torch.cat(drawn))

    def _add(self, images: Int64[Tensor, " e"], arms: Int64[Tensor, " e"]) -> None:
        if not len(images):
            return
        m = self.num_coordinates
        strengths = torch.full((len(images),), self._strength)
        effects = self._measure(Edits(images, arms % m, arms // m, strengths))
        self._known[images, arms] = True
        self._images, self._arms = torch.cat((self._images, images)), torch.cat((self._arms, arms))
        known = effects[:0] if self._effects is None else self._effects
        self._effects = torch.cat((known, effects))

    def _gains(self, gain: Gain) -> Float[Tensor, " e"]:
        """Gains of all entries measured; those of the last question are kept."""
        assert self._effects is not None
        kept = self._scored[1] if self._scored is not None and self._scored[0] is gain else None
        done = 0 if kept is None else len(kept)
        new = gain(self._effects[done:], self._images[done:]).double()
        values = new if kept is None else torch.cat((kept, new))
        self._scored = (gain, values)
        return values

    def _estimate(self, gain: Gain, among: Bool[Tensor, " n"]) -> "Means":
        num_arms, population = self._known.shape[1], int(among.sum())
        gains = self._gains(gain)
        inside = among[self._images]
        count = self._arms[inside].bincount(minlength=num_arms)
        # Too little measured on these images: the others speak, too.
        few = count < min(self._screening.audit_images, population)
        used = inside | few[self._arms]
        images, arms = self._images[used], self._arms[used]
        facts = (self._facts - self._facts[among].mean(dim=0))[images]
        expected = self._predicted[among].mean(dim=0)
        offset = self._predicted[images, arms] - expected[arms]
        rows = torch.cat((facts, offset[:, None]), dim=1).double()
        mean, variance = regression_means(gains[used], arms, rows, num_arms, expected.double())
        left = (1 - count / population).clamp_min(0)
        variance = torch.where(few, variance, variance * left)
        complete = count >= population
        sums = torch.zeros(num_arms, dtype=torch.float64).index_add(
            0, self._arms[inside], gains[inside]
        )
        mean = torch.where(complete, sums / population, mean)
        return Means(mean, variance.masked_fill(complete, 0.0), count, population)


@dataclass(frozen=True)
class Means:
    """Estimated means of all edits.

    Attributes:
        mean: The estimates.
        variance: Of each, 0 where every image is measured.
        count: Images measured.
        population: Images that the means are over.
    """

    mean: Float[Tensor, " a"]
    variance: Float[Tensor, " a"]
    count: Int64[Tensor, " a"]
    population: int

    def excess(self, lead: int, alive: Bool[Tensor, " a"], z: float) -> Float[Tensor, " a"]:
        """Upper bounds of how much each mean exceeds the leader's; −∞ for what is not alive."""
        error = (self.variance + self.variance[lead]).sqrt()
        excess = (self.mean - self.mean[lead] + z * error).masked_fill(~alive, -math.inf)
        excess[lead] = -math.inf
        return excess


def stratified_order(
    facts: Float[Tensor, "n c"], num_strata: int, seed: int
) -> Int64[Tensor, " n"]:
    """A random order of images in which each stretch of `num_strata` has one image of each stratum.

    Strata are ranges of the first covariate with as many images each.
    """
    random = torch.Generator().manual_seed(seed)
    shuffled = torch.randperm(len(facts), generator=random)
    if facts.shape[1]:
        shuffled = shuffled[facts[shuffled, 0].argsort(stable=True)]
    strata = [
        part[torch.randperm(len(part), generator=random)]
        for part in shuffled.tensor_split(num_strata)
    ]
    longest = max(len(part) for part in strata)
    return torch.cat([part[i : i + 1] for i in range(longest) for part in strata])


def regression_means(
    values: Float[Tensor, " e"],
    arms: Int64[Tensor, " e"],
    offsets: Float[Tensor, "e f"],
    num_arms: int,
    expected: Float[Tensor, " a"],
) -> tuple[Float[Tensor, " a"], Float[Tensor, " a"]]:
    """Means over a population, of which each arm knows a sample, by ridge regression.

    Args:
        values: What was measured.
        arms: Whose value each is.
        offsets: Covariates of each, less their mean over the population; the last is the
            prediction.
        num_arms: Number of arms.
        expected: The prediction's mean over the population.

    Returns:
        Estimates of the means and of their variances. An arm's variance is that of its errors, each
        predicted from the others; a small sample's is drawn towards that of all arms if it is less.
    """
    count = arms.bincount(minlength=num_arms).double()
    safe = count.clamp_min(1)
    predicted = offsets[:, -1] + expected[arms]
    slope = float((values * predicted).sum() / (predicted**2).sum().clamp_min(1e-12))
    slope = min(max(slope, 0.0), float(values.abs().max() + 1) if len(values) else 0.0)
    left = values - slope * predicted

    def total(x: Tensor) -> Tensor:
        return torch.zeros(num_arms, *x.shape[1:], dtype=x.dtype).index_add_(0, arms, x)

    middle, level = total(offsets) / safe[:, None], total(left) / safe
    centred, rest = offsets - middle[arms], left - level[arms]
    outer = total(centred[:, :, None] * centred[:, None, :])
    inverse = torch.linalg.inv(outer + RIDGE * torch.eye(offsets.shape[1], dtype=outer.dtype))
    weights = (inverse @ total(centred * rest[:, None])[:, :, None])[..., 0]
    errors = rest - (centred * weights[arms]).sum(dim=1)
    leverage = ((inverse[arms] @ centred[:, :, None])[..., 0] * centred).sum(dim=1)
    errors = errors / (1 - leverage - 1 / safe[arms]).clamp_min(0.05)
    squares = total(errors**2)
    common = squares[count > 1].sum() / count[count > 1].sum().clamp_min(1)
    own = squares / safe
    spread = torch.maximum((PRIOR * common + squares) / (PRIOR + count), own)
    mean = slope * expected + level - (middle * weights).sum(dim=1)
    return mean, spread / count.clamp_min(0.5)

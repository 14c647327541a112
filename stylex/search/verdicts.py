"""What becomes of attributes from one classifier to another: pure functions of effects."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.estimates import Estimate, mean, p_value, q_values
from stylex.search.evidence import SIGNIFICANT

NUM_FLIPS = 9999  # random patterns of signs: p is at least 1 in 10,000
FLIPS_AT_ONCE = 256

Verdict = Literal[
    "appears", "vanishes", "changes sign", "stronger", "weaker", "kept", "undecided", "neither"
]
CHANGES = ("appears", "vanishes", "changes sign")


# What is found


@dataclass(frozen=True)
class Judge:
    """One classifier of a comparison.

    Attributes:
        name: As it was asked for.
        fingerprint: See `FrozenClassifier.fingerprint`.
        scale: Standard deviation of its target logit over the unedited reconstructions compared on.
        agreement: Share of all images whose reconstruction it calls what the reference does.
        passes: Generator passes that it cost.
    """

    name: str
    fingerprint: str
    scale: float
    agreement: Estimate
    passes: int


@dataclass(frozen=True)
class Effect:
    """What an attribute does to one classifier's target logit, on the held-out images.

    Attributes:
        classifier: Its name.
        rank: Among the picks of this classifier's own selection, from 1; none if it is not there.
        raw: Mean change, in logits.
        standardised: The same in the classifier's `scale`, which can be compared with others.
    """

    classifier: str
    rank: int | None
    raw: Estimate
    standardised: Estimate


@dataclass(frozen=True)
class Difference:
    """An attribute's effect under one classifier less that under the reference, image by image.

    Attributes:
        classifier: Its name.
        raw: Mean difference, in logits of two classifiers that may differ in scale.
        standardised: Mean difference of the standardised effects.
        p: Two-sided, that the standardised ones do not differ; see `sign_flip_p`.
        q: p adjusted for all attributes and classifiers of the comparison.
        verdict: See `verdict`.
    """

    classifier: str
    raw: Estimate
    standardised: Estimate
    p: float
    q: float
    verdict: Verdict


@dataclass(frozen=True)
class ComparedAttribute:
    """One attribute that at least one classifier's selection picked.

    Attributes:
        coordinate: Flat style coordinate.
        name: The coordinate as people read it.
        layer: Its layer, counted from 0.
        channel: Its channel in the layer.
        direction: The extreme it is moved to.
        effects: Under every classifier, the reference first.
        differences: Of every classifier but the reference.
    """

    coordinate: int
    name: str
    layer: int
    channel: int
    direction: Literal["smallest", "largest"]
    effects: tuple[Effect, ...]
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class Comparison:
    """What two or more classifiers make of the same attributes.

    Attributes:
        source: Class moved from; none stands for all others.
        target: Class moved to.
        judges: The classifiers, the reference first.
        attributes: The reference's picks, then those that only others picked.
        selecting: Positions of the images that attributes were selected on.
        held: Positions of the images that they were measured on.
        least: Least standardised effect, and difference of two, that counts.
        smallest_q: The least q that an attribute can get which is the only one to differ; on few
            images it is high.
    """

    source: str | None
    target: str
    judges: tuple[Judge, ...]
    attributes: tuple[ComparedAttribute, ...]
    selecting: tuple[int, ...]
    held: tuple[int, ...]
    least: float
    smallest_q: float

    @property
    def can_show_one(self) -> bool:
        """Whether the images suffice to show an attribute that is the only one to differ."""
        return self.smallest_q <= SIGNIFICANT

    @property
    def num_changes(self) -> int:
        """Verdicts that something appears, vanishes or changes sign."""
        found = (d.verdict for attribute in self.attributes for d in attribute.differences)
        return sum(verdict in CHANGES for verdict in found)

    def as_json(self) -> dict[str, Any]:
        """All parts by name."""
        return {**asdict(self), "num_changes": self.num_changes}


Weighed = tuple[tuple[Effect, ...], tuple[Difference, ...]]


# What is decided: pure functions of effects


def verdict(
    reference: Estimate, other: Estimate, difference: Estimate, q: float, least: float
) -> Verdict:
    """What becomes of an attribute from the reference to another classifier.

    An effect raises the target if its interval lies above 0 and its mean is at least `least`; it
    lowers the target if the interval lies below 0 and the mean is at most −`least`. Two effects
    differ if q is at most 0.05 and their mean difference at least `least` either way.

    - `changes sign`: they differ; one raises, the other lowers;
    - `appears`: they differ; the other raises, the reference neither raises nor lowers;
    - `vanishes`: they differ; the reference raises, the other neither raises nor lowers;
    - `stronger`, `weaker`: they differ, and both raise;
    - `kept`: both raise and do not differ;
    - `undecided`: only one raises, and they do not differ;
    - `neither`: neither raises.

    Args:
        reference: Standardised effect under the reference.
        other: The same under the other classifier.
        difference: Other less reference, paired by image.
        q: Of the difference.
        least: Least effect and least difference that count, in standard deviations.
    """
    was, now = _direction(reference, least), _direction(other, least)
    differ = q <= SIGNIFICANT and abs(_value(difference)) >= least
    if max(was, now) < 1:
        return "neither"
    if was == now:
        stronger = _value(difference) > 0
        return ("stronger" if stronger else "weaker") if differ else "kept"
    if not differ:
        return "undecided"
    if min(was, now) < 0:
        return "changes sign"
    return "appears" if now > was else "vanishes"


def _value(estimate: Estimate) -> float:
    assert estimate.value is not None
    return estimate.value


def _direction(effect: Estimate, least: float) -> int:
    """1 for one that raises the target, −1 for one that lowers it, else 0."""
    assert effect.interval is not None
    low, high = effect.interval
    value = _value(effect)
    return int(low > 0 and value >= least) - int(high < 0 and value <= -least)


def sign_flip_p(differences: Float[Tensor, "t n"], seed: int) -> list[float]:
    """Two-sided p of every row's mean, by a paired permutation test.

    If two classifiers react alike, each image's difference might as well have the other sign. The
    null of the mean's size is that of 9,999 random patterns of signs.

    Args:
        differences: Of t tests, on n images.
        seed: Of the patterns, which all tests share.
    """
    values = differences.double().cpu().t()  # [n t]
    observed = values.sum(dim=0).abs()
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for part in torch.arange(NUM_FLIPS).split(FLIPS_AT_ONCE):
        signs = torch.randint(2, (len(part), len(values)), generator=generator).double() * 2 - 1
        parts.append((signs @ values).abs())
    null = torch.cat(parts)
    tied = (1 - 1e-9) * observed  # the same sum in another order
    return [p_value(float(tied[t]), null[:, t]) for t in range(len(observed))]


def smallest_q(num_images: int, num_tests: int) -> float:
    """The least q that one test can get among others that find nothing."""
    p = max(2.0 ** (1 - num_images), 1 / (1 + NUM_FLIPS))
    return min(1.0, num_tests * p)


def weigh(
    effects: Float[Tensor, "c a n"],
    scales: Float[Tensor, " c"],
    names: Sequence[str],
    ranks: Sequence[Sequence[int | None]],
    least: float,
    seed: int,
) -> list[Weighed]:
    """Effects and differences of every attribute.

    Differences are tested by sign flips and adjusted together, over attributes and classifiers, by
    Benjamini & Hochberg: if no classifier differs from the reference at all, the chance of any
    false difference, and so of a false alarm, is at most 5 %.

    Args:
        effects: On the target's logit, by classifier (the reference first), attribute, image.
        scales: What each classifier's logits are divided by.
        names: Of the classifiers.
        ranks: By classifier and attribute.
        least: See `verdict`.
        seed: Of the sign flips.
    """
    raw = effects.double()
    standardised = raw / scales.double()[:, None, None]
    change = standardised[1:] - standardised[:1]
    p = sign_flip_p(change.flatten(0, 1), seed)
    shape = (len(change), raw.shape[1])
    p_of, q_of = (torch.tensor(x, dtype=torch.float64).view(shape) for x in (p, q_values(p)))
    found = []
    for a in range(shape[1]):
        under = tuple(
            Effect(name, ranks[c][a], mean(raw[c, a]), mean(standardised[c, a]))
            for c, name in enumerate(names)
        )
        differences = []
        for c, name in enumerate(names[1:]):
            difference, q = mean(change[c, a]), float(q_of[c, a])
            said = verdict(under[0].standardised, under[c + 1].standardised, difference, q, least)
            between = mean(raw[c + 1, a] - raw[0, a])
            differences.append(Difference(name, between, difference, float(p_of[c, a]), q, said))
        found.append((under, tuple(differences)))
    return found

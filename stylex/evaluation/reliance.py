"""What a classifier truly relies on, measured by drawing the same pictures with one factor changed.

The rule that labelled the training images is what we wished for; this is what the network does.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.data.drawn import DrawnSet, Values
from stylex.errors import InputError
from stylex.estimates import Estimate, mean
from stylex.progress import Progress
from stylex.types import Images, Logits

Classify = Callable[[Images], Logits]
VISIBLE_CHANGE = 0.1  # of a pixel's channel, in units of [-1, 1]
_BATCH = 256


@dataclass(frozen=True)
class Reliance:
    """How far one class's score hangs on every factor.

    Attributes:
        target: The class.
        factors: Names of the factors.
        effects: Of each factor from one spread below its middle to one above: mean change of the
            log odds of the target, in units of their standard deviation over the drawings.
        deviation: That standard deviation, in logits.
    """

    target: str
    factors: tuple[str, ...]
    effects: tuple[Estimate, ...]
    deviation: float

    def values(self) -> Float[Tensor, " f"]:
        """The effects without their intervals."""
        return torch.tensor([effect.value for effect in self.effects], dtype=torch.float64)

    def relied_upon(self, least: float) -> tuple[str, ...]:
        """Factors whose effect, up or down, exceeds a threshold, in the order of `factors`.

        Args:
            least: The threshold, in standard deviations; fixed before any search.

        Raises:
            InputError: If the threshold is negative.
        """
        if least < 0:
            raise InputError(f"the least reliance must be at least 0, got {least}; give 0 or more")
        pairs = zip(self.factors, self.values().abs().tolist(), strict=True)
        return tuple(name for name, effect in pairs if effect > least)


def log_odds(logits: Logits, target: int) -> Float[Tensor, " b"]:
    """Log odds of a class against all others."""
    others = torch.cat((logits[:, :target], logits[:, target + 1 :]), dim=1)
    return logits[:, target] - others.logsumexp(dim=1)


def interventions(drawn: DrawnSet, values: Values, factor: int) -> tuple[Values, Values]:
    """The same drawings with one factor one spread below its middle, and one above.

    A binary factor is absent, then there; another is ½ ∓ 12^-½.
    """
    spread = drawn.factors[factor].spread
    below, above = values.clone(), values.clone()
    below[:, factor], above[:, factor] = 0.5 - spread, 0.5 + spread
    return below, above


@torch.no_grad()
def measure_reliance(
    drawn: DrawnSet, classify: Classify, target: int, count: int, seed: int, progress: Progress
) -> Reliance:
    """Measures a classifier's reliance on every factor by rendered interventions.

    Args:
        drawn: Draws the pictures; all factors are independent in them.
        classify: The classifier.
        target: Position of the class whose log odds are measured.
        count: Number of drawings, at least 2.
        seed: Of the drawings; they are in no split.
        progress: Tells how far the loop over factors is.

    Raises:
        InputError: If there are too few drawings, or the classifier says the same of all.
    """
    if count < 2:
        raise InputError(f"reliance needs at least 2 drawings, got {count}; give more")
    values = drawn.sample(count, seed)

    def odds(given: Values) -> Float[Tensor, " n"]:
        parts = [log_odds(classify(drawn.draw(part)), target) for part in given.split(_BATCH)]
        return torch.cat(parts).double().cpu()

    deviation = float(odds(values).std())
    if deviation == 0:
        raise InputError(
            "reliance needs a classifier whose logits differ between drawings, got equal ones for "
            f"{count} drawings; train the classifier on this family"
        )
    effects = []
    for factor in progress(range(len(drawn.factors)), "reliance"):
        below, above = interventions(drawn, values, factor)
        effects.append(mean((odds(above) - odds(below)) / deviation))
    names = tuple(factor.name for factor in drawn.factors)
    return Reliance(drawn.class_names[target], names, tuple(effects), deviation)


def region(drawn: DrawnSet, values: Values, factor: int) -> Bool[Tensor, "n h w"]:
    """Pixels of drawings that an intervention on a factor changes by more than 0.1.

    A change is the largest over channels, in units of [-1, 1]; hidden factors have an empty region.

    Args:
        drawn: Draws the pictures.
        values: Of the drawings; the factor's own value does not matter.
        factor: Its position.
    """
    parts = []
    for part in values.split(_BATCH):
        below, above = interventions(drawn, part, factor)
        change = (drawn.draw(above) - drawn.draw(below)).abs().amax(dim=1)
        parts.append(change > VISIBLE_CHANGE)
    return torch.cat(parts)

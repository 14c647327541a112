"""Images with attributes changed: which show one best, and what becomes of the decision."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.artifacts import write_tensors
from stylex.imaging import to_uint8
from stylex.model import StylEx
from stylex.search.selection import Pick
from stylex.types import Images, Labels, Logits, Styles

SHOWN_LEAST = 3  # an attribute with fewer images is not shown (official notebook)
CANDIDATES_PER_SHOWN = 10  # images tried per image shown (official notebook)


def move(
    styles: Styles, picks: Sequence[Pick], extremes: Float[Tensor, "2 s"], strength: float
) -> Styles:
    """Moves coordinates together towards their extremes; leaves the input untouched.

    Args:
        styles: Styles of the images.
        picks: Coordinates and directions; of two picks of one coordinate the first counts.
        extremes: Smallest and largest value of every coordinate.
        strength: 0 changes nothing, 1 reaches the extreme, more goes beyond it.
    """
    moved = styles.clone()
    for coordinate, direction in reversed(picks):
        value = styles[:, coordinate]
        moved[:, coordinate] = value + strength * (extremes[direction, coordinate] - value)
    return moved


def alone_and_together(
    styles: Styles, picks: Sequence[Pick], extremes: Float[Tensor, "2 s"], strength: float
) -> tuple[Float[Tensor, "k b s"], Float[Tensor, "k b s"]]:
    """Styles with each pick alone, and with the first, the first two, and so on; see `move`."""
    alone = [move(styles, [pick], extremes, strength) for pick in picks]
    counts = range(1, len(picks) + 1)
    together = [move(styles, picks[:count], extremes, strength) for count in counts]
    return torch.stack(alone), torch.stack(together)


def turn(styles: Styles, pick: Pick, extremes: Float[Tensor, "2 s"], position: float) -> Styles:
    """Turns an attribute's knob; leaves the input untouched.

    Args:
        styles: Styles of the images.
        pick: The attribute.
        extremes: Smallest and largest value of every coordinate.
        position: 0 is the images' own value, 1 the attribute's extreme, 2 as far beyond it, −1
            the opposite extreme.
    """
    return move(styles, [pick if position >= 0 else pick.opposite], extremes, abs(position))


@torch.no_grad()
def edited_logits(
    model: StylEx,
    styles: Styles,
    picks: Sequence[Pick],
    extremes: Float[Tensor, "2 s"],
    strength: float,
    batch_size: int,
) -> Logits:
    """The classifier's logits when the picks are moved together, on the CPU."""
    device = model.generator.const.device
    parts = [
        model.classifier(model.render(part.to(device))).cpu()
        for part in move(styles, picks, extremes, strength).split(batch_size)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class Counterfactuals:
    """Images that show one edit.

    Attributes:
        indices: Positions of the images in their data set.
        unchanged: Unedited reconstructions.
        changed: The same with the edit.
        probabilities: The target's probability, before and after.
        strength: Of the edit: 1 reaches the extreme.
    """

    indices: Labels
    unchanged: Images
    changed: Images
    probabilities: Float[Tensor, "b 2"]
    strength: float

    @property
    def rises(self) -> Float[Tensor, " b"]:
        """By how much the target's probability rises."""
        return self.probabilities[:, 1] - self.probabilities[:, 0]

    @property
    def mean_rise(self) -> float:
        """Their mean."""
        return float(self.rises.mean())

    def some(self, rows: Int64[Tensor, " s"]) -> "Counterfactuals":
        """Some of the images, by row."""
        return Counterfactuals(
            self.indices[rows],
            self.unchanged[rows],
            self.changed[rows],
            self.probabilities[rows],
            self.strength,
        )

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        """Writes images as uint8 and the numbers beside them."""
        write_tensors(
            path,
            {
                "indices": self.indices,
                "unchanged": to_uint8(self.unchanged),
                "changed": to_uint8(self.changed),
                "probabilities": self.probabilities,
            },
            metadata,
        )


@torch.no_grad()
def render(
    model: StylEx,
    indices: Labels,
    styles: Styles,
    picks: Sequence[Pick],
    extremes: Float[Tensor, "2 s"],
    strength: float,
    target: int,
) -> Counterfactuals:
    """Renders an edit on all given images."""
    device = model.generator.const.device
    both = torch.cat((styles, move(styles, picks, extremes, strength))).to(device)
    images = model.render(both)
    probabilities = model.classifier.probabilities(images)[:, target]
    unchanged, changed = images.cpu().chunk(2)
    return Counterfactuals(
        indices, unchanged, changed, probabilities.cpu().reshape(2, -1).t().contiguous(), strength
    )


def strengths_tried(greatest: float, least: float) -> tuple[float, ...]:
    """Strengths that an attribute's pictures are tried at, falling: both ends and their mean.

    Beyond the search's strength some attributes overshoot: the garment falls apart, and the
    target's probability with it.

    Args:
        greatest: Of the pictures; alone, if it is not above the search's.
        least: The search's.
    """
    return (greatest, (greatest + least) / 2, least) if greatest > least else (greatest,)


def most_rising(tried: Iterable[Counterfactuals]) -> Counterfactuals | None:
    """Those whose mean rise is greatest; the first of equal ones, none of none."""
    return max(tried, key=attrgetter("mean_rise"), default=None)


def show(
    model: StylEx,
    indices: Labels,
    styles: Styles,
    pick: Pick,
    extremes: Float[Tensor, "2 s"],
    *,
    strengths: Sequence[float],
    target: int,
    most: int,
    least_rise: float,
) -> Counterfactuals | None:
    """The images that show an attribute, by the official notebook's rule, and at which strength.

    Images farthest from the extreme come first; the first ten times `most` are tried, and those
    are kept whose probability of the target rises by at least `least_rise`. Fewer than three are
    not shown. Of the strengths that three or more show, that one is taken at which the probability
    rises most in the mean of all images tried, kept or not.

    Args:
        model: The model under explanation.
        indices: Positions of the images in their data set.
        styles: Their styles.
        pick: The attribute.
        extremes: Smallest and largest value of every coordinate.
        strengths: To try; of equally good ones the first is taken.
        target: The class to move to.
        most: Most images to show.
        least_rise: Least rise of the target's probability.
    """
    distance = (extremes[pick.direction, pick.coordinate] - styles[:, pick.coordinate]).abs()
    order = distance.argsort(descending=True, stable=True)[: most * CANDIDATES_PER_SHOWN]
    tried = (
        render(model, indices[order], styles[order], [pick], extremes, strength, target)
        for strength in strengths
    )
    showing = (each for each in tried if (each.rises >= least_rise).sum() >= SHOWN_LEAST)
    best = most_rising(showing)
    return None if best is None else best.some((best.rises >= least_rise).nonzero()[:most, 0])

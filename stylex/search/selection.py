"""Which coordinates, in which direction, explain a class: pure functions of a table of effects.

No network is seen here. A table answers which edit has the best mean over some images, and what an
edit does to each of them; it knows all effects, or finds out as much as the question needs.
Sources: Lang et al. 2021 (arXiv:2104.13369), AttFind; the official notebook
(google/explaining-in-style, Apache-2.0), whose rules are stated beside the functions that follow
them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.progress import Progress, quiet
from stylex.search.scores import LogProbability, Score
from stylex.types import Logits

SomeEffects = Float[Tensor, "b *m k"]
Gains = Float[Tensor, "b *m"]


class Pick(NamedTuple):
    """A coordinate and the extreme it is moved to: 0 the smallest value, 1 the largest."""

    coordinate: int
    direction: int

    @property
    def opposite(self) -> "Pick":
        """The same coordinate moved the other way."""
        return Pick(self.coordinate, 1 - self.direction)


@dataclass(frozen=True)
class Gain:
    """What effects are worth on images as they are now.

    Attributes:
        score: What is to be raised.
        logits: Of all images of the table, before the edit.
        counted: Images that gain by effects, the others gain 0; none counts all.
    """

    score: Score
    logits: Logits
    counted: Bool[Tensor, " n"] | None = None

    def __call__(self, effects: SomeEffects, images: Int64[Tensor, " b"]) -> Gains:
        """The gain by each effect; `images` says whose each row is."""
        between = [1] * (effects.ndim - 2)
        logits = self.logits[images].view(len(images), *between, self.logits.shape[1])
        change = self.score.change(logits, effects)
        if self.counted is None:
            return change
        return change * self.counted[images].view(len(images), *between)


@runtime_checkable
class Table(Protocol):
    """Effects of moving each of m coordinates, one at a time, on n images."""

    @property
    def num_images(self) -> int:
        """N."""

    @property
    def num_coordinates(self) -> int:
        """M."""

    def best(self, gain: Gain, among: Bool[Tensor, " n"], free: Bool[Tensor, "2 m"]) -> Pick | None:
        """The free edit with the highest mean gain over some images, if that is above 0."""

    def raises(self, pick: Pick, gain: Gain, among: Bool[Tensor, " n"]) -> bool:
        """Whether an edit's mean gain over some images is above 0."""

    def column(self, pick: Pick, among: Bool[Tensor, " n"]) -> Float[Tensor, "b k"]:
        """Exact effects of an edit on some images, in their order."""


Filter = Callable[[Pick], bool]


def anything(_pick: Pick) -> bool:
    """The filter that lets everything pass."""
    return True


def select_paper(
    table: Table,
    gain: Gain,
    num_attributes: int,
    threshold: float,
    drop_inconsistent: bool,
    *,
    stable: Bool[Tensor, " n"] | None = None,
    passes: Filter = anything,
    progress: Progress = quiet,
) -> list[Pick]:
    """The paper's selection: repeatedly the best mean over images still unexplained.

    A coordinate whose two directions both raise the target on average is inconsistent and gets no
    score. The selection stops when all images are explained, or no coordinate raises the mean.

    Args:
        table: Of images that the classifier does not call the target.
        gain: What a pick is to raise.
        num_attributes: Most picks to return.
        threshold: An image is explained by a pick that gains more than this on it.
        drop_inconsistent: Whether the inconsistency rule holds.
        stable: Images that count; none counts all.
        passes: Filter of a candidate.
        progress: Wraps the loop over picks.
    """
    unexplained = _all(table.num_images) if stable is None else stable.clone()
    free = torch.ones(2, table.num_coordinates, dtype=torch.bool)
    picks: list[Pick] = []
    for _ in progress(range(num_attributes), "attributes"):
        if not unexplained.any():
            break
        allowed = free.clone()  # an inconsistent coordinate may be consistent in the next round
        while (best := table.best(gain, unexplained, allowed)) is not None:
            if drop_inconsistent and table.raises(best.opposite, gain, unexplained):
                allowed[:, best.coordinate] = False
            elif not passes(best):
                allowed[:, best.coordinate] = free[:, best.coordinate] = False
            else:
                break
        if best is None:
            break
        picks.append(best)
        free[:, best.coordinate] = False
        rows = unexplained.nonzero()[:, 0]
        unexplained[rows] = gain(table.column(best, unexplained), rows) <= threshold
    return picks


def select_notebook(
    table: Table,
    gain: Gain,
    num_attributes: int,
    max_image_effect: float,
    *,
    counted: Bool[Tensor, " n"] | None = None,
    passes: Filter = anything,
) -> list[Pick]:
    """The official notebook's selection: a cumulative limit per image.

    Each round takes the best mean over images whose accumulated gain is below the limit. Both
    directions of a coordinate may be picked. The notebook goes on when every image has reached the
    limit, with means of nothing; this one stops.

    Args:
        table: Of images to move.
        gain: `scores.Rise`.
        num_attributes: Most picks to return.
        max_image_effect: Limit of an image's accumulated gain.
        counted: Images whose gains count; the others' are 0, but they stay in the mean.
        passes: Filter of a candidate.
    """
    everything = _all(table.num_images)
    if counted is not None:
        gain = replace(gain, counted=counted)
    accumulated = torch.zeros(table.num_images)
    free = torch.ones(2, table.num_coordinates, dtype=torch.bool)
    picks: list[Pick] = []
    while len(picks) < num_attributes and (accumulated < max_image_effect).any():
        best = table.best(gain, accumulated < max_image_effect, free)
        if best is None:
            break
        if not passes(best):
            free[:, best.coordinate] = False
            continue
        picks.append(best)
        free[best.direction, best.coordinate] = False
        accumulated += gain(table.column(best, everything), everything.nonzero()[:, 0])
    return picks


def merge_directions(
    column: Callable[[Pick], Float[Tensor, "n k"]],
    source: int,
    target: int,
    towards: list[Pick],
    back: list[Pick],
    num_attributes: int,
) -> list[Pick]:
    """The official notebook's merge of the two selections of a pair of classes.

    The list that moves back to the source is turned round; a coordinate in both lists keeps the
    first list's direction; all are sorted by the mean, over the images of both classes, of the
    effect on the target plus the opposite direction's effect on the source.

    Args:
        column: Effects of a pick on the images of both classes, rows of unstable images set to 0.
        source: Class to move from.
        target: Class to move to.
        towards: Picks that raise the target on images of the source.
        back: Picks that raise the source on images of the target.
        num_attributes: Most picks to return.
    """
    merged: dict[int, int] = {}
    for coordinate, direction in (*towards, *(pick.opposite for pick in back)):
        merged.setdefault(coordinate, direction)

    def score(pick: Pick) -> float:
        return float((column(pick)[:, target] + column(pick.opposite)[:, source]).mean())

    return sorted((Pick(*item) for item in merged.items()), key=score, reverse=True)[
        :num_attributes
    ]


def select_joint(
    table: Table,
    logits: Logits,
    target: int,
    num_attributes: int,
    free: Bool[Tensor, "2 m"],
    *,
    stable: Bool[Tensor, " n"] | None = None,
    passes: Filter = anything,
) -> list[Pick]:
    """Greedy selection of attributes that work together, as far as effects add up.

    Logits of an image under several edits are estimated by the sum of their effects. Each round
    takes the coordinate that most raises the mean log-probability of the target over all images,
    given the picks so far.

    Args:
        table: Of images that the classifier does not call the target.
        logits: Of these images, before any of these picks.
        target: The class to move to.
        num_attributes: Most picks to return.
        free: Edits that may be picked.
        stable: Images that count; none counts all.
        passes: Filter of a candidate.
    """
    among = _all(table.num_images) if stable is None else stable
    free, logits = free.clone(), logits.clone()
    picks: list[Pick] = []
    while len(picks) < num_attributes and among.any():
        best = table.best(Gain(LogProbability(target), logits), among, free)
        if best is None:
            break
        free[:, best.coordinate] = False
        if passes(best):
            picks.append(best)
            logits[among] += table.column(best, among)
    return picks


def independent(effects: Float[Tensor, "2 s"], num_attributes: int) -> list[Pick]:
    """The best picks of one image, each by its own effect; one direction per coordinate."""
    best, direction = effects.max(dim=0)
    order = best.argsort(descending=True)[:num_attributes].tolist()
    return [Pick(c, int(direction[c])) for c in order if best[c] > 0]


def subset(
    candidates: Sequence[Pick], lead: Callable[[list[Pick]], float]
) -> tuple[list[Pick], bool]:
    """Picks that flip one image's decision together, added greedily until it flips.

    Each round adds the candidate that, moved together with those already chosen, brings the
    decision nearest to the target, or farthest beyond it.

    Args:
        candidates: Picks to choose among, such as those of `independent`.
        lead: The target's logit less the best other class's, with these picks moved together;
            above 0 the classifier says the target.

    Returns:
        The picks in the order chosen, and whether they flip the decision. If no round flips it,
        the picks up to the best round.
    """
    chosen: list[Pick] = []
    best: list[Pick] = []
    best_lead = float("-inf")
    while len(chosen) < len(candidates):
        free = [pick for pick in candidates if pick not in chosen]
        leads = [lead([*chosen, pick]) for pick in free]
        top = max(leads)
        chosen = [*chosen, free[leads.index(top)]]
        if top > 0:
            return chosen, True
        if top > best_lead:
            best, best_lead = chosen, top
    return best, False


def _all(count: int) -> Bool[Tensor, " n"]:
    return torch.ones(count, dtype=torch.bool)


def leading_coordinates(
    means: Float[Tensor, "2 m"], num_coordinates: int, free: Bool[Tensor, "2 m"]
) -> Int64[Tensor, " c"]:
    """Free coordinates with the best mean in either direction, in rising order."""
    promise = means.masked_fill(~free, float("-inf")).amax(dim=0)
    count = min(num_coordinates, int(free.any(dim=0).sum()))
    return promise.topk(count).indices.sort().values

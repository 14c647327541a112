"""Which coordinates, in which direction, explain a class: pure functions of the effect table.

No network is seen here. Sources: Lang et al. 2021 (arXiv:2104.13369), AttFind; the official
notebook (google/explaining-in-style, Apache-2.0), whose rules are stated beside the functions that
follow them.
"""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.types import Effects, Logits

TargetEffects = Float[Tensor, "n 2 s"]
Measure = Literal["logit", "log_probability"]


class Pick(NamedTuple):
    """A coordinate and the extreme it is moved to: 0 the smallest value, 1 the largest."""

    coordinate: int
    direction: int


def target_effects(
    effects: Effects, base_logits: Logits, target: int, measure: Measure
) -> TargetEffects:
    """Effects on one class.

    Args:
        effects: Changes of all logits.
        base_logits: Logits of the unedited reconstructions.
        target: The class to move to.
        measure: `logit` takes the change of the target's logit (the paper); `log_probability` that
            of the logarithm of its probability, which also sees the other classes.
    """
    if measure == "logit":
        return effects[..., target]
    base = base_logits.log_softmax(dim=-1)[:, target]
    moved = (base_logits[:, None, None] + effects).log_softmax(dim=-1)[..., target]
    return moved - base[:, None, None]


def select_paper(
    effects: TargetEffects, num_attributes: int, threshold: float, drop_inconsistent: bool
) -> list[Pick]:
    """The paper's selection: repeatedly the best mean over images still unexplained.

    A coordinate whose two directions both raise the target on average is inconsistent and gets no
    score. The selection stops when all images are explained, or no coordinate raises the mean.

    Args:
        effects: Effects on the target of images that the classifier does not call the target.
        num_attributes: Most picks to return.
        threshold: An image is explained by a pick whose effect on it exceeds this, in units of the
            effects.
        drop_inconsistent: Whether the inconsistency rule holds.
    """
    unexplained = torch.ones(len(effects), dtype=torch.bool)
    free = torch.ones(effects.shape[2], dtype=torch.bool)
    picks: list[Pick] = []
    while len(picks) < num_attributes and unexplained.any():
        means = effects[unexplained].mean(dim=0)  # [2 s]
        if drop_inconsistent:
            means = means.masked_fill((means > 0).all(dim=0), 0.0)
        best = _best(means.masked_fill(~free, float("-inf")))
        if best is None:
            break
        picks.append(best)
        free[best.coordinate] = False
        unexplained &= effects[:, best.direction, best.coordinate] <= threshold
    return picks


def stable_images(effects: Effects, change: float, most: int) -> Bool[Tensor, " n"]:
    """Images with at most `most` entries (direction, coordinate, class) of |effect| > `change`."""
    return (effects.abs() > change).sum(dim=(1, 2, 3)) <= most


def select_notebook(
    effects: TargetEffects, num_attributes: int, max_image_effect: float
) -> list[Pick]:
    """The official notebook's selection: a cumulative limit per image.

    Negative effects count as 0. Each round takes the best mean over images whose accumulated
    effect is below the limit. Both directions of a coordinate may be picked. The notebook goes on
    when every image has reached the limit, with means of nothing; this one stops.

    Args:
        effects: Effects on the target, rows of unstable images set to 0.
        num_attributes: Most picks to return.
        max_image_effect: Limit of an image's accumulated effect.
    """
    left = effects.clamp(min=0)
    accumulated = torch.zeros(len(left))
    picks: list[Pick] = []
    while len(picks) < num_attributes and (accumulated < max_image_effect).any():
        best = _best(left[accumulated < max_image_effect].mean(dim=0))
        if best is None:
            break
        picks.append(best)
        accumulated += left[:, best.direction, best.coordinate]
        left[:, best.direction, best.coordinate] = 0
    return picks


def merge_directions(
    effects: Effects,
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
        effects: Of images of both classes, rows of unstable images set to 0.
        source: Class to move from.
        target: Class to move to.
        towards: Picks that raise the target on images of the source.
        back: Picks that raise the source on images of the target.
        num_attributes: Most picks to return.
    """
    merged: dict[int, int] = {}
    for coordinate, direction in (*towards, *(Pick(c, 1 - d) for c, d in back)):
        merged.setdefault(coordinate, direction)

    def score(pick: Pick) -> float:
        there = effects[:, pick.direction, pick.coordinate, target]
        return float((there + effects[:, 1 - pick.direction, pick.coordinate, source]).mean())

    return sorted((Pick(*item) for item in merged.items()), key=score, reverse=True)[
        :num_attributes
    ]


def select_joint(
    effects: Effects, base_logits: Logits, target: int, num_attributes: int
) -> list[Pick]:
    """Greedy selection of attributes that work together, as far as effects add up.

    Logits of an image under several edits are estimated by the sum of their effects. Each round
    takes the coordinate that most raises the mean log-probability of the target over all images,
    given the picks so far.

    Args:
        effects: Changes of all logits, of images that the classifier does not call the target.
        base_logits: Logits of their unedited reconstructions.
        target: The class to move to.
        num_attributes: Most picks to return.
    """
    logits = base_logits
    free = torch.ones(effects.shape[2], dtype=torch.bool)
    picks: list[Pick] = []
    while len(picks) < num_attributes:
        now = logits.log_softmax(dim=-1)[:, target].mean()
        moved = (logits[:, None, None] + effects).log_softmax(dim=-1)[..., target]  # [n 2 s]
        best = _best((moved.mean(dim=0) - now).masked_fill(~free, float("-inf")))
        if best is None:
            break
        picks.append(best)
        free[best.coordinate] = False
        logits = logits + effects[:, best.direction, best.coordinate]
    return picks


def leading_coordinates(
    effects: Effects, logits: Logits, target: int, num_coordinates: int, taken: set[int]
) -> Int64[Tensor, " m"]:
    """Coordinates that promise most for images whose logits have become others, in rising order.

    Args:
        effects: Changes of all logits, measured on the unedited images.
        logits: Of the images as they are now.
        target: The class to move to.
        num_coordinates: Most coordinates to return.
        taken: Coordinates to leave out.
    """
    moved = (logits[:, None, None] + effects).log_softmax(dim=-1)[..., target]  # [n 2 s]
    promise = moved.mean(dim=0).amax(dim=0)
    promise[list(taken)] = float("-inf")
    count = min(num_coordinates, len(promise) - len(taken))
    return promise.topk(count).indices.sort().values


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


def _best(scores: Float[Tensor, "2 s"]) -> Pick | None:
    """The highest score's pick, if it is above 0; the first one if several share it."""
    if scores.numel() == 0 or not scores.max() > 0:
        return None
    direction, coordinate = divmod(int(scores.argmax()), scores.shape[1])
    return Pick(coordinate, direction)

"""Scores of counterfactuals, as pure functions of logits and images."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.types import Images, Logits

VISIBLE_CHANGE = 0.3  # of a pixel, in units of [-1, 1]
VISIBLE_SHARE = 0.03  # of an image's pixels


def flipped_to(logits: Logits, target: int) -> Bool[Tensor, " b"]:
    """Whether the classifier says the target."""
    return logits.argmax(dim=1) == target


def decision_changed(before: Logits, after: Logits) -> Bool[Tensor, " b"]:
    """Whether the classifier says another class than before."""
    return before.argmax(dim=1) != after.argmax(dim=1)


def confusions(logits: Logits) -> Float[Tensor, "k k"]:
    """Mean probability of each class (column) over images called each class (row); diagonal 0."""
    probabilities = logits.softmax(dim=1)
    said = probabilities.argmax(dim=1)
    num_classes = logits.shape[1]
    table = torch.zeros(num_classes, num_classes)
    for k in range(num_classes):
        if (said == k).any():
            table[k] = probabilities[said == k].mean(dim=0).cpu()
    return table.fill_diagonal_(0)


def changed_pixels(before: Images, after: Images) -> Float[Tensor, " b"]:
    """Share of each image's pixels that change by more than 0.3, in any channel."""
    return ((after - before).abs().amax(dim=1) > VISIBLE_CHANGE).float().mean(dim=(1, 2))


def is_visible(before: Images, after: Images) -> bool:
    """Whether at least 3 % of the pixels change by more than 0.3, on average over the images."""
    return bool(changed_pixels(before, after).mean() >= VISIBLE_SHARE)

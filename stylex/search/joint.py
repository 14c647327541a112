"""Greedy selection of attributes that work together, their effects measured anew on the way.

The effects of single edits do not add up for long: after a few, the image is another one. So each
round picks a few attributes from a table of effects, moves them, and measures the leading
candidates again on the moved images. The table's part of the work is `selection.select_joint`.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.model import StylEx
from stylex.search.counterfactuals import edited_logits, move
from stylex.search.effects import edit_effects
from stylex.search.selection import Pick, leading_coordinates, select_joint
from stylex.types import Effects


def select_in_rounds(
    model: StylEx,
    styles: Float[Tensor, "n all"],
    effects: Effects,
    base_logits: Float[Tensor, "n k"],
    extremes: Float[Tensor, "2 all"],
    target: int,
    *,
    num_attributes: int,
    picks_per_round: int,
    num_candidates: int,
    strength: float,
    batch_size: int,
) -> list[Pick]:
    """Attributes that move the images to the target together.

    Args:
        model: The model under explanation.
        styles: Of images that the classifier does not call the target.
        effects: Exhaustive effects of these images, of the first s coordinates.
        base_logits: Of their unedited reconstructions.
        extremes: Smallest and largest value of every coordinate.
        target: The class to move to.
        num_attributes: Most picks to return.
        picks_per_round: Picks between two measurements.
        num_candidates: Coordinates measured anew in each round.
        strength: Of the edits.
        batch_size: Edited images per forward pass.
    """
    picks: list[Pick] = []
    coordinates = torch.arange(effects.shape[2])
    logits, table = base_logits, effects
    while len(picks) < num_attributes:
        wanted = min(picks_per_round, num_attributes - len(picks))
        found = select_joint(table, logits, target, wanted)
        picks += [Pick(int(coordinates[c]), direction) for c, direction in found]
        if len(found) < wanted or len(picks) == num_attributes:
            break
        logits = edited_logits(model, styles, picks, extremes, strength, batch_size)
        taken = {pick.coordinate for pick in picks}
        coordinates = leading_coordinates(effects, logits, target, num_candidates, taken)
        moved = move(styles, picks, extremes, strength)
        table = edit_effects(
            model, moved, logits, extremes, coordinates.tolist(), strength, batch_size
        )
    return picks

"""Greedy selection of attributes that work together, their effects measured anew on the way.

The effects of single edits do not add up for long: after a few, the image is another one. So each
round picks a few attributes from a table of effects, moves them, and opens a table of the moved
images for the leading candidates. The table's part of the work is `selection.select_joint`.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.progress import Progress, quiet
from stylex.search.counterfactuals import move
from stylex.search.scores import LogProbability
from stylex.search.selection import (
    Filter,
    Gain,
    Pick,
    Table,
    anything,
    leading_coordinates,
    select_joint,
)
from stylex.types import Logits, Styles


@runtime_checkable
class RankedTable(Table, Protocol):
    """A table that also ranks what it has not been asked for."""

    def means(self, gain: Gain, among: Bool[Tensor, " n"]) -> Float[Tensor, "2 m"]:
        """Mean gains, measured or estimated, of all edits over some images."""


OpenTable = Callable[[Styles, Logits, Bool[Tensor, "2 m"]], Table]


def select_in_rounds(
    table: RankedTable,
    styles: Float[Tensor, "n all"],
    base_logits: Float[Tensor, "n k"],
    extremes: Float[Tensor, "2 all"],
    target: int,
    *,
    open_table: OpenTable,
    judge: Callable[[Styles], Logits],
    num_attributes: int,
    picks_per_round: int,
    num_candidates: int,
    strength: float,
    stable: Bool[Tensor, " n"] | None = None,
    passes: Filter = anything,
    progress: Progress = quiet,
) -> list[Pick]:
    """Attributes that move the images to the target together.

    Args:
        table: Effects on the unedited images, which the classifier does not call the target; of
            all classes.
        styles: Of these images.
        base_logits: Of their unedited reconstructions.
        extremes: Smallest and largest value of every coordinate.
        target: The class to move to.
        open_table: A table of images as they are now, for some free edits.
        judge: Logits of styles.
        num_attributes: Most picks to return.
        picks_per_round: Picks between two measurements.
        num_candidates: Coordinates measured anew in each round.
        strength: Of the edits.
        stable: Images that count; none counts all.
        passes: Filter of a candidate.
        progress: Wraps the loop over rounds.
    """
    among = torch.ones(len(styles), dtype=torch.bool) if stable is None else stable
    free = torch.ones(2, table.num_coordinates, dtype=torch.bool)
    picks: list[Pick] = []
    now: Table = table
    logits, candidates = base_logits, free
    for _ in progress(range(0, num_attributes, picks_per_round), "attributes"):
        wanted = min(picks_per_round, num_attributes - len(picks))
        found = select_joint(now, logits, target, wanted, candidates, stable=among, passes=passes)
        picks += found
        if len(found) < wanted or len(picks) == min(num_attributes, table.num_coordinates):
            break
        free[:, [pick.coordinate for pick in picks]] = False
        moved = move(styles, picks, extremes, strength)
        logits = judge(moved)
        promise = table.means(Gain(LogProbability(target), logits), among)
        candidates = torch.zeros_like(free)
        candidates[:, leading_coordinates(promise, num_candidates, free)] = True
        now = open_table(moved, logits, candidates & free)
    return picks

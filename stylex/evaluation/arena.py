"""The arena: methods scored by whether they find the factors that a classifier truly relies on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.edits import Edits
from stylex.evaluation.legibility import Legibility
from stylex.evaluation.readers import Reader
from stylex.evaluation.recovery import Moves, moves, over_images, over_seeds, recover_mean
from stylex.evaluation.reliance import Classify, Reliance, log_odds
from stylex.imaging import from_uint8
from stylex.types import Pixels

_BATCH = 256


@dataclass(frozen=True)
class Arena:
    """What searches are scored against.

    Attributes:
        classify: The classifier.
        reader: Reads the factors of images.
        reconstructed: How well it reads reconstructions; empty if that was not measured.
        reliance: The classifier's measured reliance, by the class that it was measured for.
        least: Effect above which a factor is relied upon, in standard deviations; fixed before any
            search.
        most: K, the number of directions scored.
        seed: Of the bootstrap.
    """

    classify: Classify
    reader: Reader
    reconstructed: tuple[Legibility, ...]
    reliance: Mapping[str, Reliance]
    least: float
    most: int
    seed: int

    def truth(self, target: str) -> tuple[Float[Tensor, " f"], Bool[Tensor, " f"]]:
        """Reliance on every factor for a class, and whether that is relied upon.

        Raises:
            InputError: If it was not measured for the class or for the reader's factors.
        """
        if target not in self.reliance:
            raise InputError(
                f"reliance must be measured for the class searched for, got '{target}' and "
                f"reliance for {', '.join(self.reliance)}; measure it for '{target}'"
            )
        measured = self.reliance[target]
        read = tuple(factor.name for factor in self.reader.factors)
        if measured.factors != read:
            raise InputError(
                f"a reader must read the factors of the drawings, got {', '.join(read)} for "
                f"{', '.join(measured.factors)}; train a reader on these drawings"
            )
        known = measured.relied_upon(self.least)
        return measured.values(), torch.tensor([name in known for name in read])

    def errors(self) -> Float[Tensor, " f"]:
        """The reader's error on every factor, in spreads: the larger of the two measured."""
        pairs = [[each.error for each in self.reader.held_out]]
        if self.reconstructed:
            pairs.append([each.error for each in self.reconstructed])
        return torch.tensor(pairs, dtype=torch.float64).amax(dim=0)


def measure_moves(arena: Arena, edits: Edits) -> Moves:
    """What the first K directions of a search did to the factors and the target's log odds."""
    edited = edits.edited[: arena.most]
    target = edits.class_names.index(edits.target)
    spreads = torch.tensor([factor.spread for factor in arena.reader.factors])
    base = arena.reader.read(edits.reconstructions)
    base_odds = _odds(arena.classify, edits.reconstructions, target)
    if not edited:
        nothing = base_odds.new_zeros(0, len(base))
        return Moves(base.new_zeros(0, *base.shape), nothing)
    readings = torch.stack([arena.reader.read(pixels) for pixels in edited])
    odds = torch.stack([_odds(arena.classify, pixels, target) for pixels in edited])
    return moves(readings, base, odds, base_odds, spreads)


@torch.no_grad()
def _odds(classify: Classify, pixels: Pixels, target: int) -> Float[Tensor, " n"]:
    parts = [log_odds(classify(from_uint8(part)), target) for part in pixels.split(_BATCH)]
    return torch.cat(parts).cpu()


def score_method(arena: Arena, searches: Sequence[Edits]) -> dict[str, Estimate]:
    """Scores of a method: over its seeds, or over the images of its one search.

    Several seeds give Student's interval over them, and the denominator is their number. One gives
    a bootstrap over images that carries the reader's error, and the denominator is their number.

    Args:
        arena: What to score against.
        searches: One a seed.

    Raises:
        InputError: If there is none, or the arena does not fit.
    """
    if not searches:
        raise InputError("a method needs at least one search to be scored, got none; search first")
    measured = [(measure_moves(arena, edits), *arena.truth(edits.target)) for edits in searches]
    if len(measured) == 1:
        found, reliance, relied = measured[0]
        return over_images(found, reliance, relied, arena.most, arena.errors(), arena.seed)
    return over_seeds(
        [recover_mean(found, reliance, relied, arena.most) for found, reliance, relied in measured]
    )


def score_methods(
    arena: Arena, searches: Mapping[str, Sequence[Edits]]
) -> dict[str, dict[str, Estimate]]:
    """Scores of every method, by its name.

    Where any method has several seeds, the denominators of all count seeds; a method with one
    search keeps its interval over images.
    """
    scores = {method: score_method(arena, found) for method, found in searches.items()}
    if all(len(found) == 1 for found in searches.values()):
        return scores
    for method, found in searches.items():
        if len(found) == 1:
            scores[method] = {
                name: replace(figure, num_images=int(figure.value is not None))
                for name, figure in scores[method].items()
            }
    return scores

"""Whether models trained with other seeds find the same attributes: those that change the same.

Coordinates of two trainings have nothing in common, so an attribute is compared by its pictures:
the differences that it makes to the copies of the same held-out images. The searches lie in the
sub-folders `trained/*` of the search that they are compared with.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional

from stylex.errors import InputError
from stylex.estimates import mean, share
from stylex.evaluation.edits import Edits, read_edits
from stylex.evaluation.tables import Column, Row, Table

FOLDER = "trained"
ALIKE = 0.5  # cosine from which two attributes count as the same


def similarities(one: Edits, other: Edits, shift: int = 0) -> Float[Tensor, "k l"]:
    """Cosines between what each edit of two searches does to their common images.

    Args:
        one: A search's edits.
        other: Of the same split of the data, as a rule of another model.
        shift: Each image of the first meets the one this many places on in the second: what
            attributes at the same place have in common, whatever the image.

    Returns:
        In [-1, 1]; 0 where an edit changes nothing.

    Raises:
        InputError: If they have fewer than two images in common.
    """
    rows, others = _common(one, other)
    others = others.roll(-shift)
    dots = torch.zeros(len(one.names), len(other.names), dtype=torch.float64)
    squares = torch.zeros(len(one.names), dtype=torch.float64)
    other_squares = torch.zeros(len(other.names), dtype=torch.float64)
    for i, j in zip(rows.tolist(), others.tolist(), strict=True):  # one image's edits at a time
        first, second = _changes(one, i), _changes(other, j)
        dots += first @ second.T
        squares += first.square().sum(dim=1)
        other_squares += second.square().sum(dim=1)
    return dots / (squares[:, None] * other_squares).sqrt().clamp_min(1e-12)


def retraining_table(folder: Path, names: Sequence[str]) -> Table | None:
    """How well the attributes of a search are found again by models trained with other seeds.

    Args:
        folder: Of the search.
        names: Of the sub-folders of `trained` that hold finished searches.

    Returns:
        None if there are none.

    Raises:
        InputError: If one has no edits, or too few images in common with the search.
    """
    if not names:
        return None
    own = read_edits(folder)["stylex"]
    rows = []
    for name in names:
        other = read_edits(folder / FOLDER / name)["stylex"]
        best, elsewhere = (_best(similarities(own, other, shift)) for shift in (0, 1))
        cells = (share(best >= ALIKE), mean(best), mean(elsewhere))
        rows.append(Row(name, f"training {name}", "", cells, unit="attributes"))
    return Table(
        "retraining",
        "Other seeds of the training",
        "Each attribute beside the one of the other model that changes the same images most alike: "
        "the cosine between the differences of edited image and copy. 1 is the same change.",
        (
            Column("found", "Found again", f"Attributes with a match of {ALIKE} or more."),
            Column("cosine", "Best match"),
            Column(
                "elsewhere",
                "On other images",
                "The same for mismatched images: what is alike at its place in any image.",
            ),
        ),
        tuple(rows),
    )


def _best(cosines: Float[Tensor, "k l"]) -> Float[Tensor, " k"]:
    """Of each of the first's edits; 0 where nothing goes the same way, or there is no other."""
    return functional.pad(cosines, (0, 1)).amax(dim=1)


def _common(one: Edits, other: Edits) -> tuple[Int64[Tensor, " n"], Int64[Tensor, " n"]]:
    """Rows of the images that both searches edited."""
    rows, others = (one.positions[:, None] == other.positions).nonzero().T
    if len(rows) < 2:
        raise InputError(
            f"searches of two trainings are compared on at least 2 images that both edited, got "
            f"{len(rows)}; search with the same data, split, seed and question"
        )
    return rows, others


def _changes(edits: Edits, row: int) -> Float[Tensor, "k p"]:
    """What every edit does to one image's copy."""
    copy = edits.reconstructions[row].double().flatten()
    changes = [pixels[row].double().flatten() - copy for pixels in edits.edited]
    return torch.stack(changes) if changes else copy.new_zeros(0, len(copy))

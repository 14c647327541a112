"""The pictures that a search left: pairs, sweeps, a gallery, reconstructions; read and checked.

Pictures are 8-bit. In shapes: b images, a attributes, t positions of a knob, m steps of the ladder,
k classes.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.types import Pixels

LETTERS = {"1": 1, "2": 2}  # sizes that stand for themselves


@dataclass(frozen=True)
class Pictures:
    """Images that show one edit.

    Attributes:
        indices: Positions of the images in their data set.
        unchanged: Unedited reconstructions.
        changed: The same with the edit.
        before: The target's probability for each unedited reconstruction.
        after: The target's probability for each edited one.
    """

    indices: tuple[int, ...]
    unchanged: Pixels
    changed: Pixels
    before: tuple[float, ...]
    after: tuple[float, ...]

    def first(self, number: int) -> "Pictures":
        """At most so many of the images."""
        some = slice(number)
        return Pictures(
            self.indices[some],
            self.unchanged[some],
            self.changed[some],
            self.before[some],
            self.after[some],
        )


@dataclass(frozen=True)
class Sweep:
    """Images with one attribute at many positions of its knob.

    Attributes:
        indices: Positions of the images in their data set.
        positions: Of the knob, rising: -1 is the opposite extreme, 0 the image's own value, 1 the
            attribute's extreme.
        frames: The images.
        probabilities: Of all classes.
    """

    indices: tuple[int, ...]
    positions: tuple[float, ...]
    frames: UInt8[Tensor, "b t c h w"]
    probabilities: Float[Tensor, "b t k"]

    @property
    def rest(self) -> int:
        """Which frame is the unedited one."""
        return self.positions.index(0.0)

    def first(self, number: int) -> "Sweep":
        """At most so many of the images."""
        some = slice(number)
        return Sweep(
            self.indices[some], self.positions, self.frames[some], self.probabilities[some]
        )


@dataclass(frozen=True)
class Gallery:
    """Images that were not chosen, with every attribute at many positions of its knob.

    Attributes:
        indices: Positions of the images in their data set.
        images: The images themselves.
        image_probabilities: Of all classes, for the images themselves.
        positions: Of each attribute's knob, see `Sweep`.
        frames: The edited images, at most 128 px.
        probabilities: Of all classes.
        ladder_ranks: Attributes in the order in which the ladder adds them.
        ladder: Images with none, one, two ... attributes changed.
        ladder_probabilities: Of all classes.
    """

    indices: tuple[int, ...]
    images: Pixels
    image_probabilities: Float[Tensor, "b k"]
    positions: tuple[tuple[float, ...], ...]
    frames: UInt8[Tensor, "b a t c h w"]
    probabilities: Float[Tensor, "b a t k"]
    ladder_ranks: tuple[int, ...]
    ladder: UInt8[Tensor, "b m c h w"]
    ladder_probabilities: Float[Tensor, "b m k"]

    def sweep(self, attribute: int) -> Sweep:
        """That of one attribute, counted from 0."""
        return Sweep(
            self.indices,
            self.positions[attribute],
            self.frames[:, attribute],
            self.probabilities[:, attribute],
        )


@dataclass(frozen=True)
class Reconstructions:
    """Images and what the model makes of them, spread evenly over the reference images.

    Attributes:
        indices: Positions of the images in their data set.
        images: The images.
        reconstructions: The model's.
        probabilities: Of all classes, for the image (0) and its reconstruction (1).
    """

    indices: tuple[int, ...]
    images: Pixels
    reconstructions: Pixels
    probabilities: Float[Tensor, "b 2 k"]


def read_pictures(path: Path) -> Pictures:
    """Reads images that show one edit."""
    found = _read(
        path,
        indices="b",
        unchanged="b c h w",
        changed="b c h w",
        probabilities="b 2",
    )
    before, after = found["probabilities"].t().tolist()
    indices = tuple(found["indices"].tolist())
    return Pictures(indices, found["unchanged"], found["changed"], tuple(before), tuple(after))


def read_sweep(path: Path, num_classes: int) -> Sweep:
    """Reads an attribute's sweep."""
    found = _read(
        path, num_classes, indices="b", positions="t", frames="b t c h w", probabilities="b t k"
    )
    positions = tuple(found["positions"].tolist())
    _check_knob(path, positions)
    return Sweep(
        tuple(found["indices"].tolist()), positions, found["frames"], found["probabilities"]
    )


def read_gallery(path: Path, num_classes: int) -> Gallery:
    """Reads the gallery."""
    found = _read(
        path,
        num_classes,
        indices="b",
        images="b c H W",
        image_probabilities="b k",
        positions="a t",
        frames="b a t c h w",
        probabilities="b a t k",
        ladder_ranks="r",
        ladder="b m c H W",
        ladder_probabilities="b m k",
    )
    knobs = tuple(tuple(knob) for knob in found.pop("positions").tolist())
    for knob in knobs:
        _check_knob(path, knob)
    return Gallery(
        indices=tuple(found.pop("indices").tolist()),
        positions=knobs,
        ladder_ranks=tuple(found.pop("ladder_ranks").tolist()),
        **found,
    )


def read_reconstructions(path: Path, num_classes: int) -> Reconstructions:
    """Reads images with their reconstructions."""
    found = _read(
        path,
        num_classes,
        indices="b",
        images="b c h w",
        reconstructions="b c h w",
        probabilities="b 2 k",
    )
    return Reconstructions(tuple(found.pop("indices").tolist()), **found)


def _read(path: Path, num_classes: int | None = None, **shapes: str) -> dict[str, Tensor]:
    """Tensors whose axes of one letter have one size; those of pictures must be 8-bit.

    Raises:
        InputError: If one is missing, or does not fit the others.
    """
    tensors, _ = read_tensors(path, "a picture file of the search")
    sizes = LETTERS | ({} if num_classes is None else {"k": num_classes})
    for name, letters in shapes.items():
        if name not in tensors:
            raise InputError(f"'{path}' must have '{name}', got none; run search.py again")
        axes, found = letters.split(), tensors[name]
        is_picture = axes[-1] in "wW"
        fits = len(axes) == found.ndim and is_picture == (found.dtype == torch.uint8)
        for letter, size in zip(axes, found.shape, strict=False):
            fits &= sizes.setdefault(letter, size) == size and size > 0
        if not fits or (is_picture and found.shape[-3] not in (1, 3)):
            raise InputError(
                f"'{name}' of '{path}' must be {'8-bit pictures' if is_picture else 'numbers'} "
                f"[{letters}] that fit the other tensors, got {tuple(found.shape)} of "
                f"{found.dtype}; run search.py again"
            )
    return {name: tensors[name] for name in shapes}


def _check_knob(path: Path, positions: tuple[float, ...]) -> None:
    rising = all(a < b for a, b in zip(positions, positions[1:], strict=False))
    if not rising or 0.0 not in positions:
        raise InputError(
            f"the positions of '{path}' must rise and have 0 among them, got {positions}; run "
            "search.py again"
        )

"""Lists of edits, each of one style coordinate of one image."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from jaxtyping import Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Edits:
    """Edits of one style coordinate each.

    Attributes:
        images: Rows of the engine's study.
        coordinates: Flat style coordinates, convolutions' and ToRGB layers' alike.
        directions: 0 towards the coordinate's smallest value, 1 towards its largest.
        strengths: 0 changes nothing, 1 sets the coordinate to the extreme, more goes beyond it by
            as much.
    """

    images: Int64[Tensor, " m"]
    coordinates: Int64[Tensor, " m"]
    directions: Int64[Tensor, " m"]
    strengths: Float[Tensor, " m"]

    def __len__(self) -> int:
        """Number of edits."""
        return len(self.images)

    def select(self, index: Tensor) -> "Edits":
        """Some of the edits, by positions or by a mask."""
        return Edits(*(getattr(self, field.name)[index] for field in fields(self)))

    @classmethod
    def concatenate(cls, parts: Sequence["Edits"]) -> "Edits":
        """Several lists as one, in their order."""
        return cls(*(torch.cat([getattr(p, field.name) for p in parts]) for field in fields(cls)))

    @classmethod
    def grid(
        cls, images: Int64[Tensor, " b"], coordinates: Int64[Tensor, " c"], strength: float
    ) -> "Edits":
        """Every image, in both directions, at every coordinate; the coordinate changes fastest."""
        axes = torch.meshgrid(images, torch.arange(2), coordinates, indexing="ij")
        image, direction, coordinate = (axis.flatten() for axis in axes)
        return cls(image, coordinate, direction, torch.full(image.shape, float(strength)))

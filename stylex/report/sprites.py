"""Sheets of small pictures inside a page: what its knobs turn through."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from stylex.imaging import Picture

LARGEST_PX = 128  # larger frames are halved until they fit
LARGEST_SHEET_PX = 16383  # WebP's limit; frames are halved until their sheet fits
LOSSLESS_PX = 64  # frames up to this keep every pixel
QUALITY = 85  # of WebP beyond
NUM_CLASSES = 8  # whose probabilities a page has


@dataclass(frozen=True)
class Classes:
    """The classes whose probabilities a page shows beside a search's pictures.

    Attributes:
        indices: Of the classes: target, source, then those that reach most.
        num_others: Classes that are left; their probabilities are added up.
    """

    indices: tuple[int, ...]
    num_others: int

    @classmethod
    def most_probable(
        cls, first: Sequence[int], probabilities: Sequence[Float[Tensor, "... k"]]
    ) -> "Classes":
        """Some classes that are wanted first, then those that reach the highest probability."""
        highest = torch.stack([p.flatten(0, -2).amax(dim=0) for p in probabilities]).amax(dim=0)
        ranked = highest.argsort(descending=True, stable=True).tolist()
        indices = (*first, *(k for k in ranked if k not in first))[:NUM_CLASSES]
        return cls(indices, len(highest) - len(indices))

    def of(self, probabilities: Float[Tensor, "... k"]) -> list[Any]:
        """Probabilities of these classes, and of all others together if there are any."""
        some = probabilities[..., list(self.indices)].double()
        if self.num_others:
            rest = (1 - some.sum(dim=-1, keepdim=True)).clamp(0, 1)
            some = torch.cat((some, rest), dim=-1)
        rounded = (some * 1e4).round()
        rounded = torch.where(some > 0, rounded.clamp(min=1), rounded)  # neither none nor all
        rounded = torch.where(some < 1, rounded.clamp(max=9999), rounded)
        found: list[Any] = (rounded / 1e4).tolist()
        return found


def sheet(
    frames: UInt8[Tensor, "b t c h w"],
    probabilities: Float[Tensor, "b t k"],
    classes: Classes,
    indices: Sequence[int],
    positions: Sequence[float],
) -> dict[str, Any]:
    """A sheet as the page's script reads it: a row for each image, a column for each frame.

    Args:
        frames: The pictures.
        probabilities: Of all classes.
        classes: Those that the page shows.
        indices: Positions of the images in their data set.
        positions: Of the knob, one for each frame.
    """
    small, most = frames, max(frames.shape[:2])
    while small.shape[-1] > LARGEST_PX or most * small.shape[-1] > LARGEST_SHEET_PX:
        small = _halve(small)
    return {
        "uri": _encode(small.permute(2, 0, 3, 1, 4).flatten(3, 4).flatten(1, 2), small.shape[-1]),
        "side": small.shape[-1],
        "full": frames.shape[-1],
        "indices": list(indices),
        "positions": [round(position, 4) for position in positions],
        "probabilities": classes.of(probabilities),
    }


def thumbnail(picture: Picture) -> str:
    """One picture, at most 128 px, as a data URI."""
    small = picture[None, None]
    while small.shape[-1] > LARGEST_PX:
        small = _halve(small)
    return _encode(small[0, 0], small.shape[-1])


def _encode(picture: Picture, side: int) -> str:
    array = picture.permute(1, 2, 0).contiguous().numpy()
    made = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array).convert("RGB")
    buffer = io.BytesIO()
    made.save(buffer, format="WEBP", lossless=side <= LOSSLESS_PX, quality=QUALITY)
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _halve(frames: UInt8[Tensor, "b t c h w"]) -> UInt8[Tensor, "b t c h2 w2"]:
    pooled = torch.nn.functional.avg_pool2d(frames.flatten(0, 1).float(), 2)
    return pooled.round().to(torch.uint8).unflatten(0, frames.shape[:2])

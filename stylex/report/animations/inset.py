"""The square of an image that an edit changes most, magnified beside it, with lines leading there.

The magnified copy stands outside the image, so that it hides nothing of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from stylex.imaging import Picture
from stylex.report.animations.canvas import (
    FINE,
    INK,
    MUTED,
    RULE,
    line_height,
    text_width,
    to_pillow,
    write,
)

SHARE = 4  # a region's side is this part of the image's
SMOOTH_FROM_PX = 128  # images of at least this side are magnified smoothly, others by whole pixels
UNCHANGED = "no change"
Point = tuple[int, int]


@dataclass(frozen=True)
class Region:
    """A square of an image, in the image's pixels."""

    left: int
    top: int
    side: int

    def crop(self, picture: Picture, side_px: int) -> Image.Image:
        """This part of a picture, magnified to a size; small pictures by repeated pixels."""
        part = picture[:, self.top : self.top + self.side, self.left : self.left + self.side]
        is_small = picture.shape[-1] < SMOOTH_FROM_PX
        kind = Image.Resampling.NEAREST if is_small else Image.Resampling.BICUBIC
        return to_pillow(part, self.side).resize((side_px, side_px), kind)


@dataclass(frozen=True)
class Inset:
    """Where a region lies in a frame, and where its magnified copy stands.

    Attributes:
        region: In its image; none if nothing changes.
        image: Left top corner of the image in the frame.
        factor: How many times the image is enlarged there.
        place: Left top corner of the copy, which is below the image or right of it.
        side: Of the copy, in pixels of the frame.
    """

    region: Region | None
    image: Point
    factor: int
    place: Point
    side: int

    @property
    def here(self) -> tuple[int, int, int]:
        """Left, top and side of the region in the frame."""
        assert self.region is not None
        x, y = self.image
        left, top = x + self.region.left * self.factor, y + self.region.top * self.factor
        return left, top, self.region.side * self.factor

    def leaders(self) -> tuple[tuple[Point, Point], ...]:
        """Two lines from the region's frame to that of its copy."""
        left, top, side = self.here
        x, y = self.place
        if y > self.image[1]:
            low = top + side
            return ((left - 1, low), (x - 1, y - 1)), ((left + side, low), (x + self.side, y - 1))
        right = left + side
        return ((right, top - 1), (x - 1, y - 1)), ((right, top + side), (x - 1, y + self.side))


def find_region(frames: UInt8[Tensor, "t c h w"], rest: int) -> Region | None:
    """The region that changes most, the change summed over frames and channels.

    Args:
        frames: One image under an edit.
        rest: Which frame is the unedited one.

    Returns:
        The first such region from the top left; none if nothing changes.
    """
    change = (frames.double() - frames[rest].double()).abs().sum(dim=(0, 1))
    if not change.any():
        return None
    side = max(1, change.shape[-1] // SHARE)
    sums = F.avg_pool2d(change[None, None], side, stride=1)[0, 0]
    top, left = divmod(int(sums.argmax()), sums.shape[1])
    return Region(left, top, side)


def draw_places(ground: Image.Image, insets: Sequence[Inset]) -> None:
    """Draws a thin frame where each copy will stand; where nothing changes it says so."""
    draw = ImageDraw.Draw(ground)
    for inset in insets:
        (x, y), side = inset.place, inset.side
        if inset.region is not None:
            draw.rectangle((x - 1, y - 1, x + side, y + side), outline=INK)
            continue
        draw.rectangle((x - 1, y - 1, x + side, y + side), outline=RULE)
        size = max(12, side // 12)
        left = x + (side - text_width(UNCHANGED, size)) // 2
        write(draw, (left, y + (side - line_height(size)) // 2), UNCHANGED, size, MUTED)


def leader_masks(size: tuple[int, int], insets: Sequence[Inset]) -> tuple[Image.Image, Image.Image]:
    """Where a frame of a size is dark, and then where it is white, to lead from regions to copies.

    White lines with dark edges are seen on any image. The regions and their copies stay free.
    """
    masks = []
    for width in (3, 1):
        mask = Image.new("L", (size[0] * FINE, size[1] * FINE))
        draw = ImageDraw.Draw(mask)
        for inset in insets:
            for line in inset.leaders():
                centred = [tuple(FINE * (v + 0.5) for v in point) for point in line]
                draw.line(centred, fill=255, width=width * FINE)
        mask = mask.reduce(FINE)
        draw = ImageDraw.Draw(mask)
        for inset in insets:
            left, top, side = inset.here
            for step in range(width // 2 + 1, 0, -1):
                edge = (left - step, top - step, left + side + step - 1, top + side + step - 1)
                draw.rectangle(edge, outline=255)
            (x, y), side = inset.place, inset.side
            draw.rectangle((x, y, x + side - 1, y + side - 1), fill=0)
        masks.append(mask)
    return masks[0], masks[1]

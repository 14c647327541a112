"""Small random moves of a picture, so that what is found in it does not hang on single pixels.

Source: Olah et al. 2017, "Feature Visualization", Transformation Robustness; the blur is that of
    Yosinski et al. 2015 (arXiv:1506.06579), made to fade.
"""

import math
from dataclasses import dataclass

import torch
from torch.nn import functional as F

from stylex.types import Images


@dataclass(frozen=True)
class Transforms:
    """Random moves, the same for all images of a batch; beyond the border the image is mirrored.

    Attributes:
        jitter_px: Largest shift in each direction.
        rotation_degrees: Largest turn.
        scaling: Largest growth or shrinkage, as a share of the size.
        blur_px: Standard deviation of the blur at the first step; it falls to 0 at the last.
    """

    jitter_px: int
    rotation_degrees: float
    scaling: float
    blur_px: float

    def __call__(self, images: Images, random: torch.Generator, remaining: float) -> Images:
        """Moves images; differentiable.

        Args:
            images: Of any size.
            random: On the CPU, so that all devices see the same moves.
            remaining: Share of the steps still to come, in [0, 1].
        """
        draws = (torch.rand(4, generator=random) * 2 - 1).tolist()
        shift = [round(draw * self.jitter_px) for draw in draws[:2]]
        moved = warp(images, draws[2] * self.rotation_degrees, 1 + draws[3] * self.scaling, shift)
        return blur(moved, self.blur_px * remaining)


def warp(images: Images, degrees: float, scale: float, shift_px: list[int]) -> Images:
    """Turns, scales and shifts images about their centre; mirrored beyond the border.

    Args:
        images: Left as they are if nothing is to be moved.
        degrees: Turn, clockwise.
        scale: Above 1 enlarges.
        shift_px: To the right, and down.
    """
    if degrees == 0 and scale == 1 and shift_px == [0, 0]:
        return images
    batch, _, height, width = images.shape
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    # Where each pixel is fetched from, in units of half the size: the inverse of the move.
    inverse = images.new_tensor([[cosine, sine], [-sine, cosine]]) / scale
    inverse = inverse * images.new_tensor([[1, height / width], [width / height, 1]])
    shift = images.new_tensor([2 * shift_px[0] / width, 2 * shift_px[1] / height])
    matrix = torch.cat((inverse, -(inverse @ shift)[:, None]), dim=1)
    places = F.affine_grid(matrix.expand(batch, 2, 3), list(images.shape), align_corners=False)
    return F.grid_sample(images, places, padding_mode="reflection", align_corners=False)


def blur(images: Images, std_px: float) -> Images:
    """Gaussian blur, mirrored beyond the border; 0 leaves the images as they are."""
    if std_px <= 0:
        return images
    radius = min(math.ceil(3 * std_px), min(images.shape[2:]) - 1)
    places = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-places.square() / (2 * std_px**2))
    weights = (weights / weights.sum()).expand(images.shape[1], 1, 1, -1)
    padded = F.pad(images, (radius, radius, radius, radius), mode="reflect")
    across = F.conv2d(padded, weights, groups=images.shape[1])
    return F.conv2d(across, weights.transpose(2, 3), groups=images.shape[1])

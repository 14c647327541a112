"""Frequency bands made louder or softer, and holes: the paper's last kinds of augmentation.

They help little in the paper and are off unless asked for.
Source: Karras et al. 2020 (arXiv:2006.06676), appendix B.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from stylex.training.warp import padded
from stylex.types import Images

POWER = (10 / 13, 1 / 13, 1 / 13, 1 / 13)  # expected of natural images in each band, lowest first
HALF_BAND = (-1.0, 0.0, 9.0, 16.0, 9.0, 0.0, -1.0)  # over 32: sym2's low-pass with its mirror image


def band_filters() -> Float[Tensor, "4 t"]:
    """Filters of [0, π/8], [π/8, π/4], [π/4, π/2] and [π/2, π], which add up to the identity."""
    half = torch.tensor(HALF_BAND, dtype=torch.float64) / 32
    passed = torch.ones(1, dtype=torch.float64)
    lows = [passed]
    for octave in range(3):
        spread = torch.zeros(6 * 2**octave + 1, dtype=torch.float64)
        spread[:: 2**octave] = half
        passed = F.conv1d(passed[None, None], spread[None, None], padding=len(spread) - 1)[0, 0]
        lows.append(passed)
    longest = len(passed)
    same = [F.pad(low, ((longest - len(low)) // 2,) * 2) for low in lows]
    bands = [same[3], same[2] - same[3], same[1] - same[2], same[0] - same[1]]
    return torch.stack(bands).float()


def filtered(images: Images, gains: Float[Tensor, "b 4"], bands: Float[Tensor, "4 t"]) -> Images:
    """Multiplies each band of each image, keeping the power that is expected of natural images.

    Args:
        images: Images.
        gains: Of the bands, each made up for by the others, one after another.
        bands: `band_filters`, on the device of the images.
    """
    count, channels, height, width = images.shape
    power = torch.stack([torch.full_like(gains[0, 0], share) for share in POWER])
    single = torch.where(torch.eye(4, dtype=torch.bool, device=gains.device), gains[:, None], 1.0)
    kept = single / (power * single.square()).sum(dim=2, keepdim=True).sqrt()  # [b 4 4]
    kernels = (kept.prod(dim=1)[:, :, None] * bands.to(images.dtype)).sum(dim=1)  # [b t]
    kernels = kernels[:, None, None].expand(-1, channels, -1, -1).flatten(0, 1)[:, None]
    margin = kernels.shape[3] // 2
    wide = padded(images, margin).view(1, -1, height + 2 * margin, width + 2 * margin)
    rows = F.conv2d(wide, kernels, groups=count * channels)
    both = F.conv2d(rows, kernels.transpose(2, 3), groups=count * channels)
    return both.view(images.shape)


def hole(images: Images, middles: Float[Tensor, "b 2"]) -> Bool[Tensor, "b 1 h w"]:
    """A square of half the side around a middle (x, y), given in shares of the image's sides."""
    inside = []
    for axis, size in enumerate((images.shape[3], images.shape[2])):
        places = (torch.arange(size, device=images.device) + 0.5) / size
        inside.append((places - middles[:, axis, None]).abs() < 0.25)
    across, down = inside
    return (down[:, :, None] & across[:, None])[:, None]

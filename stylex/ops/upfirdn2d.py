"""Resampling with a finite impulse response: insert zeros, pad, filter, keep every n-th sample.

Transposed and strided depthwise convolutions are the polyphase form of this chain: no zero is
stored and no dropped sample is computed. Everything here is a plain convolution, so it can be
differentiated to any order.
Source: Karras et al. 2020 (arXiv:1912.04958), appendix B, and the usual algebra of multirate
    filters.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

FEATURES = Float[Tensor, "b c h w"]
RESIZED = Float[Tensor, "b c h2 w2"]


def upfirdn2d(
    x: FEATURES,
    taps: Float[Tensor, " t"],
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] = (0, 0),
    gain: float = 1.0,
) -> RESIZED:
    """Inserts zeros, pads, convolves with outer(taps, taps), keeps every `down`-th sample.

    Args:
        x: Features or images.
        taps: One axis of the separable filter; it is convolved, not correlated.
        up: Samples after insertion per sample before, on each axis.
        down: Samples before decimation per sample kept, on each axis.
        padding: Zeros before and after each axis, counted after zero insertion; negative numbers
            crop.
        gain: Factor on the result.

    Returns:
        Resampled features, `(size·up + before + after − taps) // down + 1` on each axis.

    Raises:
        ValueError: If `up` or `down` is below 1.
    """
    if up < 1 or down < 1:
        raise ValueError(f"up and down must be at least 1, got up={up} and down={down}")
    channels, length = x.shape[1], len(taps)
    taps = taps.to(x.dtype)
    kernel = (gain * torch.outer(taps, taps)).expand(channels, 1, length, length)
    before, after = padding
    if up == 1:
        common = max(0, min(before, after))
        x = _pad(x, before - common, after - common)
        return F.conv2d(x, kernel.flip(2, 3), stride=down, padding=common, groups=channels)
    # A transposed convolution pads by length − 1 on either side; what is too much is cropped.
    crop_before, crop_after = length - 1 - before, length - up - after
    common = max(0, min(crop_before, crop_after))
    x = F.conv_transpose2d(x, kernel, stride=up, padding=common, groups=channels)
    x = _pad(x, common - crop_before, common - crop_after)
    return x[:, :, ::down, ::down] if down > 1 else x


def _pad(x: FEATURES, before: int, after: int) -> RESIZED:
    return F.pad(x, (before, after, before, after)) if before or after else x


def upsample2d(x: FEATURES, taps: Float[Tensor, " t"]) -> RESIZED:
    """Doubles the resolution and keeps the mean: padding ((t+1)//2, (t−2)//2), gain 4."""
    length = len(taps)
    return upfirdn2d(x, taps, up=2, padding=((length + 1) // 2, (length - 2) // 2), gain=4.0)


def downsample2d(x: FEATURES, taps: Float[Tensor, " t"]) -> RESIZED:
    """Halves the resolution and keeps the mean: padding ((t−1)//2, (t−2)//2)."""
    length = len(taps)
    return upfirdn2d(x, taps, down=2, padding=((length - 1) // 2, (length - 2) // 2))

"""Resampling with a finite impulse response: insert zeros, pad, filter, keep every n-th sample.

The adjoint of such a chain is another one, with the factors exchanged and the filter turned, so the
op is its own derivative of every order. In plain PyTorch, transposed and strided depthwise
convolutions are the polyphase form of the chain: no zero is stored, no dropped sample computed.
Source: Karras et al. 2020 (arXiv:1912.04958), appendix B, and the usual algebra of multirate
    filters.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.ops.backend import Impl, at_least_float32, fused, layout

FEATURES = Float[Tensor, "b c h w"]
RESIZED = Float[Tensor, "b c h2 w2"]
MOST_TAPS = 24  # per axis
SEPARABLE_AT_ONCE = 8  # longer filters go axis by axis

torch.library.define(
    "stylex::upfirdn2d",
    "(Tensor x, Tensor taps, int[] up, int[] down, int[] padding, bool flip, float gain) -> Tensor",
)


def upfirdn2d(
    x: FEATURES,
    taps: Float[Tensor, " t"] | Float[Tensor, "t u"],
    up: int = 1,
    down: int = 1,
    padding: tuple[int, int] | tuple[int, int, int, int] = (0, 0),
    gain: float = 1.0,
    impl: Impl = "auto",
) -> RESIZED:
    """Inserts zeros, pads, convolves, keeps every `down`-th sample.

    Args:
        x: Features or images.
        taps: The filter [t u], or one axis [t] of the separable filter outer(taps, taps); at most
            24 taps per axis. It is convolved, not correlated, and gets no gradient.
        up: Samples after insertion per sample before, on each axis.
        down: Samples before decimation per sample kept, on each axis.
        padding: Zeros before and after each axis, or (top, bottom, left, right), counted after zero
            insertion; negative numbers crop.
        gain: Factor on the result.
        impl: See `backend.fused`.

    Returns:
        Resampled features, `(size·up + before + after − taps) // down + 1` on each axis.

    Raises:
        ValueError: If `up` or `down` is below 1, or the filter too long.
    """
    if up < 1 or down < 1:
        raise ValueError(f"up and down must be at least 1, got up={up} and down={down}")
    if not 1 <= max(taps.shape) <= MOST_TAPS:
        raise ValueError(f"a filter has 1 to {MOST_TAPS} taps per axis, got {tuple(taps.shape)}")
    run = torch.ops.stylex.upfirdn2d if fused(impl, x) else _composed
    top, bottom, left, right = padding if len(padding) == 4 else (*padding, *padding)
    if taps.ndim == 2 or len(taps) <= SEPARABLE_AT_ONCE:
        pads = [top, bottom, left, right]
        return run(x, taps, [up, up], [down, down], pads, False, gain)
    x = run(x, taps[None], [1, up], [1, down], [0, 0, left, right], False, gain)
    return run(x, taps[:, None], [up, 1], [down, 1], [top, bottom, 0, 0], False, 1.0)


def upsample2d(x: FEATURES, taps: Float[Tensor, " t"], impl: Impl = "auto") -> RESIZED:
    """Doubles the resolution and keeps the mean: padding ((t+1)//2, (t−2)//2), gain 4."""
    length = len(taps)
    padding = ((length + 1) // 2, (length - 2) // 2)
    return upfirdn2d(x, taps, up=2, padding=padding, gain=4.0, impl=impl)


def downsample2d(x: FEATURES, taps: Float[Tensor, " t"], impl: Impl = "auto") -> RESIZED:
    """Halves the resolution and keeps the mean: padding ((t−1)//2, (t−2)//2)."""
    length = len(taps)
    padding = ((length - 1) // 2, (length - 2) // 2)
    return upfirdn2d(x, taps, down=2, padding=padding, impl=impl)


def _composed(
    x: Tensor,
    taps: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip: bool,
    gain: float,
) -> Tensor:
    """The op in plain PyTorch; factors are (vertical, horizontal), `flip` correlates instead."""
    dtype, channels = x.dtype, x.shape[1]
    x, taps = at_least_float32(x), taps.to(at_least_float32(x).dtype)
    square = torch.outer(taps, taps) if taps.ndim == 1 else taps
    square = gain * (square.flip(0, 1) if flip else square)
    kernel = square.expand(channels, 1, *square.shape)
    top, bottom, left, right = padding
    if list(up) == [1, 1]:
        common = [max(0, min(top, bottom)), max(0, min(left, right))]
        rest = (left - common[1], right - common[1], top - common[0], bottom - common[0])
        x = F.pad(x, rest) if any(rest) else x
        turned = kernel.flip(2, 3)
        return F.conv2d(x, turned, stride=tuple(down), padding=common, groups=channels).to(dtype)
    # A transposed convolution pads by taps − 1 on either side; what is too much is cropped.
    height, width = square.shape
    crops = [(height - 1 - top, height - up[0] - bottom), (width - 1 - left, width - up[1] - right)]
    common = [max(0, min(crop)) for crop in crops]
    x = F.conv_transpose2d(x, kernel, stride=tuple(up), padding=common, groups=channels)
    (above, below), (before, after) = crops
    rest = (common[1] - before, common[1] - after, common[0] - above, common[0] - below)
    x = F.pad(x, rest) if any(rest) else x
    return x[:, :, :: down[0], :: down[1]].to(dtype)


@torch.library.impl("stylex::upfirdn2d", "CPU")
def _upfirdn2d(x: Tensor, *call: Any) -> Tensor:  # noqa: ANN401
    return _composed(x, *call).contiguous(memory_format=layout(x)).clone()


def _lengths(taps: Tensor) -> tuple[int | torch.SymInt, int | torch.SymInt]:
    """Taps along the rows' and the columns' axis."""
    return taps.shape[0], taps.shape[-1]


@torch.library.register_fake("stylex::upfirdn2d")
def _upfirdn2d_fake(
    x: Tensor,
    taps: Tensor,
    up: Sequence[int],
    down: Sequence[int],
    padding: Sequence[int],
    flip: bool,
    gain: float,
) -> Tensor:
    sizes = [
        (x.shape[2 + axis] * up[axis] + padding[2 * axis] + padding[2 * axis + 1] - length)
        // down[axis]
        + 1
        for axis, length in enumerate(_lengths(taps))
    ]
    return x.new_empty((*x.shape[:2], *sizes)).contiguous(memory_format=layout(x))


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    x, taps, *ctx.call = inputs
    ctx.sizes = (x.shape[2:], output.shape[2:])
    ctx.save_for_backward(taps)


def _derivative(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    """The adjoint: exchanged factors, a turned filter, and paddings that restore the size."""
    (taps,) = ctx.saved_tensors
    up, down, padding, flip, gain = ctx.call
    pads = []
    for axis, length in enumerate(_lengths(taps)):
        before = padding[2 * axis]
        size, result = (shape[axis] for shape in ctx.sizes)
        pads += [length - 1 - before, size * up[axis] - result * down[axis] + before - up[axis] + 1]
    gx = torch.ops.stylex.upfirdn2d(gy, taps, down, up, pads, not flip, gain)
    return gx, *(None,) * 6


torch.library.register_autograd("stylex::upfirdn2d", _derivative, setup_context=_keep)

"""What follows every convolution: blur, demodulate, add noise and bias, activate, clamp.

With the mask of the result held fixed, the epilogue is linear in the features, the demodulation,
the bias and the noise strength each. Its adjoint (`epilogue_vjp`) and its tangent (`epilogue_jvp`)
are each other's derivatives, so these three ops are closed under differentiation of any order.
Source: Karras et al. 2020 (arXiv:1912.04958), figure 2; leaky ReLU with slope 0.2 and gain sqrt(2).
"""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.ops.backend import Impl, at_least_float32, fused, layout
from stylex.ops.upfirdn2d import upfirdn2d

SLOPE = 0.2
GAIN = math.sqrt(2.0)
BLUR_TAPS = 4  # of the blur that the fused op takes along

_CALL = (
    "Tensor? demodulation, Tensor? noise, Tensor? taps, float blur_gain, float gain, float clamp"
)
torch.library.define(
    "stylex::epilogue", f"(Tensor x, Tensor bias, Tensor? strength, {_CALL}) -> Tensor"
)
torch.library.define(
    "stylex::epilogue_vjp",
    f"(Tensor gy, Tensor y, Tensor? x, {_CALL}) -> (Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "stylex::epilogue_jvp",
    "(Tensor vx, Tensor? v_demodulation, Tensor? v_bias, Tensor? v_strength, Tensor y, Tensor? x, "
    f"{_CALL}) -> Tensor",
)


def epilogue(
    x: Float[Tensor, "b c h w"],
    bias: Float[Tensor, " c"],
    demodulation: Float[Tensor, "b c"] | None = None,
    noise: Float[Tensor, "#b 1 h2 w2"] | None = None,
    strength: Float[Tensor, ""] | None = None,
    taps: Float[Tensor, " t"] | None = None,
    *,
    blur_gain: float = 1.0,
    gain: float = GAIN,
    clamp: float = math.inf,
    impl: Impl = "auto",
) -> Float[Tensor, "b c h2 w2"]:
    """Computes clamp(gain · lrelu(blur(x) · demodulation + strength · noise + bias)).

    Args:
        x: Output of a convolution.
        bias: Added to every channel.
        demodulation: Factor per sample and channel; none leaves the scale.
        noise: The same for all channels, no gradient flows to it; none adds nothing.
        strength: Factor on the noise, given exactly when the noise is.
        taps: One axis of the blur after a transposed convolution; padded by 1 on either side, so
            four taps take a row and a column away. None does not blur.
        blur_gain: Factor on the blur: 4 restores the mean after doubling the resolution.
        gain: Factor after the activation; sqrt(2) keeps the variance, 1 suits a residual branch.
        clamp: Largest magnitude of the result.
        impl: See `backend.fused`.

    Returns:
        Activations in the type and memory format of x, computed in float32.

    Raises:
        ValueError: If noise comes without its strength, or asks for a gradient.
    """
    if (noise is None) != (strength is None):
        raise ValueError("noise and strength must be given together, got one of them")
    if noise is not None and noise.requires_grad:
        raise ValueError("noise must not require a gradient, got one that does; detach it")
    if fused(impl, x):
        if taps is not None and len(taps) != BLUR_TAPS:
            x = upfirdn2d(x, taps, padding=(1, 1), gain=blur_gain, impl=impl)
            taps = None
        return torch.ops.stylex.epilogue(
            x, bias, strength, demodulation, noise, taps, blur_gain, gain, clamp
        )
    return _composed(x, bias, strength, demodulation, noise, taps, blur_gain, gain, clamp)


def _composed(
    x: Tensor,
    bias: Tensor,
    strength: Tensor | None,
    demodulation: Tensor | None,
    noise: Tensor | None,
    taps: Tensor | None,
    blur_gain: float,
    gain: float,
    clamp: float,
) -> Tensor:
    """The epilogue in plain PyTorch."""
    y = _blur(at_least_float32(x), taps, blur_gain)
    if demodulation is not None:
        y = y * demodulation[:, :, None, None]
    if noise is not None and strength is not None:
        y = y + noise * strength
    y = F.leaky_relu(y + bias[:, None, None], SLOPE) * gain
    if not math.isinf(clamp):
        y = y.clamp(-clamp, clamp)
    return y.to(x.dtype)


def _blur(x: Tensor, taps: Tensor | None, gain: float) -> Tensor:
    """The blur after a transposed convolution."""
    return x if taps is None else upfirdn2d(x, taps, padding=(1, 1), gain=gain, impl="reference")


def _blur_adjoint(x: Tensor, taps: Tensor | None, gain: float) -> Tensor:
    if taps is None:
        return x
    reach = len(taps) - 2
    flipped = taps.flip(0)
    return upfirdn2d(x, flipped, padding=(reach, reach), gain=gain, impl="reference")


def _mask(y: Tensor, gain: float, clamp: float) -> Tensor:
    """Derivative of the activation at its result: gain, gain · slope, or 0 where it is clamped."""
    slope = torch.where(y > 0, gain, gain * SLOPE).to(at_least_float32(y).dtype)
    if math.isinf(clamp):
        return slope
    return slope.masked_fill(y.abs() >= torch.tensor(clamp, dtype=y.dtype), 0.0)


@torch.library.impl("stylex::epilogue", "CPU")
def _epilogue(x: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
    return _composed(x, *rest).contiguous(memory_format=layout(x))


@torch.library.impl("stylex::epilogue_vjp", "CPU")
def _epilogue_vjp(
    gy: Tensor,
    y: Tensor,
    x: Tensor | None,
    demodulation: Tensor | None,
    noise: Tensor | None,
    taps: Tensor | None,
    blur_gain: float,
    gain: float,
    clamp: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    masked = at_least_float32(gy) * _mask(y, gain, clamp)
    gx = _blur_adjoint(masked, taps, blur_gain)
    for_demodulation = masked.new_empty(0) if x is None else (gx * x).sum(dim=(2, 3))
    if demodulation is not None:
        gx = gx * demodulation[:, :, None, None]
    return (
        gx.to(gy.dtype).contiguous(memory_format=layout(y)),
        for_demodulation,
        masked.sum(dim=(0, 2, 3)),
        masked.new_empty(0) if noise is None else (masked * noise).sum(),
    )


@torch.library.impl("stylex::epilogue_jvp", "CPU")
def _epilogue_jvp(
    vx: Tensor,
    v_demodulation: Tensor | None,
    v_bias: Tensor | None,
    v_strength: Tensor | None,
    y: Tensor,
    x: Tensor | None,
    demodulation: Tensor | None,
    noise: Tensor | None,
    taps: Tensor | None,
    blur_gain: float,
    gain: float,
    clamp: float,
) -> Tensor:
    v = at_least_float32(vx)
    if demodulation is not None:
        v = v * demodulation[:, :, None, None]
    if v_demodulation is not None and x is not None:
        v = v + x * v_demodulation[:, :, None, None]
    v = _blur(v, taps, blur_gain)
    if v_bias is not None:
        v = v + v_bias[:, None, None]
    if v_strength is not None and noise is not None:
        v = v + v_strength * noise
    return (v * _mask(y, gain, clamp)).to(y.dtype).contiguous(memory_format=layout(y))


def _resized(x: Tensor, by: int) -> Tensor:
    """Uninitialised, `by` rows and columns larger than x, in its memory format."""
    b, c, h, w = x.shape
    return x.new_empty((b, c, h + by, w + by)).contiguous(memory_format=layout(x))


@torch.library.register_fake("stylex::epilogue")
def _epilogue_fake(x: Tensor, bias: Tensor, strength: Tensor | None, *call: Any) -> Tensor:  # noqa: ANN401
    return _resized(x, 0 if call[2] is None else -1)


@torch.library.register_fake("stylex::epilogue_vjp")
def _epilogue_vjp_fake(
    gy: Tensor,
    y: Tensor,
    x: Tensor | None,
    *call: Any,  # noqa: ANN401
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    _, noise, taps, *_ = call
    sums = torch.float64 if y.dtype == torch.float64 else torch.float32
    return (
        _resized(y, 0 if taps is None else 1),
        y.new_empty(0 if x is None else y.shape[:2], dtype=sums),
        y.new_empty(y.shape[1], dtype=sums),
        y.new_empty(0 if noise is None else (), dtype=sums),
    )


@torch.library.register_fake("stylex::epilogue_jvp")
def _epilogue_jvp_fake(vx: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401
    y = rest[3]
    return torch.empty_like(y, memory_format=layout(y))


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    x, _, _, demodulation, noise, taps, *ctx.numbers = inputs
    needed = None if demodulation is None else x
    ctx.save_for_backward(output, needed, demodulation, noise, taps)


def _forward_derivative(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    y, x, demodulation, noise, taps = ctx.saved_tensors
    gx, g_demodulation, g_bias, g_strength = torch.ops.stylex.epilogue_vjp(
        gy, y, x, demodulation, noise, taps, *ctx.numbers
    )
    return (
        gx,
        g_bias,
        None if noise is None else g_strength,
        None if demodulation is None else g_demodulation,
        *(None,) * 5,
    )


def _keep_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
    gy, y, x, demodulation, noise, taps, *ctx.numbers = inputs
    ctx.save_for_backward(gy, y, x, demodulation, noise, taps)


def _adjoint_derivative(ctx: Any, *cotangents: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    """The adjoint is linear in gy; and, where there is demodulation, in it and in x."""
    gy, y, x, demodulation, noise, taps = ctx.saved_tensors
    vx, v_demodulation, v_bias, v_strength = cotangents
    given = (
        None if demodulation is None else v_demodulation,
        v_bias,
        None if noise is None else v_strength,
    )
    ggy = torch.ops.stylex.epilogue_jvp(vx, *given, y, x, demodulation, noise, taps, *ctx.numbers)
    gx = g_demodulation = None
    if demodulation is not None:
        gx, g_demodulation, _, _ = torch.ops.stylex.epilogue_vjp(
            gy, y, vx, v_demodulation, None, taps, *ctx.numbers
        )
    return ggy, None, gx, g_demodulation, *(None,) * 5


def _keep_tangent(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    vx, v_demodulation, v_bias, v_strength, y, x, demodulation, noise, taps, *ctx.numbers = inputs
    ctx.given = tuple(v is not None for v in (v_demodulation, v_bias, v_strength))
    ctx.save_for_backward(vx, v_demodulation, y, x, demodulation, noise, taps)


def _tangent_derivative(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    vx, v_demodulation, y, x, demodulation, noise, taps = ctx.saved_tensors
    by_vx, by_v_demodulation, by_v_bias, by_v_strength = torch.ops.stylex.epilogue_vjp(
        c, y, x, demodulation, noise, taps, *ctx.numbers
    )
    by_x = by_demodulation = None
    if v_demodulation is not None:
        by_x, by_demodulation, _, _ = torch.ops.stylex.epilogue_vjp(
            c, y, vx, v_demodulation, None, taps, *ctx.numbers
        )
    firsts = (by_v_demodulation, by_v_bias, by_v_strength)
    return (
        by_vx,
        *(found if given else None for found, given in zip(firsts, ctx.given, strict=True)),
        None,
        by_x,
        by_demodulation,
        *(None,) * 5,
    )


for _name, _derivative, _keep in (
    ("epilogue", _forward_derivative, _keep_forward),
    ("epilogue_vjp", _adjoint_derivative, _keep_adjoint),
    ("epilogue_jvp", _tangent_derivative, _keep_tangent),
):
    torch.library.register_autograd(f"stylex::{_name}", _derivative, setup_context=_keep)

"""Modulation of a convolution's input: x · s, cast to the type that the convolution runs in.

It is linear in x and in s; its adjoint and its tangent are each other's derivatives.
Source: Karras et al. 2020 (arXiv:1912.04958), eq. 1, with the style on the input's side.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.ops.backend import Impl, at_least_float32, fused, layout

FEATURES = Float[Tensor, "b c h w"]

torch.library.define("stylex::modulate", "(Tensor x, Tensor s, ScalarType dtype) -> Tensor")
torch.library.define("stylex::modulate_vjp", "(Tensor gy, Tensor x, Tensor s) -> (Tensor, Tensor)")
torch.library.define(
    "stylex::modulate_jvp",
    "(Tensor vx, Tensor vs, Tensor x, Tensor s, ScalarType dtype) -> Tensor",
)


def modulate(
    x: FEATURES, s: Float[Tensor, "b c"], dtype: torch.dtype, impl: Impl = "auto"
) -> FEATURES:
    """Multiplies every channel by its style.

    Args:
        x: Features.
        s: Factor per sample and channel, float32 (float64 in tests).
        dtype: Of the result.
        impl: See `backend.fused`.

    Returns:
        x · s in the memory format of x, computed in float32.
    """
    if fused(impl, x):
        return torch.ops.stylex.modulate(x, s, dtype)
    return (at_least_float32(x) * s[:, :, None, None]).to(dtype)


@torch.library.impl("stylex::modulate", "CPU")
def _modulate(x: Tensor, s: Tensor, dtype: torch.dtype) -> Tensor:
    y = (at_least_float32(x) * s[:, :, None, None]).to(dtype)
    return y.contiguous(memory_format=layout(x))


@torch.library.impl("stylex::modulate_vjp", "CPU")
def _modulate_vjp(gy: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    wide = at_least_float32(gy)
    gx = (wide * s[:, :, None, None]).to(x.dtype).contiguous(memory_format=layout(x))
    return gx, (wide * x).sum(dim=(2, 3)).to(s.dtype)


@torch.library.impl("stylex::modulate_jvp", "CPU")
def _modulate_jvp(vx: Tensor, vs: Tensor, x: Tensor, s: Tensor, dtype: torch.dtype) -> Tensor:
    y = at_least_float32(vx) * s[:, :, None, None] + x * vs[:, :, None, None]
    return y.to(dtype).contiguous(memory_format=layout(x))


@torch.library.register_fake("stylex::modulate")
def _modulate_fake(x: Tensor, s: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, dtype=dtype, memory_format=layout(x))


@torch.library.register_fake("stylex::modulate_vjp")
def _modulate_vjp_fake(gy: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x, memory_format=layout(x)), torch.empty_like(s)


@torch.library.register_fake("stylex::modulate_jvp")
def _modulate_jvp_fake(vx: Tensor, vs: Tensor, x: Tensor, s: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.empty_like(x, dtype=dtype, memory_format=layout(x))


def _keep_forward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    x, s, _ = inputs
    ctx.save_for_backward(x, s)


def _forward_derivative(ctx: Any, gy: Tensor) -> tuple[Tensor, Tensor, None]:  # noqa: ANN401
    x, s = ctx.saved_tensors
    gx, gs = torch.ops.stylex.modulate_vjp(gy, x, s)
    return gx, gs, None


def _keep_adjoint(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs)


def _adjoint_derivative(ctx: Any, vx: Tensor, vs: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # noqa: ANN401
    gy, x, s = ctx.saved_tensors
    ggy = torch.ops.stylex.modulate_jvp(vx, vs, x, s, gy.dtype)
    return ggy, *torch.ops.stylex.modulate_vjp(gy, vx, vs)


def _keep_tangent(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:  # noqa: ANN401
    ctx.save_for_backward(*inputs[:4])


def _tangent_derivative(ctx: Any, c: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    vx, vs, x, s = ctx.saved_tensors
    by_vx, by_vs = torch.ops.stylex.modulate_vjp(c, x, s)
    by_x, by_s = torch.ops.stylex.modulate_vjp(c, vx, vs)
    return by_vx, by_vs, by_x, by_s, None


torch.library.register_autograd(
    "stylex::modulate", _forward_derivative, setup_context=_keep_forward
)
torch.library.register_autograd(
    "stylex::modulate_vjp", _adjoint_derivative, setup_context=_keep_adjoint
)
torch.library.register_autograd(
    "stylex::modulate_jvp", _tangent_derivative, setup_context=_keep_tangent
)

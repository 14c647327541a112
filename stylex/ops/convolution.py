"""Convolutions whose derivatives of every order are convolutions of the same size.

PyTorch's own double backward forms the weight's term as a convolution with a kernel as large as the
feature map, for which no fast algorithm exists; R1 and path length would spend their time there.
Here the weight gradient is an op of its own, so that the set {convolution, transposed convolution,
weight gradient} is closed under differentiation. The kernels are PyTorch's (cuDNN on CUDA).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.ops.backend import Impl, explicit, layout

FEATURES = Float[Tensor, "b c h w"]
KERNEL = Float[Tensor, "o i k k"]

torch.library.define(
    "stylex::conv2d", "(Tensor x, Tensor weight, int stride, int padding) -> Tensor"
)
torch.library.define(
    "stylex::conv_transpose2d",
    "(Tensor x, Tensor weight, int stride, int padding, int[] output_padding) -> Tensor",
)
torch.library.define(
    "stylex::conv2d_weight",
    "(Tensor gy, Tensor x, int[] kernel, int stride, int padding) -> Tensor",
)


def conv2d(
    x: FEATURES, weight: KERNEL, stride: int = 1, padding: int = 0, impl: Impl = "auto"
) -> Float[Tensor, "b o h2 w2"]:
    """Correlates x with the kernel; see `backend.explicit` for where PyTorch's own op does it."""
    if not explicit(impl, x):
        return F.conv2d(x, weight, stride=stride, padding=padding)
    return torch.ops.stylex.conv2d(x, weight, stride, padding)


def conv_transpose2d(
    x: FEATURES,
    weight: Float[Tensor, "c o k k"],
    stride: int = 1,
    padding: int = 0,
    impl: Impl = "auto",
) -> Float[Tensor, "b o h2 w2"]:
    """Adjoint of `conv2d`, without output padding; the kernel's first axis is x's channels."""
    if not explicit(impl, x):
        return F.conv_transpose2d(x, weight, stride=stride, padding=padding)
    return torch.ops.stylex.conv_transpose2d(x, weight, stride, padding, [0, 0])


def _convolution(
    x: Tensor, weight: Tensor, stride: int, padding: int, output_padding: list[int] | None
) -> Tensor:
    """PyTorch's kernel, below autograd; transposed if an output padding is given."""
    y = torch.ops.aten.convolution(
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        output_padding is not None,
        output_padding or [0, 0],
        1,
    )
    return y.contiguous(memory_format=layout(x))


@torch.library.impl("stylex::conv2d", "CompositeExplicitAutograd")
def _conv2d(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    return _convolution(x, weight, stride, padding, None)


@torch.library.impl("stylex::conv_transpose2d", "CompositeExplicitAutograd")
def _conv_transpose2d(
    x: Tensor, weight: Tensor, stride: int, padding: int, output_padding: list[int]
) -> Tensor:
    return _convolution(x, weight, stride, padding, output_padding)


@torch.library.impl("stylex::conv2d_weight", "CompositeExplicitAutograd")
def _conv2d_weight(gy: Tensor, x: Tensor, kernel: list[int], stride: int, padding: int) -> Tensor:
    like_weight = x.new_empty(1).expand(gy.shape[1], x.shape[1], *kernel)
    return torch.ops.aten.convolution_backward(
        gy,
        x,
        like_weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        1,
        [False, True, False],
    )[1].contiguous()


def _sized(x: Tensor, channels: int | torch.SymInt, sizes: list[Any]) -> Tensor:
    """Uninitialised features in the memory format of x."""
    return x.new_empty((x.shape[0], channels, *sizes)).contiguous(memory_format=layout(x))


@torch.library.register_fake("stylex::conv2d")
def _conv2d_fake(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    sizes = [(x.shape[i] + 2 * padding - weight.shape[i]) // stride + 1 for i in (2, 3)]
    return _sized(x, weight.shape[0], sizes)


@torch.library.register_fake("stylex::conv_transpose2d")
def _conv_transpose2d_fake(
    x: Tensor, weight: Tensor, stride: int, padding: int, output_padding: list[int]
) -> Tensor:
    sizes = [
        (x.shape[i] - 1) * stride - 2 * padding + weight.shape[i] + output_padding[i - 2]
        for i in (2, 3)
    ]
    return _sized(x, weight.shape[1], sizes)


@torch.library.register_fake("stylex::conv2d_weight")
def _conv2d_weight_fake(
    gy: Tensor, x: Tensor, kernel: list[int], stride: int, padding: int
) -> Tensor:
    return x.new_empty((gy.shape[1], x.shape[1], *kernel))


def _adjoint(gy: Tensor, weight: Tensor, stride: int, padding: int, size: torch.Size) -> Tensor:
    """Gradient of a convolution's input of the given size."""
    rest = [
        size[axis] - ((gy.shape[axis] - 1) * stride - 2 * padding + weight.shape[axis])
        for axis in (2, 3)
    ]
    return torch.ops.stylex.conv_transpose2d(gy, weight, stride, padding, rest)


def _wants_weight(ctx: Any) -> bool:  # noqa: ANN401
    """Whether the present backward pass will use the weight's gradient.

    The inner pass of a penalty asks for the images' or latents' gradient alone. PyTorch tells a
    Python formula only which inputs could have a gradient, so the engine is asked.
    """
    if not ctx.needs_input_grad[1]:
        return False
    node = ctx.next_functions[1][0]
    try:
        return torch._C._will_engine_execute_node(node)
    except RuntimeError:  # the weight itself is what the pass was asked for
        return True


def _keep_inputs(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401
    first, second, *numbers = inputs
    ctx.save_for_backward(first, second)
    ctx.numbers = numbers


def _conv2d_derivative(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    x, weight = ctx.saved_tensors
    stride, padding = ctx.numbers
    gy = gy.contiguous(memory_format=layout(x))  # the smaller tensor to turn, at a ToRGB layer
    gx = gw = None
    if ctx.needs_input_grad[0]:
        gx = _adjoint(gy, weight, stride, padding, x.shape)
    if _wants_weight(ctx):
        gw = torch.ops.stylex.conv2d_weight(gy, x, weight.shape[2:], stride, padding)
    return gx, gw, None, None


def _conv_transpose2d_derivative(ctx: Any, gy: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    x, weight = ctx.saved_tensors
    stride, padding, _ = ctx.numbers
    gy = gy.contiguous(memory_format=layout(x))
    gx = gw = None
    if ctx.needs_input_grad[0]:
        gx = torch.ops.stylex.conv2d(gy, weight, stride, padding)
    if _wants_weight(ctx):
        gw = torch.ops.stylex.conv2d_weight(x, gy, weight.shape[2:], stride, padding)
    return gx, gw, None, None, None


def _conv2d_weight_derivative(ctx: Any, gw: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
    gy, x = ctx.saved_tensors
    _, stride, padding = ctx.numbers
    ggy = gx = None
    if ctx.needs_input_grad[0]:
        ggy = torch.ops.stylex.conv2d(x, gw, stride, padding)
    if ctx.needs_input_grad[1]:
        gx = _adjoint(gy, gw, stride, padding, x.shape)
    return ggy, gx, None, None, None


for _name, _derivative in (
    ("conv2d", _conv2d_derivative),
    ("conv_transpose2d", _conv_transpose2d_derivative),
    ("conv2d_weight", _conv2d_weight_derivative),
):
    torch.library.register_autograd(f"stylex::{_name}", _derivative, setup_context=_keep_inputs)

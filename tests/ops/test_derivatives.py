"""The registered ops: derivatives to second order, schemas, and what the compiler makes of them."""

import itertools
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import penalties
import pytest
import torch
from penalties import FUSED, PENALTIES, REFERENCE
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck
from torch.utils._python_dispatch import TorchDispatchMode

from stylex.ops.convolution import conv2d, conv_transpose2d
from stylex.ops.epilogue import epilogue
from stylex.ops.modulate import modulate
from stylex.ops.upfirdn2d import upfirdn2d

LAYOUTS = [torch.contiguous_format, torch.channels_last]
TAPS = torch.tensor([0.1, 0.5, 0.3, 0.2], dtype=torch.float64)


def parameter(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, requires_grad=True)


def features(layout: torch.memory_format, *shape: int) -> Tensor:
    found = torch.randn(shape, dtype=torch.float64).contiguous(memory_format=layout)
    return found.requires_grad_()


def twice_differentiable(function: Callable[..., Tensor], *inputs: Tensor) -> bool:
    return gradcheck(function, inputs) and gradgradcheck(function, inputs)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("blurred", [False, True])
@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize("demodulated", [False, True])
def test_epilogue_is_differentiable_twice_and_equals_the_reference(
    demodulated: bool, noisy: bool, blurred: bool, layout: torch.memory_format
) -> None:
    side = 5 - blurred
    x, bias = features(layout, 2, 3, 5, 5), parameter(3)
    noise = torch.randn(2, 1, side, side, dtype=torch.float64) if noisy else None
    rest = [*([parameter(2, 3)] if demodulated else []), *([parameter()] if noisy else [])]

    def run(x: Tensor, bias: Tensor, *rest: Tensor, impl: Any = "fused") -> Tensor:
        given = iter(rest)
        factors = next(given) if demodulated else None
        strength = next(given) if noisy else None
        taps = TAPS if blurred else None
        return epilogue(x, bias, factors, noise, strength, taps, blur_gain=4, clamp=2, impl=impl)

    assert twice_differentiable(run, x, bias, *rest)
    torch.testing.assert_close(run(x, bias, *rest), run(x, bias, *rest, impl="reference"))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_modulate_is_differentiable_twice(layout: torch.memory_format) -> None:
    def run(x: Tensor, s: Tensor) -> Tensor:
        return modulate(x, s, torch.float64, "fused")

    assert twice_differentiable(run, features(layout, 2, 3, 4, 5), parameter(2, 3))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("up", "down", "padding", "length"),
    [(1, 1, (2, 1), 4), (2, 1, (2, 1), 4), (1, 2, (1, 1), 4), (1, 1, (-1, 2), 4), (2, 2, (0, 3), 4),
     (4, 1, (3, 2), 4), (1, 4, (3, 2, -1, 4), 5), (2, 1, (6, 5), 12)],
)  # fmt: skip
def test_upfirdn2d_is_differentiable_twice_and_equals_the_reference(
    up: int,
    down: int,
    padding: Any,
    length: int,
    layout: torch.memory_format,
) -> None:
    taps = torch.randn(length, dtype=torch.float64)
    x = features(layout, 2, 2, 6, 5)

    def run(x: Tensor, impl: Any = "fused") -> Tensor:
        return upfirdn2d(x, taps, up, down, padding, 1.7, impl)

    assert twice_differentiable(run, x)
    torch.testing.assert_close(run(x), run(x, "reference"))


def test_a_filter_of_two_axes_equals_the_separable_one() -> None:
    x = features(torch.contiguous_format, 2, 2, 6, 5)

    both = upfirdn2d(x, torch.outer(TAPS, TAPS), 2, 1, (2, 1), impl="fused")

    torch.testing.assert_close(both, upfirdn2d(x, TAPS, 2, 1, (2, 1)))
    assert twice_differentiable(
        lambda x: upfirdn2d(x, torch.outer(TAPS, TAPS[:3]), 2, 1, (2, 1), impl="fused"), x
    )


def test_a_filter_that_is_too_long_is_refused() -> None:
    with pytest.raises(ValueError, match="1 to 24 taps per axis, got"):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(25))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(("stride", "padding"), [(1, 1), (2, 0), (1, 0), (2, 1)])
@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_convolutions_are_differentiable_twice_and_equal_pytorchs(
    transposed: bool, kernel: int, stride: int, padding: int, layout: torch.memory_format
) -> None:
    op = conv_transpose2d if transposed else conv2d
    x = features(layout, 2, 3, 6, 5)
    weight = parameter(*((3, 2) if transposed else (2, 3)), kernel, kernel)

    assert twice_differentiable(lambda x, w: op(x, w, stride, padding, "fused"), x, weight)
    torch.testing.assert_close(
        op(x, weight, stride, padding, "fused"), op(x, weight, stride, padding, "reference")
    )


def opcheck_cases() -> list[Any]:
    cases = []
    dtypes = (torch.float32, torch.float16, torch.bfloat16)
    for dtype, layout in itertools.product(dtypes, LAYOUTS):

        def made(*shape: int, dtype: torch.dtype = dtype, layout: Any = layout) -> Tensor:
            return torch.randn(shape).to(dtype).contiguous(memory_format=layout).requires_grad_()

        def flat(*shape: int) -> Tensor:
            return torch.randn(shape, requires_grad=True)

        taps = TAPS.float()
        for noise, strength, d, t in (
            (None, None, None, None),
            (torch.randn(1, 1, 6, 6), flat(), flat(2, 8), None),
            (torch.randn(1, 1, 5, 5), flat(), flat(2, 8), taps),
        ):
            side = 6 if t is None else 5
            call = (d, noise, t, 4.0, 1.4, 2.0)
            cases.append(("epilogue", (made(2, 8, 6, 6), flat(8), strength, *call)))
            y, x = made(2, 8, side, side), None if d is None else made(2, 8, 6, 6)
            cases.append(("epilogue_vjp", (made(2, 8, side, side), y, x, *call)))
            vd = None if d is None else flat(2, 8)
            tangent = (made(2, 8, 6, 6), vd, flat(8), None if noise is None else flat(), y, x)
            cases.append(("epilogue_jvp", (*tangent, *call)))
        pads = [2, 1, 2, 1]
        cases.append(("upfirdn2d", (made(2, 8, 6, 6), taps, [2, 2], [1, 1], pads, False, 4.0)))
        cases.append(("upfirdn2d", (made(2, 8, 6, 6), taps, [1, 1], [2, 2], pads, True, 1.0)))
        for other in (torch.float32, dtype):
            cases.append(("modulate", (made(2, 8, 6, 6), flat(2, 8), other)))
            gy = made(2, 8, 6, 6, dtype=other)
            cases.append(("modulate_vjp", (gy, made(2, 8, 6, 6), flat(2, 8))))
            moved = (made(2, 8, 6, 6), flat(2, 8), made(2, 8, 6, 6), flat(2, 8))
            cases.append(("modulate_jvp", (*moved, other)))
        weight = torch.randn(8, 8, 3, 3).to(dtype).requires_grad_()
        cases.append(("conv2d", (made(2, 8, 6, 6), weight, 1, 1)))
        cases.append(("conv_transpose2d", (made(2, 8, 6, 6), weight, 2, 0, [0, 0])))
        cases.append(("conv2d_weight", (made(2, 8, 6, 6), made(2, 8, 6, 6), [3, 3], 1, 1)))
    return cases


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
@pytest.mark.parametrize(("name", "arguments"), opcheck_cases())
def test_the_dispatcher_knows_the_op(name: str, arguments: tuple[Any, ...]) -> None:
    # The composed kernels of the CPU and the compiler round at different places in 16 bits.
    dtypes = {a.dtype for a in arguments if isinstance(a, Tensor)}
    low = bool(dtypes & {torch.float16, torch.bfloat16})
    torch.library.opcheck(
        getattr(torch.ops.stylex, name).default,
        arguments,
        rtol=2e-2 if low else 1e-4,
        atol=2e-2 if low else 1e-4,
    )


class Calls(TorchDispatchMode):
    """Counts the calls of every op."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, int] = {}

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        self.found[str(func)] = self.found.get(str(func), 0) + 1
        return func(*args, **(kwargs or {}))


def test_the_inner_pass_of_a_penalty_computes_no_weight_gradient_and_the_outer_one_does() -> None:
    first, second = parameter(4, 3, 3, 3), parameter(2, 4, 3, 3)
    x = features(torch.contiguous_format, 2, 3, 6, 6)
    y = conv2d(torch.tanh(conv2d(x, first, 1, 1, "fused")), second, 1, 1, "fused").sum()

    with Calls() as inner:
        (gx,) = torch.autograd.grad(y, x, create_graph=True)
    with Calls() as outer:
        gx.square().sum().backward()

    assert inner.found.get("stylex.conv2d_weight.default", 0) == 0
    assert outer.found["stylex.conv2d_weight.default"] > 0
    assert first.grad is not None
    assert second.grad is not None


@pytest.mark.parametrize(("impl", "largest"), [("fused", 3), ("reference", 16)])
def test_no_convolution_of_the_double_backward_has_a_kernel_as_large_as_the_features(
    impl: Any,
    largest: int,
) -> None:
    weight = parameter(4, 3, 3, 3)
    x = features(torch.contiguous_format, 2, 3, 16, 16)
    kernels = []

    class Kernels(TorchDispatchMode):
        def __torch_dispatch__(
            self,
            func: Any,
            types: Any,
            args: Any = (),
            kwargs: Any = None,
        ) -> Any:
            if str(func) in (
                "aten.convolution.default",
                "stylex.conv2d.default",
                "stylex.conv_transpose2d.default",
            ):
                kernels.append(max(args[1].shape[2:]))
            return func(*args, **(kwargs or {}))

    with Kernels():
        y = torch.tanh(conv2d(x, weight, 1, 1, impl)).sum()
        (gx,) = torch.autograd.grad(y, x, create_graph=True)
        gx.square().sum().backward()

    assert max(kernels) == largest


@pytest.mark.parametrize("of", PENALTIES)
def test_penalties_keep_their_second_order_terms(of: str) -> None:
    expected, found = (PENALTIES[of](p, lambda f: f) for p in (REFERENCE, FUSED))

    assert sum(int(g.abs().max() > 1e-9) for g in expected) > len(expected) // 2
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)


def test_penalties_keep_their_second_order_terms_inside_one_compiled_graph() -> None:
    # In a process of its own, since the compiler cannot trace the tests' shape checks.
    done = subprocess.run(
        [sys.executable, penalties.__file__], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["r1", "equal", "path_length", "equal"]

"""The CUDA kernels on a GPU; on a CPU the same comparisons, of the registered ops' own kernels.

An op in a type may err, against plain PyTorch in float64, twice as much as plain PyTorch in that
type does (the law of FlashAttention's tests). Run as a script: the main phases, compiled.
"""

import functools
import itertools
import logging
import math
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import penalties
import pytest
import torch
import yaml
from penalties import PENALTIES, REFERENCE
from test_derivatives import opcheck_cases
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier
from stylex.gan.compute import Compute, Precision
from stylex.model import build_discriminator, build_model
from stylex.ops import backend, build
from stylex.ops.convolution import conv2d, conv_transpose2d
from stylex.ops.epilogue import epilogue
from stylex.ops.modulate import modulate
from stylex.ops.upfirdn2d import upfirdn2d
from stylex.training.losses import (
    discriminator_adversarial,
    generator_adversarial,
    path_length_penalty,
    path_lengths,
    r1_penalty,
)
from stylex.training.module import StylExModule
from stylex.types import Images

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NEEDS_GPU = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use"),
]
GPU = pytest.param("cuda", marks=NEEDS_GPU)
FULL, HALF, BRAIN = TYPES = (torch.float32, torch.float16, torch.bfloat16)
NCHW, NHWC = torch.contiguous_format, torch.channels_last
CLAMP = 2.5  # the same number in every type
# Channels that 16 bytes hold or not, odd widths, single pixels, channels and samples, long rows.
SHAPES = [
    *((2, 16, 8, 8), (2, 3, 5, 7), (1, 40, 4, 33), (3, 8, 19, 8), (1, 1, 1, 1), (2, 1, 6, 5)),
    *((1, 64, 1, 1), (2, 72, 1, 9), (4, 512, 4, 4), (1, 8, 3, 257), (2, 260, 17, 2)),
]
RESAMPLINGS = [  # taps along the rows' and the columns' axis, up, down, padding
    *((None, 4, (1, 1), (1, 1), (2, 2, 2, 2)), (None, 4, (1, 1), (2, 2), (1, 1, 1, 1))),
    *((None, 4, (2, 2), (1, 1), (2, 1, 2, 1)), (None, 4, (1, 1), (1, 1), (-1, 2, 3, -1))),
    *((None, 4, (2, 2), (2, 2), (0, 3, 3, 0)), (None, 4, (4, 4), (1, 1), (3, 2, 3, 2))),
    *((3, 5, (2, 1), (1, 4), (2, -1, 3, 4)), (None, 24, (1, 1), (1, 1), (12, 11, 12, 11))),
    *((24, 1, (2, 1), (1, 1), (12, 11, 0, 0)), (1, 24, (1, 3), (1, 2), (0, 0, 12, 13))),
    *((None, 1, (2, 2), (1, 1), (0, 0, 0, 0)), (24, 24, (1, 1), (3, 3), (20, 20, 20, 20))),
]

Arguments = tuple[Any, ...]


@pytest.fixture(autouse=True)
def _the_kernels_are_there_and_float32_is_not_rounded_to_tf32() -> Iterator[None]:
    if torch.cuda.is_available():
        build.load()
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32 = matmul.allow_tf32 = False
    yield
    cudnn.allow_tf32, matmul.allow_tf32 = before


def on_cpu_fewer(device: str, cases: Sequence[Any], every: int) -> Sequence[Any]:
    """All cases on a GPU, every so-manieth on a CPU."""
    return cases if device == "cuda" else cases[::every]


# What an op is given, on a CPU


def features(shape: Sequence[int], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    return torch.randn(tuple(shape)).to(dtype).contiguous(memory_format=layout)


def epilogue_calls(
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    layout: torch.memory_format,
    options: tuple[bool, bool, bool] = (True, True, True),
) -> dict[str, Arguments]:
    """Arguments of the epilogue and of its two derivatives, at the same place."""
    demodulated, noisy, blurred = options
    b, c, h, w = shape
    larger = (b, c, h + blurred, w + blurred)
    x, vx = features(larger, dtype, layout), features(larger, dtype, layout)
    bias, v_bias = torch.randn(2, c)
    factors, v_factors = torch.randn(2, b, c) if demodulated else (None, None)
    noise = torch.randn(b if h % 2 else 1, 1, h, w) if noisy else None
    strength, v_strength = torch.randn(2).unbind() if noisy else (None, None)
    taps = torch.tensor([0.1, 0.5, 0.3, 0.2]) if blurred else None
    call = (factors, noise, taps, 4.0, 1.4, CLAMP)
    needed = x if demodulated else None
    y = torch.ops.stylex.epilogue(x, bias, strength, *call)
    return {
        "epilogue": (x, bias, strength, *call),
        "epilogue_vjp": (features(shape, dtype, layout), y, needed, *call),
        "epilogue_jvp": (vx, v_factors, v_bias, v_strength, y, needed, *call),
    }


def modulate_calls(
    shape: Sequence[int], before: torch.dtype, after: torch.dtype, layout: torch.memory_format
) -> dict[str, Arguments]:
    x, gy, s = (
        features(shape, before, layout),
        features(shape, after, layout),
        torch.randn(shape[:2]),
    )
    vx, vs = features(shape, before, layout), torch.randn(tuple(shape[:2]))
    return {
        "modulate": (x, s, after),
        "modulate_vjp": (gy, x, s),
        "modulate_jvp": (vx, vs, x, s, after),
    }


def resampling_call(
    case: Arguments, channels: int, dtype: torch.dtype, layout: torch.memory_format, flip: bool
) -> Arguments:
    rows, columns, up, down, padding = case
    taps = torch.randn(columns) if rows is None else torch.randn(rows, columns)
    x = features((2, channels, 9, 12), dtype, layout)
    return (x, taps, list(up), list(down), list(padding), flip, 1.5)


# The law


def converted(arguments: Arguments, convert: Callable[[Any], Any]) -> Arguments:
    return tuple(convert(a) if isinstance(a, Tensor | torch.dtype) else a for a in arguments)


def widened(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) else value.double()


def outputs(name: str, arguments: Arguments) -> list[Tensor]:
    found = getattr(torch.ops.stylex, name)(*arguments)
    return [found] if isinstance(found, Tensor) else list(found)


def check_law(
    found: Tensor,
    plain: Tensor,
    expected: Tensor,
    roundings: float,
    of: object,
    norm: float = math.inf,
) -> None:
    """No more than twice plain PyTorch's error, beyond what float32 arithmetic may round."""
    assert found.shape == expected.shape
    assert found.dtype == plain.dtype
    if expected.numel() == 0:
        return
    size, usual, error = (
        float(torch.linalg.vector_norm(t, norm))
        for t in (expected, plain.double().cpu() - expected, found.double().cpu() - expected)
    )
    assert error <= 2 * usual + roundings * size, of


def compare(
    device: str,
    calls: Mapping[str, Arguments],
    of: object,
    relaid: Callable[[Tensor], Tensor] = lambda x: x,
) -> None:
    """Ops on a device, their activations laid anew there, against the CPU's composed kernels."""

    def moved(value: Any) -> Any:
        if isinstance(value, torch.dtype):
            return value
        there = value.to(device)
        return relaid(there) if there.ndim == 4 and there.shape[1] > 1 else there

    for name, arguments in calls.items():
        expected, plain = outputs(name, converted(arguments, widened)), outputs(name, arguments)
        found = outputs(name, converted(arguments, moved))
        for one, usual, right in zip(found, plain, expected, strict=True):
            roundings = 1e-6 if right.ndim == 4 else 1e-4  # a sum has many, and may cancel
            check_law(one, usual, right, roundings, (name, of))


# The ops


EVERYWHERE = [
    pytest.mark.parametrize("dtype", TYPES),
    pytest.mark.parametrize("layout", [NCHW, NHWC]),
    pytest.mark.parametrize("device", ["cpu", GPU]),
]


def everywhere(test: Callable[..., None]) -> Callable[..., None]:
    """Runs a test on both devices, in both memory formats and in every type."""
    for mark in EVERYWHERE:
        test = mark(test)
    return test


@everywhere
def test_the_epilogue_and_its_derivatives_err_as_little_as_plain_pytorch(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    options = [(False, False, False), (True, True, False), (True, True, True), (False, True, True)]
    for case in on_cpu_fewer(device, list(itertools.product(SHAPES, options)), 3):
        compare(device, epilogue_calls(case[0], dtype, layout, case[1]), case)


@everywhere
def test_modulation_and_its_adjoint_err_as_little_as_plain_pytorch(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    for case in itertools.product(on_cpu_fewer(device, SHAPES, 3), TYPES):
        compare(device, modulate_calls(case[0], dtype, case[1], layout), case)


@everywhere
def test_resampling_errs_as_little_as_plain_pytorch(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    cases = list(itertools.product(RESAMPLINGS, (1, 3, 8), (False, True)))
    for case in on_cpu_fewer(device, cases, 5):
        resampling, channels, flip = case
        call = resampling_call(resampling, channels, dtype, layout, flip)
        compare(device, {"upfirdn2d": call}, case)


@everywhere
def test_convolutions_and_their_second_derivatives_err_as_little_as_plain_pytorch(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    layers = [(3, 1, 1), (3, 2, 0), (1, 1, 0)]  # kernel, stride, padding
    for op, layer in itertools.product((conv2d, conv_transpose2d), layers):
        kernel, stride, padding = layer
        side = 17 if stride == 2 else 16
        x, v = (features((4, 32, side, side), dtype, layout) for _ in range(2))
        weight = (torch.randn(32, 32, kernel, kernel) / math.sqrt(32 * kernel**2)).to(dtype)
        gy = torch.randn_like(op(x, weight, stride, padding))
        given = (x, weight, gy, v)
        call = functools.partial(op, stride=stride, padding=padding)

        found, plain = (twice(call, impl, device, dtype, given) for impl in ("fused", "reference"))
        expected = twice(call, "reference", "cpu", torch.float64, given)
        for one, usual, right in zip(found, plain, expected, strict=True):
            check_law(one, usual, right, 1e-5, (op.__name__, layer), norm=2)


def twice(
    call: Callable[..., Tensor],
    impl: str,
    device: str,
    dtype: torch.dtype,
    given: tuple[Tensor, ...],
) -> list[Tensor]:
    """A convolution, its gradient for x, and what that gives for the gradient of y and weight."""
    x, weight, gy, v = (t.detach().to(device, dtype).requires_grad_() for t in given)
    y = call(x, weight, impl=impl)
    (gx,) = torch.autograd.grad(y, x, gy, create_graph=True)
    return [t.detach() for t in (y, gx, *torch.autograd.grad(gx, (gy, weight), v))]


def shifted(x: Tensor) -> Tensor:
    """The same values one element further, where 16 bytes cannot be read at a time."""
    room = torch.empty(x.numel() + 1, dtype=x.dtype, device=x.device)
    there = room[1:].as_strided(x.shape, x.stride(), 1)
    return there.copy_(x)


def strided(x: Tensor) -> Tensor:
    """The same values in every second column of a larger tensor."""
    room = torch.empty((*x.shape[:3], 2 * x.shape[3]), dtype=x.dtype, device=x.device)
    return room[..., ::2].copy_(x)


def turned(x: Tensor) -> Tensor:
    """The same values with rows and columns exchanged in memory."""
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def calls_of_all_ops(dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Arguments]:
    shape = (2, 8, 6, 8)
    return {
        **epilogue_calls(shape, dtype, layout),
        **modulate_calls(shape, dtype, dtype, layout),
        "upfirdn2d": resampling_call(RESAMPLINGS[1], 8, dtype, layout, flip=False),
    }


@everywhere
def test_where_and_how_an_activation_lies_in_memory_changes_nothing(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    for relaid in (shifted, strided, turned):
        compare(device, calls_of_all_ops(dtype, layout), relaid.__name__, relaid)


@everywhere
def test_two_runs_are_equal_to_the_bit_and_keep_the_memory_format(
    device: str, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    for name, arguments in calls_of_all_ops(dtype, layout).items():
        there = converted(arguments, lambda a: a if isinstance(a, torch.dtype) else a.to(device))
        first, second = outputs(name, there), outputs(name, there)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
        assert first[0].is_contiguous(memory_format=layout)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_an_empty_batch_stays_empty_and_its_sums_are_zero(device: str) -> None:
    x = torch.zeros(0, 8, 5, 5, device=device, requires_grad=True)
    bias = torch.zeros(8, device=device, requires_grad=True)
    styles = torch.zeros(0, 8, device=device, requires_grad=True)
    taps = torch.ones(4, device=device) / 4

    made = modulate(x, styles, torch.float32, "fused")
    y = epilogue(made, bias, styles, taps=taps, impl="fused")
    z = upfirdn2d(y, taps, up=2, padding=(2, 1), impl="fused")
    z.sum().backward()

    assert z.shape == (0, 8, 8, 8)
    assert x.grad is not None
    assert x.grad.shape == x.shape
    assert torch.equal(bias.grad, torch.zeros(8, device=device))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_clamp_bounds_infinities_and_leaves_what_is_no_number(
    device: str, dtype: torch.dtype
) -> None:
    x = torch.tensor([math.inf, -math.inf, math.nan, 0.5], device=device, dtype=dtype)

    y = epilogue(x.reshape(1, 1, 2, 2), torch.zeros(1, device=device), clamp=CLAMP, impl="fused")

    found = y.flatten().tolist()
    assert found[:2] == [CLAMP, -CLAMP]
    assert math.isnan(found[2])
    assert found[3] == pytest.approx(0.5 * math.sqrt(2), rel=1e-2)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_blur_of_other_lengths_goes_before_the_epilogue(device: str) -> None:
    x = torch.randn(2, 8, 12, 12, device=device, requires_grad=True)
    bias, taps = torch.randn(8, device=device), torch.randn(6, device=device)

    def run(impl: Any) -> tuple[Tensor, Tensor]:
        y = epilogue(x, bias, taps=taps, blur_gain=4.0, impl=impl)
        return y, torch.autograd.grad(y.square().sum(), x)[0]

    for found, expected in zip(run("fused"), run("reference"), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def on_gpu(value: Any) -> Any:
    if not isinstance(value, Tensor):
        return value
    return value.detach().cuda().requires_grad_(value.requires_grad)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # opcheck
@pytest.mark.parametrize("name", sorted({name for name, _ in opcheck_cases()}))
def test_the_dispatcher_knows_the_op_on_cuda(name: str) -> None:
    for arguments in (given for of, given in opcheck_cases() if of == name):
        low = any(a.dtype in (HALF, BRAIN) for a in arguments if isinstance(a, Tensor))
        torch.library.opcheck(
            getattr(torch.ops.stylex, name).default,
            tuple(on_gpu(a) for a in arguments),
            rtol=2e-2 if low else 1e-4,
            atol=2e-2 if low else 1e-4,
        )


# The choice of implementation


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_type_without_a_kernel_is_refused_if_fused_is_asked_for_and_else_plain_pytorch() -> None:
    x, bias = torch.randn(1, 2, 4, 4, dtype=torch.float64).cuda(), torch.zeros(2).double().cuda()

    with pytest.raises(ValueError, match="float32, float16 or bfloat16, got torch.float64"):
        epilogue(x, bias, impl="fused")

    assert torch.equal(epilogue(x, bias), epilogue(x, bias, impl="reference"))


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_auto_says_once_which_ops_run(device: str, caplog: pytest.LogCaptureFixture) -> None:
    backend._say.cache_clear()
    x, bias = torch.zeros(1, 2, 4, 4, device=device), torch.zeros(2, device=device)

    with caplog.at_level(logging.INFO, "stylex.ops"):
        for _ in range(3):
            epilogue(x, bias)

    (message,) = [record.message for record in caplog.records]
    kind = "fused CUDA kernels" if device == "cuda" else "plain PyTorch"
    assert message.startswith(f"ops: {kind}, since the tensors are on")


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_a_batch_too_large_for_a_kernel_is_refused() -> None:
    x = torch.zeros(65536, 1, 1, 1, device="cuda")
    with pytest.raises(RuntimeError, match="a batch has at most 65535 samples, got 65536"):
        epilogue(x, torch.zeros(1, device="cuda"), impl="fused")


# Networks


def precision(impl: Any, low: torch.dtype | None, layout: torch.memory_format) -> Precision:
    coarse, fine = (Compute(kind, layout == NHWC, impl) for kind in (None, low))
    return Precision(coarse, fine, num_fine=2)


def r1_gradients(precision: Precision, device: str) -> list[Tensor]:
    """As of the penalty's test on a CPU, with the same numbers, in float32 on a device."""
    network = penalties.discriminator(precision).float().to(device)
    torch.manual_seed(1)
    images = torch.randn(4, 3, 16, 16, dtype=torch.float64).float().to(device).requires_grad_()
    shares = torch.rand(4, 2, dtype=torch.float64).float().to(device)
    r1_penalty(network(images, shares), images).backward()
    return gradients(network)


def path_gradients(precision: Precision, device: str) -> list[Tensor]:
    """As of the penalty's test on a CPU, with the same numbers, in float32 on a device."""
    network = penalties.generator(precision).float().to(device)
    torch.manual_seed(1)
    shape = (3, network.num_latents, 6)
    latents = torch.randn(shape, dtype=torch.float64).float().to(device).requires_grad_()
    noise = torch.randn(3, 3, 16, 16, dtype=torch.float64).float().to(device)
    lengths = path_lengths(network(latents), latents, noise)
    path_length_penalty(lengths, torch.tensor(0.1, device=device)).backward()
    return gradients(network)


def gradients(network: nn.Module) -> list[Tensor]:
    found = [torch.zeros(()) if p.grad is None else p.grad for p in network.parameters()]
    return [gradient.double().cpu().flatten() for gradient in found]


@pytest.mark.parametrize("layout", [NCHW, NHWC])
@pytest.mark.parametrize("low", [None, BRAIN])
@pytest.mark.parametrize("of", PENALTIES)
@pytest.mark.parametrize("device", ["cpu", GPU])
def test_the_penalties_gradients_err_as_little_as_with_plain_pytorch(
    device: str, of: str, low: torch.dtype | None, layout: torch.memory_format
) -> None:
    run = {"r1": r1_gradients, "path_length": path_gradients}[of]
    expected = torch.cat([g.flatten() for g in PENALTIES[of](REFERENCE, lambda f: f)])

    found, plain = (
        torch.cat(run(precision(impl, low, layout), device)) for impl in ("fused", "reference")
    )

    error, usual = ((g - expected).norm() / expected.norm() for g in (found, plain))
    assert float(usual) < (0.2 if low else 1e-4)
    assert float(error) <= 2 * float(usual) + 1e-5


class Steps(StylExModule):
    """The training step without a Trainer."""

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        return self.own

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        loss.backward()


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_training_steps_in_bfloat16_have_finite_terms_and_move_every_network(
    device: str,
    tiny_config: dict[str, Any],
    tiny_classifier: FrozenClassifier,
    tiny_images: Images,
) -> None:
    settings = yaml.safe_load((CONFIGS / "training" / "stylex.yaml").read_text())
    ops = yaml.safe_load((CONFIGS / "ops" / "default.yaml").read_text())
    ops |= {"impl": "fused", "precision": "bfloat16", "channels_last": True}
    model = build_model(tiny_config["model"], tiny_classifier)
    judge = build_discriminator(tiny_config["model"], tiny_classifier.num_classes)
    module = Steps(model, judge, {**settings, "batch_size": 4}, ops, seed=0).to(device)
    module.own = module.configure_optimizers()
    module.on_fit_start()
    networks = {"encoder": model.encoder, "generator": model.generator, "judge": judge}
    before = {name: first_weight(network).clone() for name, network in networks.items()}

    for step in range(3):
        terms = module.training_step(
            (tiny_images[:4].to(device), torch.zeros(4, dtype=torch.int64)), step
        )
        values = {name: float(value) for name, value in terms.items()}
        assert all(map(math.isfinite, values.values())), values
        assert values["replaced_gradients"] == 0

    for name, network in networks.items():
        assert not torch.equal(first_weight(network), before[name]), name


def first_weight(network: nn.Module) -> Tensor:
    return next(p for p in network.parameters() if p.ndim == 4).detach()


def losses_of_main_phases(
    make: Callable[..., Tensor], judge: Callable[..., Tensor], given: Mapping[str, Tensor]
) -> list[Tensor]:
    fake = make(given["styles"])
    shares = given["shares"]
    judged = discriminator_adversarial(judge(given["real"], shares), judge(fake.detach(), shares))
    return [generator_adversarial(judge(fake, shares)), judged]


def main_phases(device: str, wrap: Callable[[Any], Any]) -> list[Tensor]:
    """Losses of both main phases, and their gradients for every weight, as on a GPU by default."""
    how = precision("fused", BRAIN, NHWC)
    maker, judge = penalties.generator(how).float(), penalties.discriminator(how).float()
    networks = nn.ModuleList([maker, judge]).to(device)
    torch.manual_seed(1)
    given = {"styles": maker.styles(torch.randn(4, 6).to(device)).detach()}
    given |= {"real": torch.randn(4, 3, 16, 16).to(device), "shares": torch.rand(4, 2).to(device)}
    found = losses_of_main_phases(wrap(maker.synthesis), wrap(judge), given)
    torch.stack(found).sum().backward()
    return [torch.stack(found).detach().double().cpu(), *gradients(networks)]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
def test_networks_and_penalties_run_without_waiting_for_the_gpu() -> None:
    how = precision("fused", BRAIN, NHWC)
    maker = penalties.generator(how).float().cuda()
    judge = penalties.discriminator(how).float().cuda()
    real = torch.randn(4, 3, 16, 16).cuda().requires_grad_()
    given = {"styles": maker.styles(torch.randn(4, 6).cuda()).detach(), "real": real}
    given["shares"] = torch.rand(4, 2).cuda()

    def step() -> None:
        torch.stack(losses_of_main_phases(maker.synthesis, judge, given)).sum().backward()
        r1_penalty(judge(real, given["shares"]), real).backward()

    step()  # loads kernels and plans
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("device", [pytest.param("cpu", marks=pytest.mark.slow), GPU])
def test_compiled_main_phases_equal_the_plain_ones(device: str) -> None:
    # In a process of its own, since the compiler cannot trace the tests' shape checks.
    done = subprocess.run(
        [sys.executable, __file__, device], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["equal"]


if __name__ == "__main__":
    where = sys.argv[1]
    compiler = {"cpu": "aot_eager", "cuda": "inductor"}[where]
    expected = torch.cat(main_phases(where, lambda f: f))
    found = torch.cat(
        main_phases(where, lambda f: torch.compile(f, backend=compiler, dynamic=False))
    )
    assert float((found - expected).norm() / expected.norm()) < 2e-2
    print("equal")

"""Low precision, memory formats and implementations change how a network computes, not what."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.gan.compute import Compute, Precision, precision, require_ops
from stylex.gan.generator import Generator
from stylex.gan.residual import Discriminator
from stylex.ops import build

SETTINGS = yaml.safe_load(
    (Path(__file__).resolve().parents[2] / "configs" / "ops" / "default.yaml").read_text()
)
CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def of(**changes: Any) -> Precision:
    return precision({**SETTINGS, **changes}, CPU)


def make_generator() -> nn.Module:
    torch.manual_seed(0)
    network = Generator(32, 3, 6, 128, 16, noise=True)
    for name, value in network.named_parameters():
        if name.endswith("noise_strength"):
            nn.init.constant_(value, 0.2)
    return network


def make_discriminator() -> nn.Module:
    torch.manual_seed(0)
    return Discriminator(32, 3, 128, 16, num_classes=2, minibatch_group=2)


def run(network: nn.Module, how: Precision) -> tuple[Tensor, Tensor]:
    """Output of a network, and the gradient of its square for its input."""
    network.set_precision(how)
    torch.manual_seed(1)
    if isinstance(network, Generator):
        x, rest = torch.randn(4, 6, requires_grad=True), ()
    else:
        x = torch.randn(4, 3, 32, 32, requires_grad=True)
        rest = (torch.full((4, 2), 0.5),)
    y = network(x, *rest)
    (gradient,) = torch.autograd.grad(y.square().mean(), x)
    return y.detach(), gradient


@pytest.mark.parametrize("make", [make_generator, make_discriminator])
@pytest.mark.parametrize(
    ("changes", "tolerance"),
    [
        ({"channels_last": False}, 1e-4),
        ({"channels_last": False, "impl": "fused"}, 1e-4),
        ({"impl": "auto"}, 1e-4),
        ({"impl": "fused"}, 1e-4),
        ({"precision": "bfloat16", "channels_last": False}, 0.1),
        ({"precision": "float16", "channels_last": False}, 0.02),
        ({"precision": "bfloat16", "impl": "fused"}, 0.1),
        ({"precision": "float16", "impl": "fused"}, 0.02),
    ],
)
def test_results_agree_with_plain_float32(
    make: Callable[[], nn.Module], changes: dict[str, Any], tolerance: float
) -> None:
    expected = run(make(), of(impl="reference", channels_last=False))

    for one, other in zip(run(make(), of(**changes)), expected, strict=True):
        assert one.dtype == torch.float32
        assert float((one - other).norm() / other.norm()) < tolerance


def test_low_precision_is_for_the_finest_blocks_alone_and_never_below_8_px() -> None:
    fine = Compute(torch.bfloat16, channels_last=False, impl="auto")
    coarse = Compute(None, channels_last=False, impl="auto")

    at_256 = Precision(coarse, fine, num_fine=4)
    at_16 = Precision(coarse, fine, num_fine=4)
    none = Precision(coarse, fine, num_fine=0)

    assert [r for r in (4, 8, 16, 32, 64, 128, 256) if at_256.at(r, 256) is fine] == [
        *(32, 64, 128, 256)
    ]
    assert [r for r in (4, 8, 16) if at_16.at(r, 16) is fine] == [8, 16]
    assert none.at(256, 256) is coarse


def test_the_layers_of_a_block_share_its_precision_and_the_last_layers_stay_float32() -> None:
    generator, discriminator = make_generator(), make_discriminator()
    for network in (generator, discriminator):
        network.set_precision(of(precision="float16", low_precision_blocks=2))

    lows = [layer.compute.low for layer in (*generator.convolutions, *generator.torgbs)]
    assert lows == [None] * 3 + [torch.float16] * 4 + [None] * 2 + [torch.float16] * 2
    assert discriminator.from_rgb.compute.low == torch.float16
    kinds = [{layer.compute.low for layer in block.children()} for block in discriminator.blocks]
    assert kinds == [{torch.float16}, {torch.float16}, {None}]
    assert discriminator.conv.compute.low is None


def test_features_stay_finite_in_float16_where_styles_and_weights_are_huge() -> None:
    network = make_generator()
    styles = network.styles(torch.randn(2, 6)) * 1e4
    network.set_precision(of(precision="float16"))

    assert bool(network.synthesis(styles).isfinite().all())
    assert network.convolutions[-1].compute.clamp == 256
    assert math.isinf(network.convolutions[0].compute.clamp)


def test_auto_is_float32_on_a_cpu_and_bfloat16_in_the_fine_blocks_on_cuda() -> None:
    on_cpu, on_cuda = precision(SETTINGS, CPU), precision(SETTINGS, CUDA)

    assert (on_cpu.fine.low, on_cpu.coarse.low) == (None, None)
    assert (on_cuda.fine.low, on_cuda.coarse.low) == (torch.bfloat16, None)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"impl": "fast"}, "ops.impl must be one of .* got 'fast'"),
        ({"precision": "int8"}, "ops.precision must be auto or one of .* got 'int8'"),
        ({"channels_last": "maybe"}, "ops.channels_last must be true or false, got 'maybe'"),
    ],
)
def test_an_unknown_setting_is_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        of(**changes)


def test_training_on_cuda_without_the_library_is_refused_unless_reference_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise build.BuildError("no compiler")

    monkeypatch.setattr(build, "load", fail)

    require_ops(SETTINGS, CPU)
    require_ops({**SETTINGS, "impl": "reference"}, CUDA)
    with pytest.raises(build.BuildError, match="no compiler"):
        require_ops(SETTINGS, CUDA)

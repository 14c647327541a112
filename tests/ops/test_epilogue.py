"""What follows a convolution, against its formula written out for every value."""

import math

import pytest
import torch

from stylex.ops.epilogue import epilogue
from stylex.ops.upfirdn2d import upfirdn2d


@pytest.mark.parametrize("noise_rows", [1, 2])
def test_epilogue_demodulates_then_adds_noise_and_bias_then_activates_then_clamps(
    noise_rows: int,
) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    demodulation = torch.rand(2, 3, dtype=torch.float64) + 0.5
    noise = torch.randn(noise_rows, 1, 4, 5, dtype=torch.float64)
    strength = torch.tensor(0.7, dtype=torch.float64)

    found = epilogue(x, bias, demodulation, noise, strength, gain=1.3, clamp=1.5)

    for n in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    value = float(x[n, c, i, j]) * float(demodulation[n, c])
                    value += 0.7 * float(noise[n % noise_rows, 0, i, j]) + float(bias[c])
                    value = 1.3 * (value if value > 0 else 0.2 * value)
                    value = max(-1.5, min(1.5, value))
                    assert float(found[n, c, i, j]) == pytest.approx(value, rel=1e-12)


def test_without_demodulation_and_noise_only_bias_and_activation_with_gain_sqrt_2_are_left() -> (
    None
):
    x = torch.tensor([3.0, -4.0], dtype=torch.float64).reshape(1, 2, 1, 1)
    bias = torch.tensor([1.0, -1.0], dtype=torch.float64)

    found = epilogue(x, bias).flatten().tolist()

    assert found == pytest.approx([4 * math.sqrt(2), 0.2 * -5 * math.sqrt(2)])


def test_epilogue_leaves_its_input_as_it_was() -> None:
    x = torch.randn(2, 3, 4, 4)
    before = x.clone()

    epilogue(x, torch.ones(3), torch.full((2, 3), 2.0), torch.ones(1, 1, 4, 4), torch.ones(()))

    assert torch.equal(x, before)


def test_the_blur_comes_before_the_demodulation_and_takes_a_row_and_a_column() -> None:
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    bias, taps = torch.randn(3, dtype=torch.float64), torch.tensor([0.1, 0.4, 0.3, 0.2]).double()
    demodulation = torch.rand(2, 3, dtype=torch.float64) + 0.5

    found = epilogue(x, bias, demodulation, taps=taps, blur_gain=4.0)

    blurred = upfirdn2d(x, taps, padding=(1, 1), gain=4.0)
    assert found.shape == (2, 3, 4, 6)
    torch.testing.assert_close(found, epilogue(blurred, bias, demodulation))


def test_noise_without_its_strength_is_refused() -> None:
    x, bias = torch.zeros(1, 2, 4, 4), torch.zeros(2)

    with pytest.raises(ValueError, match="must be given together"):
        epilogue(x, bias, noise=torch.zeros(1, 1, 4, 4))
    with pytest.raises(ValueError, match="must be given together"):
        epilogue(x, bias, strength=torch.zeros(()))


def test_noise_that_wants_a_gradient_is_refused() -> None:
    noise = torch.zeros(1, 1, 4, 4, requires_grad=True)

    with pytest.raises(ValueError, match="must not require a gradient"):
        epilogue(torch.zeros(1, 2, 4, 4), torch.zeros(2), noise=noise, strength=torch.ones(()))

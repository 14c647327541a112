"""What follows a convolution, against its formula written out for every value."""

import math

import pytest
import torch

from stylex.ops.epilogue import epilogue


@pytest.mark.parametrize("noise_rows", [1, 2])
def test_epilogue_demodulates_then_adds_noise_and_bias_then_activates(noise_rows: int) -> None:
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    bias = torch.randn(3, dtype=torch.float64)
    demodulation = torch.rand(2, 3, dtype=torch.float64) + 0.5
    noise = torch.randn(noise_rows, 1, 4, 5, dtype=torch.float64)

    found = epilogue(x, bias, demodulation, noise, gain=1.3)

    for n in range(2):
        for c in range(3):
            for i in range(4):
                for j in range(5):
                    value = float(x[n, c, i, j]) * float(demodulation[n, c])
                    value += float(noise[n % noise_rows, 0, i, j]) + float(bias[c])
                    value = 1.3 * (value if value > 0 else 0.2 * value)
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

    epilogue(x, torch.ones(3), torch.full((2, 3), 2.0), torch.ones(1, 1, 4, 4))

    assert torch.equal(x, before)

"""Resampling against zero insertion, padding and a convolution written out as loops."""

import pytest
import torch
from torch import Tensor

from stylex.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d

TRIANGLE = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
ASYMMETRIC = {
    1: torch.tensor([0.7], dtype=torch.float64),
    3: torch.tensor([0.9, -0.4, 0.2], dtype=torch.float64),
    4: torch.tensor([1.0, 2.0, -3.0, 0.5], dtype=torch.float64),
}
PADDINGS = [(0, 0), (2, 1), (1, 1), (3, 3), (1, 4), (-1, 2), (3, -2), (-1, -1), (-2, 0)]


def naive_upfirdn2d(
    x: Tensor, taps: Tensor, up: int, down: int, padding: tuple[int, int], gain: float
) -> Tensor:
    """Inserts zeros, pads or crops, convolves in every place, drops samples: one sum per value."""
    batch, channels, height, width = x.shape
    sparse = x.new_zeros(batch, channels, height * up, width * up)
    sparse[:, :, ::up, ::up] = x

    def sample(i: int, j: int) -> Tensor:
        i, j = i - padding[0], j - padding[0]
        inside = 0 <= i < sparse.shape[2] and 0 <= j < sparse.shape[3]
        return sparse[:, :, i, j] if inside else x.new_zeros(batch, channels)

    last = len(taps) - 1
    rows, columns = (side * up + sum(padding) - last for side in (height, width))
    full = x.new_zeros(batch, channels, rows, columns)
    for i in range(rows):
        for j in range(columns):
            for k, tap_k in enumerate(taps):
                for m, tap_m in enumerate(taps):
                    full[:, :, i, j] += tap_k * tap_m * sample(i + last - k, j + last - m)
    return gain * full[:, :, ::down, ::down]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("num_taps", ASYMMETRIC)
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("up", [1, 2])
def test_upfirdn2d_equals_zero_insertion_padding_convolution_and_decimation(
    up: int, down: int, num_taps: int, padding: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, 7, 6, dtype=torch.float64)
    taps = ASYMMETRIC[num_taps]

    found = upfirdn2d(x, taps, up=up, down=down, padding=padding, gain=1.7)

    torch.testing.assert_close(found, naive_upfirdn2d(x, taps, up, down, padding, gain=1.7))


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("up", [1, 2, 3])
@pytest.mark.parametrize("down", [1, 2, 3])
def test_output_has_the_documented_size(up: int, down: int, padding: tuple[int, int]) -> None:
    height, width = 7, 9

    found = upfirdn2d(torch.zeros(1, 2, height, width), torch.ones(4), up, down, padding)

    assert list(found.shape[2:]) == [
        (side * up + sum(padding) - 4) // down + 1 for side in (height, width)
    ]


@pytest.mark.parametrize("num_taps", [2, 3, 4, 5, 6])
def test_upsample2d_doubles_and_downsample2d_halves_the_size_for_any_filter(num_taps: int) -> None:
    x, taps = torch.zeros(1, 2, 8, 12), torch.ones(num_taps) / num_taps

    assert upsample2d(x, taps).shape == (1, 2, 16, 24)
    assert downsample2d(x, taps).shape == (1, 2, 4, 6)


@pytest.mark.parametrize(
    ("num_taps", "around_doubled", "around_halved"),
    [(2, (1, 0), (0, 0)), (3, (2, 0), (1, 0)), (4, (2, 1), (1, 1)), (5, (3, 1), (2, 1))],
)
def test_upsample2d_and_downsample2d_pad_as_stylegan2_does_for_any_filter(
    num_taps: int, around_doubled: tuple[int, int], around_halved: tuple[int, int]
) -> None:
    x = torch.randn(1, 2, 6, 8, dtype=torch.float64)
    taps = torch.randn(num_taps, dtype=torch.float64)

    doubled = naive_upfirdn2d(x, taps, 2, 1, around_doubled, gain=4.0)
    halved = naive_upfirdn2d(x, taps, 1, 2, around_halved, gain=1.0)

    torch.testing.assert_close(upsample2d(x, taps), doubled)
    torch.testing.assert_close(downsample2d(x, taps), halved)


def test_a_constant_stays_what_it_was_inside_the_border() -> None:
    x = torch.full((1, 1, 8, 8), 0.3, dtype=torch.float64)

    for resized in (upsample2d(x, TRIANGLE), downsample2d(x, TRIANGLE)):
        inside = resized[:, :, 1:-1, 1:-1]
        torch.testing.assert_close(inside, torch.full_like(inside, 0.3))


def test_a_ramp_is_read_at_the_pixel_centres_of_the_new_grid() -> None:
    centres = torch.arange(8, dtype=torch.float64) + 0.5
    ramp = (centres[:, None] + 10 * centres)[None, None]  # value y + 10 x at (y, x)

    for resized, spacing in ((upsample2d(ramp, TRIANGLE), 0.5), (downsample2d(ramp, TRIANGLE), 2)):
        centres = (torch.arange(resized.shape[2], dtype=torch.float64) + 0.5) * spacing
        expected = (centres[:, None] + 10 * centres)[None, None]
        torch.testing.assert_close(resized[:, :, 1:-1, 1:-1], expected[:, :, 1:-1, 1:-1])


@pytest.mark.parametrize("padding", [(2, 1), (-1, 2)])
@pytest.mark.parametrize("down", [1, 2])
@pytest.mark.parametrize("up", [1, 2])
def test_first_and_second_derivatives_are_right(
    up: int, down: int, padding: tuple[int, int]
) -> None:
    x = torch.randn(1, 2, 4, 3, dtype=torch.float64, requires_grad=True)

    def resample(x: Tensor) -> Tensor:
        return upfirdn2d(x, ASYMMETRIC[4], up, down, padding, gain=1.3)

    assert torch.autograd.gradcheck(resample, x)
    assert torch.autograd.gradgradcheck(resample, x)


def test_the_result_has_the_type_of_the_features_whatever_the_type_of_the_taps() -> None:
    x = torch.randn(1, 1, 4, 4)

    assert upfirdn2d(x, TRIANGLE).dtype == torch.float32
    assert upfirdn2d(x.double(), TRIANGLE.float()).dtype == torch.float64


def test_the_features_are_left_as_they_were() -> None:
    x = torch.randn(1, 1, 4, 4)
    before = x.clone()

    upfirdn2d(x, torch.ones(4), up=2, down=2, padding=(-1, 2), gain=3.0)

    assert torch.equal(x, before)


@pytest.mark.parametrize(("up", "down"), [(0, 1), (1, 0), (2, -1)])
def test_factors_below_one_are_refused(up: int, down: int) -> None:
    with pytest.raises(ValueError, match=f"at least 1, got up={up} and down={down}"):
        upfirdn2d(torch.zeros(1, 1, 4, 4), torch.ones(2), up, down)

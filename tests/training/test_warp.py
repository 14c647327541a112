"""Moves against closed forms, exact copies, and their derivatives."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from stylex.training.warp import affine, blit, compose, low_pass, mirrored, turn, warp

TAPS = low_pass().double()


def noise(count: int, size: int, channels: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, channels, size, size, generator=generator, dtype=torch.float64)


def places(size: int) -> Tensor:
    """(x, y) of all pixels from the middle [h w 2]."""
    axis = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    return torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=2)


def blob(size: int, middle: Tensor, covariance: Tensor) -> Tensor:
    """An image of a Gaussian of height 1 [1 1 h w]."""
    apart = places(size) - middle
    return (-0.5 * (apart @ covariance.inverse() * apart).sum(dim=2)).exp()[None, None]


def random_map(seed: int) -> Tensor:
    """A map that keeps what is near the middle in the image [1 2 3]."""
    generator = torch.Generator().manual_seed(seed)
    linear = torch.eye(2) + 0.3 * torch.randn(2, 2, generator=generator)
    return torch.cat((linear, 2 * torch.randn(2, 1, generator=generator)), dim=1).double()[None]


def mirrored_by_numpy(images: Tensor, margin: int) -> Tensor:
    pads = [(0, 0), (0, 0), (margin, margin), (margin, margin)]
    return torch.from_numpy(np.pad(images.numpy(), pads, mode="symmetric"))


def test_the_low_pass_is_a_symmetric_filter_whose_two_halves_of_the_spectrum_add_up_to_one() -> (
    None
):
    wave = torch.arange(12, dtype=torch.float64) * math.pi
    frequencies = torch.linspace(0, 0.5, 50, dtype=torch.float64)[:, None]

    def power(at: Tensor) -> Tensor:
        return (TAPS * (at * wave).cos()).sum(1) ** 2 + (TAPS * (at * wave).sin()).sum(1) ** 2

    assert torch.equal(TAPS, TAPS.flip(0))
    torch.testing.assert_close(
        power(frequencies) + power(1 - frequencies), torch.ones(50).double(), atol=5e-3, rtol=0
    )
    assert power(torch.tensor([[1.0]])) < 1e-12
    torch.testing.assert_close(TAPS.sum(), torch.ones(()).double(), atol=1e-6, rtol=0)


def test_a_composition_applies_the_inner_map_first() -> None:
    outer, inner = random_map(1), random_map(2)
    point = torch.tensor([1.5, -2.0], dtype=torch.float64)

    def mapped(by: Tensor, at: Tensor) -> Tensor:
        return by[0, :, :2] @ at + by[0, :, 2]

    torch.testing.assert_close(
        mapped(compose(outer, inner), point), mapped(outer, mapped(inner, point))
    )


@pytest.mark.parametrize("size", [1, 2, 7])
def test_an_image_goes_on_as_its_mirror_image_for_ever(size: int) -> None:
    row = np.arange(size)
    expected = np.pad(row, 5 * size, mode="symmetric")
    found = mirrored(torch.arange(-5 * size, 6 * size), size)
    assert found.tolist() == expected.tolist()


@pytest.mark.parametrize("quarters", [0, 1, 2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_whole_moves_copy_pixels_exactly(quarters: int, size: int) -> None:
    images = noise(2, size, channels=3)
    angles = torch.full((2,), quarters * math.pi / 2, dtype=torch.float64)
    shifted = affine((1.0, 0.0, 0.0, 1.0), (3.0, -2.0), angles)
    found = blit(images, compose(turn(angles).round(), shifted))
    turned = torch.rot90(images, quarters, (2, 3))  # looks up at a place turned from x to y
    wide = mirrored_by_numpy(turned, size)
    assert torch.equal(found, wide[:, :, size - 2 : 2 * size - 2, size + 3 : 2 * size + 3])


def test_an_unmoved_wave_of_any_frequency_comes_back_to_half_a_percent() -> None:
    size, still = 32, affine((1.0, 0.0, 0.0, 1.0), (0.0, 0.0), torch.zeros(1).double())
    for cycles in range(0, size):
        across = (math.pi * cycles * (torch.arange(size).double() + 0.5) / size).cos()
        images = across.expand(1, 1, size, size)
        torch.testing.assert_close(warp(images, still, TAPS), images, atol=6e-3, rtol=0)


@pytest.mark.parametrize("size", [16, 33])
def test_a_quarter_turn_by_sampling_turns_like_rot90_and_mirrors_like_a_flip(size: int) -> None:
    images = noise(1, size)
    zero = torch.zeros(1, dtype=torch.float64)
    still = affine((1.0, 0.0, 0.0, 1.0), (0.0, 0.0), zero)
    plain = warp(images, still, TAPS)
    turned = warp(images, turn(zero + math.pi / 2), TAPS)
    torch.testing.assert_close(turned, torch.rot90(plain, 1, (2, 3)), atol=1e-6, rtol=0)
    flipped = warp(images, affine((-1.0, 0.0, 0.0, 1.0), (0.0, 0.0), zero), TAPS)
    torch.testing.assert_close(flipped, plain.flip(3), atol=1e-6, rtol=0)


@pytest.mark.parametrize("shift", [3, -20, 50])
def test_sampling_far_outside_finds_the_mirror_image(shift: int) -> None:
    size, images = 16, noise(1, 16)
    zero = torch.zeros(1, dtype=torch.float64)
    moved = warp(images, affine((1.0, 0.0, 0.0, 1.0), (float(shift), 0.0), zero), TAPS)
    still = warp(images, affine((1.0, 0.0, 0.0, 1.0), (0.0, 0.0), zero), TAPS)
    start = 64 + shift
    expected = mirrored_by_numpy(still, 64)[:, :, 64 : 64 + size, start : start + size]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("seed", range(4))
def test_a_smooth_blob_is_moved_as_its_closed_form(size: int, seed: int) -> None:
    back = random_map(seed)
    linear, offset = back[0, :, :2], back[0, :, 2]
    covariance, middle = 9.0 * torch.eye(2).double(), torch.tensor([2.0, -1.0]).double()
    forth = linear.inverse()  # a result's x shows what lies at linear x + offset
    expected = blob(size, forth @ (middle - offset), forth @ covariance @ forth.T)
    found = warp(blob(size, middle, covariance), back, TAPS)
    inner = slice(size // 4, -size // 4)  # away from mirror images
    torch.testing.assert_close(
        found[..., inner, inner], expected[..., inner, inner], atol=0.02, rtol=0
    )


def test_two_moves_are_one_move_by_their_composition() -> None:
    size, first, second = 64, random_map(7), random_map(8)
    image = blob(size, torch.zeros(2).double(), 16.0 * torch.eye(2).double())
    twice = warp(warp(image, first, TAPS), second, TAPS)
    once = warp(image, compose(first, second), TAPS)
    inner = slice(size // 4, -size // 4)
    torch.testing.assert_close(twice[..., inner, inner], once[..., inner, inner], atol=0.02, rtol=0)


def test_shrinking_a_fine_pattern_gives_its_mean_and_no_other_pattern() -> None:
    """At twice the resolution, what lies beyond the new pixels' reach is filtered away."""
    size = 64
    across = (0.75 * math.pi * (torch.arange(size).double() + 0.5)).cos()
    images = across.expand(1, 1, size, size)
    smaller = affine((1.6, 0.0, 0.0, 1.6), (0.0, 0.0), torch.zeros(1).double())
    x = 1.6 * (torch.arange(size).double() - (size - 1) / 2) + (size - 1) / 2
    unfiltered = (0.75 * math.pi * (x + 0.5)).cos()
    found = warp(images, smaller, TAPS)[0, 0, size // 2, 20:44]
    assert found.abs().max() < 0.35 * unfiltered[20:44].abs().max()


def test_sampling_is_a_lawful_op() -> None:
    images = noise(2, 5, channels=2).requires_grad_()
    grid = 3 * torch.rand(2, 4, 6, 2, dtype=torch.float64) - 1.5
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(torch.ops.stylex.sample, (images, grid), test_utils=checks)
    gy = torch.randn(2, 2, 4, 6, dtype=torch.float64, requires_grad=True)
    torch.library.opcheck(torch.ops.stylex.sample_adjoint, (gy, grid, 5, 5), test_utils=checks)
    assert torch.autograd.gradcheck(torch.ops.stylex.sample, (images, grid))
    assert torch.autograd.gradgradcheck(torch.ops.stylex.sample, (images, grid))


def test_moves_have_exact_second_derivatives() -> None:
    images, back = noise(1, 6).requires_grad_(), random_map(3)
    assert torch.autograd.gradcheck(lambda x: warp(x, back, TAPS) ** 3, images)
    assert torch.autograd.gradgradcheck(lambda x: warp(x, back, TAPS) ** 3, images, atol=1e-4)

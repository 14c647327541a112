"""Discriminator and encoder: the residual network, minibatch deviation, the weighting by class."""

import math

import pytest
import torch
from torch import Tensor

from stylex.gan.residual import Discriminator, Encoder, ResidualBlock, minibatch_deviation


def encoder(image_channels: int = 1) -> Encoder:
    network = Encoder(16, image_channels, channel_base=64, channel_max=8, latent_dim=5)
    return network.double().requires_grad_(False)


def discriminator(minibatch_group: int = 2) -> Discriminator:
    network = Discriminator(
        16, 1, channel_base=64, channel_max=8, num_classes=3, minibatch_group=minibatch_group
    )
    return network.double().requires_grad_(False)


def images(count: int, channels: int = 1) -> Tensor:
    return torch.rand(count, channels, 16, 16, dtype=torch.float64) * 2 - 1


def test_both_branches_of_a_residual_block_are_scaled_by_the_root_of_one_half() -> None:
    block = ResidualBlock(3, 4).double()
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)

    expected = (block.conv1(block.conv0(x)) + block.skip(x, gain=1.0)) / math.sqrt(2)

    assert expected.shape == (2, 4, 4, 4)
    torch.testing.assert_close(block(x), expected)


@pytest.mark.parametrize("group_size", [1, 2, 3, 6])
def test_minibatch_deviation_is_the_groups_mean_deviation_over_channels_and_pixels(
    group_size: int,
) -> None:
    x = torch.randn(6, 3, 4, 5, dtype=torch.float64)

    found = minibatch_deviation(x, group_size)

    assert found.shape == (6, 1, 4, 5)
    num_groups = 6 // group_size
    for i in range(6):
        members = [j for j in range(6) if j % num_groups == i % num_groups]
        assert len(members) == group_size
        total = 0.0
        for c in range(3):
            for y in range(4):
                for z in range(5):
                    values = [float(x[j, c, y, z]) for j in members]
                    mean = sum(values) / group_size
                    variance = sum((v - mean) ** 2 for v in values) / group_size
                    total += math.sqrt(variance + 1e-8)
        expected = torch.full((1, 4, 5), total / 60, dtype=torch.float64)
        torch.testing.assert_close(found[i], expected)


def test_a_batch_that_the_group_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="a multiple of the group size 4, got 6"):
        minibatch_deviation(torch.zeros(6, 1, 2, 2), 4)


@pytest.mark.parametrize(("batch_size", "group"), [(6, 2), (5, 1), (2, 2), (8, 4)])
def test_the_discriminator_groups_by_the_greatest_divisor_of_group_size_and_batch(
    batch_size: int, group: int
) -> None:
    network, x = discriminator(minibatch_group=4), images(batch_size)
    p = torch.full((batch_size, 3), 1 / 3, dtype=torch.float64)
    num_groups = batch_size // group

    def score_of_first(others: list[int]) -> Tensor:
        changed = x.clone()
        changed[others] = -changed[others]
        return network(changed, p)[0]

    members = [j for j in range(1, batch_size) if j % num_groups == 0]
    strangers = [j for j in range(1, batch_size) if j % num_groups]
    torch.testing.assert_close(score_of_first(strangers), score_of_first([]))
    if members:
        assert abs(float(score_of_first(members) - score_of_first([]))) > 1e-9


def test_the_discriminator_is_the_sum_of_its_class_outputs_weighted_by_the_probabilities() -> None:
    network, x = discriminator(), images(4)
    p = torch.rand(4, 3, dtype=torch.float64).softmax(dim=1)

    per_class = [
        network(x, torch.eye(3, dtype=torch.float64)[k].expand(4, -1)).tolist() for k in range(3)
    ]

    found = network(x, p).tolist()
    for n in range(4):
        expected = sum(float(p[n, k]) * per_class[k][n] for k in range(3))
        assert found[n] == pytest.approx(expected, rel=1e-10)
    assert len({round(row[0], 6) for row in per_class}) == 3


def test_the_discriminator_is_linear_in_the_probabilities() -> None:
    network, x = discriminator(), images(4)
    p, q = torch.randn(2, 4, 3, dtype=torch.float64)

    torch.testing.assert_close(
        network(x, 2 * p - 3 * q), 2 * network(x, p) - 3 * network(x, q), rtol=1e-10, atol=1e-10
    )


def test_the_code_of_an_image_does_not_depend_on_the_others_in_the_batch() -> None:
    network, x = encoder(), images(4)

    together = network(x)

    for i in range(4):
        torch.testing.assert_close(together[i : i + 1], network(x[i : i + 1]))


def test_the_encoder_is_the_discriminator_without_minibatch_deviation_and_with_other_outputs() -> (
    None
):
    ours = {name: value.shape for name, value in encoder().state_dict().items()}
    theirs = {name: value.shape for name, value in discriminator().state_dict().items()}

    different = {name for name in ours | theirs if ours.get(name) != theirs.get(name)}

    assert different == {"conv.weight", "out.weight", "out.bias"}
    assert (ours["conv.weight"][1], theirs["conv.weight"][1]) == (8, 9)
    assert (ours["out.weight"][0], theirs["out.weight"][0]) == (5, 3)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_encoder_gives_one_code_per_image_that_depends_on_every_pixel(channels: int) -> None:
    network, x = encoder(channels), images(2, channels).requires_grad_()

    code = network(x)
    (gradient,) = torch.autograd.grad(code.square().sum(), x)

    assert code.shape == (2, 5)
    assert int((gradient == 0).sum()) == 0


def test_widths_follow_the_resolution_and_the_blocks_end_at_4_px() -> None:
    blocks = encoder().blocks

    assert [(b.skip.weight.shape[1], b.skip.weight.shape[0]) for b in blocks] == [(4, 8), (8, 8)]

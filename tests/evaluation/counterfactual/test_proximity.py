"""Distances by hand; images are in [0, 1]."""

import math

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.proximity import L1, L2, LPIPS, Sparsity, mean_difference
from stylex.imaging import from_uint8
from stylex.types import Images


def one_value_changed(by: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two images of 2 channels and 2x2 pixels; one value of the first changes."""
    before = torch.full((2, 2, 2, 2), 100, dtype=torch.uint8)
    after = before.clone()
    after[0, 1, 0, 1] += by
    return before, after, torch.tensor([True, False])


def test_l1_and_l2_are_means_over_all_values_of_images_in_0_to_1() -> None:
    first, second = L1(), L2()
    for metric in (first, second):
        metric.update(*one_value_changed(by=51))
    assert first.scores().over_valid.value == pytest.approx(0.2 / 8)
    assert first.scores().over_all.value == pytest.approx(0.2 / 16)
    assert second.scores().over_valid.value == pytest.approx(math.sqrt(0.2**2 / 8))


def test_the_largest_distance_is_1_in_either_direction() -> None:
    black, white = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.full((3, 1, 2, 2), 255).byte()
    for metric in (L1(), L2(), Sparsity(threshold=0.5)):
        metric.update(black, white, torch.ones(3, dtype=torch.bool))
        metric.update(white, black, torch.ones(3, dtype=torch.bool))
        assert metric.scores().over_all.value == 1


@pytest.mark.parametrize(("by", "share"), [(50, 0), (51, 0), (52, 1 / 4)])
def test_a_pixel_counts_as_changed_if_any_channel_moves_by_more_than_the_threshold(
    by: int, share: float
) -> None:
    metric = Sparsity(threshold=0.2)  # 51 of 255
    metric.update(*one_value_changed(by))
    assert metric.scores().over_valid.value == share


def test_lpips_gives_its_network_images_between_minus_1_and_1() -> None:
    seen = []

    def distance(first: Images, second: Images) -> Tensor:
        seen.append((first, second))
        return torch.tensor([3.0, 5.0])

    before, after, valid = one_value_changed(by=155)
    metric = LPIPS(distance)
    metric.update(before, after, valid)
    assert metric.scores().over_all.value == 4
    assert float(seen[0][1].max()) == 1
    torch.testing.assert_close(seen[0][0], torch.full((2, 2, 2, 2), 100 / 127.5 - 1))


def test_the_distance_without_a_network_is_l1() -> None:
    before, after, _ = one_value_changed(by=51)
    found = mean_difference(from_uint8(before), from_uint8(after))
    torch.testing.assert_close(found, torch.tensor([0.2 / 8, 0.0]))

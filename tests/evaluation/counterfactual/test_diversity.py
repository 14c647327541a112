"""Diversity by hand, with the distance that needs no network."""

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.diversity import Diversity
from stylex.evaluation.counterfactual.proximity import mean_difference


def greys(values: list[int]) -> Tensor:
    return torch.tensor(values, dtype=torch.uint8)[:, None, None, None].expand(-1, 1, 2, 2)


def measured(ids: list[int], values: list[int], valid: list[bool]) -> Diversity:
    metric = Diversity(mean_difference, batch_size=2)
    metric.update(torch.tensor(ids), greys(values), torch.tensor(valid))
    return metric


def test_pairs_are_of_one_image_and_images_weigh_alike() -> None:
    # Image 7: 0, 51, 102, so 0.2, 0.4, 0.2. Image 3: 0 and 255. Image 5 is alone.
    metric = measured([7, 3, 7, 5, 3, 7], [0, 0, 51, 9, 255, 102], [True] * 6)
    found = metric.scores().over_all
    assert found.value == pytest.approx(((0.2 + 0.4 + 0.2) / 3 + 1) / 2)
    assert found.num_images == 2
    assert metric.compute()["all_pairs"] == 4


def test_an_image_whose_runs_do_not_all_flip_stays_among_all() -> None:
    metric = measured([1, 1, 2, 2], [0, 255, 0, 51], [True, False, True, True])
    found, numbers = metric.scores(), metric.compute()
    assert (found.over_all.value, found.over_all.num_images) == (pytest.approx(0.6), 2)
    assert (found.over_valid.value, found.over_valid.num_images) == (pytest.approx(0.2), 1)
    assert (numbers["all_pairs"], numbers["valid_pairs"]) == (2, 1)


def test_batches_of_different_runs_are_joined_by_the_images_id() -> None:
    metric = Diversity(mean_difference, batch_size=8)
    for ids, values in (([1, 2], [0, 0]), ([2, 1], [51, 255])):
        metric.update(torch.tensor(ids), greys(values), torch.ones(2, dtype=torch.bool))
    assert metric.scores().over_all.value == pytest.approx(0.6)

"""Scores of readings against hand-made cases."""

import pytest
import torch

from stylex.data.drawn import Factor
from stylex.evaluation.legibility import balanced_accuracy, determination, legibility

ONES = torch.ones(1, 4, dtype=torch.float64)
TRUE = torch.tensor([0.0, 0.2, 0.6, 1.0], dtype=torch.float64)


def test_perfect_readings_have_r2_one_and_the_mean_has_zero() -> None:
    assert float(determination(TRUE, TRUE, ONES)) == pytest.approx(1)
    mean = TRUE.mean().expand(4)
    assert float(determination(mean, TRUE, ONES)) == pytest.approx(0)


def test_r2_under_weights_is_that_of_the_repeated_images() -> None:
    read = TRUE + torch.tensor([0.1, -0.2, 0.05, 0.0], dtype=torch.float64)
    weights = torch.tensor([[2.0, 0.0, 1.0, 1.0]], dtype=torch.float64)
    rows = torch.tensor([0, 0, 2, 3])
    repeated = (
        1
        - (read[rows] - TRUE[rows]).square().sum() / (TRUE[rows] - TRUE[rows].mean()).square().sum()
    )
    assert float(determination(read, TRUE, weights)) == pytest.approx(float(repeated))


def test_saying_yes_to_everything_is_balanced_to_one_half() -> None:
    true = torch.tensor([1.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    assert float(balanced_accuracy(torch.ones(4).double(), true, ONES)) == 0.5
    assert float(balanced_accuracy(true, true, ONES)) == 1


def test_only_images_in_which_a_factor_can_be_seen_count() -> None:
    factors = (Factor("size"), Factor("hat", is_binary=True))
    values = torch.tensor([[0.1, 1.0], [0.9, 0.0], [0.5, 1.0], [0.3, 0.0]])
    readings = values.clone()
    readings[2] = torch.tensor([9.0, 0.0])  # wrong, but hidden
    seen = torch.ones(4, 2, dtype=torch.bool)
    seen[2] = False
    found = legibility(readings, values, seen, factors)
    assert [each.score.value for each in found] == [pytest.approx(1), 1]
    assert [each.score.num_images for each in found] == [3, 3]
    assert [each.error for each in found] == [0, 0]


def test_errors_are_root_mean_squares_in_spreads() -> None:
    factors = (Factor("hat", is_binary=True),)
    values = torch.tensor([[0.0], [1.0], [0.0], [1.0]])
    found = legibility(values * 0.5 + 0.25, values, torch.ones(4, 1, dtype=torch.bool), factors)
    assert found[0].error == pytest.approx(0.5)  # off by 1/4, the spread is 1/2


def test_a_factor_that_is_never_seen_has_no_score() -> None:
    values = torch.rand(4, 1)
    found = legibility(values, values, torch.zeros(4, 1, dtype=torch.bool), (Factor("size"),))
    assert found[0].score.value is None


def test_noisier_readings_have_lower_scores_and_larger_errors() -> None:
    values = torch.rand(300, 1)
    seen = torch.ones(300, 1, dtype=torch.bool)
    noise = torch.randn(300, 1)
    near, far = (
        legibility(values + s * noise, values, seen, (Factor("size"),))[0] for s in (0.05, 0.2)
    )
    assert near.score.value > far.score.value
    assert near.error < far.error
    low, high = far.score.interval
    assert low < far.score.value < high

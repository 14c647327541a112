"""Attributes changed, with a reader that sees whether each pixel is bright."""

import pytest
import torch
from torch import Tensor

from stylex.evaluation.counterfactual.attributes import CD, MNAC, correlations
from stylex.types import Images


def bright(images: Images) -> Tensor:
    return (images.flatten(1) + 1) / 2


def pictures(rows: list[list[int]]) -> Tensor:
    """Images of one row of pixels, black (0) or white (1)."""
    return torch.tensor(rows, dtype=torch.uint8)[:, None, None] * 255


BEFORE = pictures([[0, 0, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
AFTER = pictures([[1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 1, 0]])
VALID = torch.tensor([True, True, True, False])


def pearson(first: list[float], second: list[float]) -> float:
    a = [v - sum(first) / len(first) for v in first]
    b = [v - sum(second) / len(second) for v in second]
    norm = (sum(v * v for v in a) * sum(v * v for v in b)) ** 0.5
    return sum(v * w for v, w in zip(a, b, strict=True)) / norm if norm else 0.0


def test_mnac_counts_the_attribute_asked_for_too() -> None:
    metric = MNAC(bright)
    metric.update(BEFORE, AFTER, VALID)
    assert metric.scores().over_all.value == (2 + 1 + 2 + 1) / 4
    assert metric.scores().over_valid.value == pytest.approx((2 + 1 + 2) / 3)


def test_cd_compares_how_attributes_change_with_how_they_occur() -> None:
    train = torch.tensor([1.0, 0.4, -0.2])
    metric = CD(bright, queried=0, train_correlations=train)
    metric.update(BEFORE, AFTER, VALID)
    changes = [[1.0, 1, -1, 0], [1.0, 0, -1, 0], [0.0, 0, 0, -1]]
    for rows, found in ((4, metric.scores().over_all), (3, metric.scores().over_valid)):
        expected = sum(
            abs(float(t) - pearson(changes[0][:rows], change[:rows]))
            for t, change in zip(train, changes, strict=True)
        )
        assert found.value == pytest.approx(expected)
        assert (found.num_images, found.interval) == (rows, None)


def test_cd_of_doing_nothing_is_the_sum_of_the_correlations_in_the_data() -> None:
    metric = CD(bright, queried=0, train_correlations=torch.tensor([1.0, 0.4, -0.2]))
    metric.update(BEFORE, BEFORE, VALID)
    assert metric.scores().over_all.value == pytest.approx(1.6)


def test_cd_rewards_edits_that_repeat_the_datas_bias() -> None:
    # In the data, attribute 1 goes with attribute 0. An edit of 0 alone scores worse than one
    # that drags 1 along: why it is never optimised.
    train = torch.tensor([1.0, 1.0, 0.0])
    scores = []
    for after in ([[1, 0, 0], [0, 1, 0]], [[1, 1, 0], [0, 0, 0]]):
        metric = CD(bright, queried=0, train_correlations=train)
        metric.update(pictures([[0, 0, 0], [1, 1, 0]]), pictures(after), torch.tensor([True] * 2))
        scores.append(metric.scores().over_all.value)
    assert scores == [pytest.approx(1), pytest.approx(0)]


def test_correlations_equal_pearsons_and_are_0_for_constant_columns() -> None:
    values = torch.rand(20, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    values[:, 1] = 0.1  # not exact in binary: the centred column is not exactly 0
    found = correlations(values, 2)
    columns = values.T.tolist()
    assert found.tolist() == pytest.approx([pearson(columns[0], columns[2]), 0, 1])
    assert correlations(values, 1).tolist() == [0, 0, 0]

"""Figures with their intervals."""

import math

import pytest
import torch

from stylex.estimates import Z_95, mean, share


def flags(num_true: int, num_all: int) -> torch.Tensor:
    return torch.arange(num_all) < num_true


def test_95_percent_of_the_normal_distribution_lie_within_the_deviation_used() -> None:
    assert math.erf(Z_95 / math.sqrt(2)) == pytest.approx(0.95, abs=1e-14)


@pytest.mark.parametrize(("num_true", "num_all"), [(1, 3), (7, 10), (30, 40), (500, 1000)])
def test_wilsons_limits_are_the_shares_that_just_do_not_contradict_the_observed_one(
    num_true: int, num_all: int
) -> None:
    estimate = share(flags(num_true, num_all))

    assert estimate.value == pytest.approx(num_true / num_all)
    assert estimate.num_images == num_all
    low, high = estimate.interval
    assert 0 < low < num_true / num_all < high < 1
    for limit in (low, high):  # |observed - limit| = z standard errors at the limit
        error = math.sqrt(limit * (1 - limit) / num_all)
        assert abs(num_true / num_all - limit) == pytest.approx(Z_95 * error, rel=1e-9)


@pytest.mark.parametrize("num_all", [1, 12, 400])
def test_the_interval_of_none_begins_at_0_and_that_of_all_ends_at_1(num_all: int) -> None:
    none, every = share(flags(0, num_all)).interval, share(flags(num_all, num_all)).interval

    limit = Z_95**2 / (num_all + Z_95**2)
    assert none == pytest.approx((0.0, limit))
    assert every == pytest.approx((1 - limit, 1.0))
    assert none[0] >= 0.0
    assert every[1] <= 1.0


def test_nothing_measured_has_no_value_and_no_interval() -> None:
    for estimate in (share(torch.zeros(0, dtype=torch.bool)), mean(torch.zeros(0))):
        assert estimate.as_json() == {"value": None, "num_images": 0, "interval": None}


def test_an_estimate_is_written_with_its_three_parts() -> None:
    assert mean(torch.tensor([2.0, 2.0])).as_json() == {
        "value": 2.0,
        "num_images": 2,
        "interval": (2.0, 2.0),
    }


def test_the_bootstrap_interval_of_many_values_is_that_of_the_normal_distribution() -> None:
    values = torch.randn(400, dtype=torch.float64) * 3 + 5

    estimate = mean(values)

    centre, half = float(values.mean()), Z_95 * float(values.std()) / 20
    assert estimate.value == pytest.approx(centre)
    assert estimate.num_images == 400
    assert estimate.interval == pytest.approx((centre - half, centre + half), abs=0.1 * half)


def test_the_bootstrap_interval_covers_the_truth_about_19_times_in_20() -> None:
    covered = 0
    for _ in range(60):
        low, high = mean(-torch.rand(50).log()).interval  # exponential, mean 1
        covered += low <= 1 <= high

    # 57 are meant; a skewed distribution costs a little; the binomial's deviation is 1.7.
    assert 51 <= covered <= 60


def test_the_bootstrap_gives_the_same_interval_every_time_and_draws_nothing_from_outside() -> None:
    values, before = torch.randn(30), torch.get_rng_state()

    first, second = mean(values), mean(values)

    assert first == second
    assert torch.equal(torch.get_rng_state(), before)

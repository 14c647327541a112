"""Figures with their intervals; ranks and p-values."""

import math

import pytest
import torch

from stylex import estimates
from stylex.errors import InputError
from stylex.estimates import (
    NUM_RESAMPLES,
    Z_95,
    RankStability,
    mean,
    p_value,
    q_values,
    rank_stability,
    share,
)


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


@pytest.mark.parametrize("count", [1, 7, 30])
def test_the_bootstrap_is_the_one_drawn_image_by_image_however_it_is_cut(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = torch.randn(count, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    means = sorted(
        float(values[torch.randint(count, (count,), generator=generator)].mean())
        for _ in range(NUM_RESAMPLES)
    )

    def at(share: float) -> float:
        below, part = divmod(share * (NUM_RESAMPLES - 1), 1)
        return means[int(below)] * (1 - part) + means[int(below) + 1] * part

    whole = mean(values)
    monkeypatch.setattr(estimates, "MAX_DRAWS", 50)
    in_parts = mean(values)

    assert whole.interval == pytest.approx((at(0.025), at(0.975)), abs=1e-12)
    assert in_parts.interval == pytest.approx(whole.interval, abs=1e-12)


# Ranks -------------------------------------------------------------------------------------------


def test_a_clear_order_has_the_same_ranks_in_every_half() -> None:
    effects = torch.tensor([1.0, 3.0, 2.0]) + 0.1 * torch.rand(20, 3)

    found, correlation = rank_stability(effects, seed=0)

    assert found == tuple(RankStability(rank, (rank, rank)) for rank in (3.0, 1.0, 2.0))
    assert correlation == pytest.approx(1.0)


def test_ranks_of_noise_say_nothing_of_the_other_half() -> None:
    # One table's halves mirror each other a little, another's agree: several give 0.
    found = [rank_stability(torch.randn(60, 8), seed=0) for _ in range(20)]

    correlations = torch.tensor([correlation for _, correlation in found])
    assert abs(float(correlations.mean())) < 0.15
    lows, highs = zip(*(one.interval for ranks, _ in found for one in ranks), strict=True)
    assert sum(lows) / len(lows) < 2.6
    assert sum(highs) / len(highs) > 6.4


@pytest.mark.parametrize(
    ("effects", "correlation"),
    [
        ([[3.0, 2.0, 1.0], [2.0, 3.0, 1.0]], 0.5),  # 1 - 6 (1 + 1) / (3 (9 - 1))
        ([[3.0, 2.0, 1.0], [1.0, 2.0, 3.0]], -1.0),
        ([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]], 0.75**0.5),  # ranks 1, 2, 3 and 1.5, 1.5, 3
        ([[3.0, 2.0, 1.0], [0.0, 0.0, 0.0]], 0.0),
    ],
)
def test_the_correlation_is_spearmans_of_the_two_halves(
    effects: list[list[float]], correlation: float
) -> None:
    _, found = rank_stability(torch.tensor(effects), seed=0)  # two images: each is a half

    assert found == pytest.approx(correlation)


def test_attributes_that_swap_have_both_ranks_and_a_tie_shares_them() -> None:
    swapped, _ = rank_stability(torch.tensor([[1.0, 0.0], [0.0, 1.0]]), seed=0)
    tied, _ = rank_stability(torch.zeros(4, 2), seed=0)

    assert swapped == (RankStability(1.5, (1.0, 2.0)),) * 2
    assert tied == (RankStability(1.5, (1.5, 1.5)),) * 2


def test_a_rank_in_fewer_than_one_half_of_20_lies_outside_the_interval() -> None:
    # The second attribute leads in the half that holds the last four images: 1 in 70.
    effects = torch.stack((torch.tensor([4.0] * 4 + [-1.0] * 4), torch.zeros(8)), dim=1)

    found, correlation = rank_stability(effects, seed=0)

    assert found == (RankStability(1.0, (1.0, 1.0)), RankStability(2.0, (2.0, 2.0)))
    assert 0.9 < correlation < 1  # -1 where it happens


def test_halves_share_no_image_and_an_odd_one_is_left_out() -> None:
    # Image 0 alone puts the first attribute in front of the second.
    effects = torch.tensor([[9.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    found, correlation = rank_stability(effects, seed=0)

    # Halves of one image: the first attribute leads where image 0 is drawn, in 1 of 3.
    assert [one.median for one in found] == [2.0, 1.0]
    assert correlation == pytest.approx(-1 / 3, abs=0.15)  # 0 is left out in 1 of 3: then 1


def test_one_attribute_has_rank_1_and_no_correlation() -> None:
    assert rank_stability(torch.randn(5, 1), seed=0) == ((RankStability(1.0, (1.0, 1.0)),), None)


def test_ranks_depend_on_the_seed_alone() -> None:
    effects, before = torch.randn(9, 5), torch.get_rng_state()

    assert rank_stability(effects, seed=1) == rank_stability(effects, seed=1)
    assert rank_stability(effects, seed=1) != rank_stability(effects, seed=2)
    assert torch.equal(torch.get_rng_state(), before)


def test_halves_of_one_image_are_refused() -> None:
    with pytest.raises(InputError, match="needs at least 2 images, got 1"):
        rank_stability(torch.zeros(1, 3), seed=0)


# p-values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("observed", "p"), [(9.0, 1 / 5), (4.0, 2 / 5), (2.5, 3 / 5), (1.0, 5 / 5), (-9.0, 5 / 5)]
)
def test_p_is_the_share_of_values_at_least_as_large_the_observed_one_among_them(
    observed: float, p: float
) -> None:
    assert p_value(observed, torch.tensor([1.0, 2.0, 3.0, 4.0])) == pytest.approx(p)


def test_p_is_never_0_and_nothing_to_compare_with_proves_nothing() -> None:
    assert p_value(float("inf"), torch.zeros(999)) == pytest.approx(0.001)
    assert p_value(5.0, torch.zeros(0)) == 1.0


def test_p_of_one_more_draw_of_the_null_is_uniform() -> None:
    found = torch.tensor([p_value(float(draw[0]), draw[1:]) for draw in torch.randn(2000, 20)])

    for limit in (0.05, 0.25, 0.5):  # the binomial's deviation is at most 0.011
        assert float((found <= limit + 1e-6).float().mean()) == pytest.approx(limit, abs=0.03)


# The example of Benjamini & Hochberg 1995, section 4.1: 15 tests of a treatment.
PUBLISHED = [
    0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344,
    0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000,
]  # fmt: skip


def test_the_published_example_of_the_false_discovery_rate_rejects_four() -> None:
    found = q_values(PUBLISHED)

    assert [q <= 0.05 for q in found] == [True] * 4 + [False] * 11
    assert found[:4] == pytest.approx([0.0015, 0.003, 0.0095, 15 * 0.0095 / 4])


def test_q_is_the_smallest_rate_at_which_the_step_up_procedure_rejects() -> None:
    p = [0.03, 0.01, 0.8, 0.03, 0.021, 0.5]

    def rejected(rate: float) -> set[int]:
        order = sorted(range(len(p)), key=p.__getitem__)
        steps = [i for i, j in enumerate(order, 1) if p[j] <= rate * i / len(p) * (1 + 1e-12)]
        return set(order[: max(steps, default=0)])

    for i, q in enumerate(q_values(p)):
        assert i in rejected(q)
        assert i not in rejected(q - 1e-6)


def test_one_test_needs_no_adjustment_and_none_gives_nothing() -> None:
    assert q_values([0.04]) == pytest.approx([0.04])
    assert q_values([]) == []


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.5, float("nan")])
def test_what_is_no_p_value_is_refused(wrong: float) -> None:
    with pytest.raises(InputError, match=r"p-values must be in \(0, 1\], got"):
        q_values([0.5, wrong])

"""Recovery: every score on hand-made numbers, an upper bound, a lower one, a bad explainer."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import spearman
from stylex.evaluation.recovery import (
    Moves,
    Recovery,
    main_factors,
    mean_of_seeds,
    moves,
    over_images,
    over_seeds,
    recover,
    recover_mean,
    student_t,
)

RELIANCE = torch.tensor([2.0, -1.5, 0.0, 0.0, 1.0, 0.05])
RELIED = RELIANCE.abs() > 0.1  # three of six


def scored(profile: list[list[float]], effects: list[float], most: int = 8) -> Recovery:
    return recover(torch.tensor(profile).float(), torch.tensor(effects), RELIANCE, RELIED, most)


def test_a_method_that_returns_the_relied_upon_factors_themselves_gets_the_best_of_everything() -> (
    None
):
    order = [0, 1, 4]
    profile = torch.eye(6)[order]
    found = recover(profile, RELIANCE[order], RELIANCE, RELIED, most=3)
    assert (found.recovery, found.purity, found.precision) == (1, 1, 1)
    assert (found.distractor_rate, found.distractor_movement, found.sign_accuracy) == (0, 0, 1)
    assert found.rank_agreement is not None
    assert found.rank_agreement > 0.9  # the small reliance on the last factor was not found


def test_all_factors_of_the_generator_in_their_order_agree_with_the_reliance_rank_by_rank() -> None:
    found = recover(torch.eye(6), RELIANCE, RELIANCE, RELIED, most=6)
    assert found.rank_agreement == pytest.approx(1)
    assert found.recovery == 1
    assert found.precision == 0.5


def test_random_directions_are_at_chance() -> None:
    random = torch.Generator().manual_seed(0)
    found = [
        recover(
            torch.randn(8, 6, generator=random),
            torch.randn(8, generator=random),
            RELIANCE,
            RELIED,
            most=8,
        )
        for _ in range(150)
    ]
    means = {name: estimate.value for name, estimate in over_seeds(found).items()}
    assert means["precision"] == pytest.approx(0.5, abs=0.06)  # three of six are relied upon
    assert means["sign_accuracy"] == pytest.approx(0.5, abs=0.06)
    assert means["distractor_movement"] == pytest.approx(0.5, abs=0.06)
    assert means["recovery"] == pytest.approx(1 - (5 / 6) ** 8, abs=0.06)


def test_a_bad_explainer_that_moves_only_distractors_fails_everywhere() -> None:
    found = scored([[0, 0, 1, 0, 0, 0], [0, 0, 0, 1, 0, 0]], [3.0, 3.0])
    assert (found.recovery, found.precision) == (0, 0)
    assert (found.distractor_rate, found.distractor_movement) == (1, 1)
    assert found.sign_accuracy is None
    assert found.rank_agreement is not None
    assert found.rank_agreement < 0


def test_scores_of_a_case_worked_by_hand() -> None:
    profile = [[3.0, -1.0, 0, 0, 0, 0], [0.5, 0, -1.0, 0, 0, 0.5]]
    found = scored(profile, [1.0, -1.0])
    assert found.recovery == pytest.approx(1 / 3)  # factor 0 of 0, 1 and 4
    assert found.purity == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert found.precision == 0.5
    assert found.distractor_movement == pytest.approx((0 + 3 / 4) / 2)
    assert found.sign_accuracy == 1
    assert found.directions == 2


def test_a_direction_against_the_foretold_sign_counts_against_sign_accuracy() -> None:
    up, down = [1.0, 0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0, 0]
    assert scored([up, down], [1.0, -1.0]).sign_accuracy == 1
    assert scored([up, down], [1.0, 1.0]).sign_accuracy == 0.5
    assert scored([[-1.0, 0, 0, 0, 0, 0]], [1.0]).sign_accuracy == 0


def test_two_directions_of_one_factor_recover_it_once() -> None:
    same = [1.0, 0, 0, 0, 0, 0]
    found = scored([same, same], [1.0, 1.0])
    assert found.recovery == pytest.approx(1 / 3)
    assert found.precision == 1


def test_only_the_first_k_directions_are_scored() -> None:
    profile = torch.eye(6)[[2, 0, 1]].tolist()
    assert scored(profile, [1.0, 1.0, 1.0], most=1).recovery == 0
    assert scored(profile, [1.0, 1.0, 1.0], most=2).recovery == pytest.approx(1 / 3)


def test_a_method_with_fewer_directions_is_scored_on_those_it_has() -> None:
    found = scored([[0, 1.0, 0, 0, 0, 0]], [-1.0], most=8)
    assert (found.precision, found.directions) == (1, 1)


def test_a_direction_that_moves_nothing_is_impure_and_found_nothing() -> None:
    found = scored([[0.0] * 6, [1.0, 0, 0, 0, 0, 0]], [0.0, 1.0])
    assert (found.precision, found.purity, found.distractor_movement) == (0.5, 0.5, 0)
    assert found.sign_accuracy == 1  # over the one whose factor is relied upon


def test_of_equal_moves_the_first_factor_is_the_main_one() -> None:
    assert main_factors(torch.tensor([[0.0, 2.0, -2.0], [0.0, 0.0, 0.0]])).tolist() == [1, -1]


def test_no_direction_and_no_relied_upon_factor_leave_scores_undefined() -> None:
    none = recover(torch.zeros(0, 6), torch.zeros(0), RELIANCE, RELIED, 8)
    assert (none.recovery, none.purity, none.precision, none.directions) == (0, None, None, 0)
    nothing = torch.zeros(6, dtype=torch.bool)
    assert recover(torch.eye(6), torch.ones(6), RELIANCE, nothing, 8).recovery is None


def test_fewer_than_one_direction_cannot_be_asked_for() -> None:
    with pytest.raises(InputError, match="from 1 upwards, got 0"):
        scored([[1.0] * 6], [1.0], most=0)


def test_spearman_is_one_for_any_rising_function_and_shares_the_ranks_of_ties() -> None:
    x = torch.tensor([0.1, 5.0, 2.0, 9.0], dtype=torch.float64)
    assert float(spearman(x, x**3)) == pytest.approx(1)
    assert float(spearman(x, -x)) == pytest.approx(-1)
    tied = torch.tensor([1.0, 1.0, 2.0], dtype=torch.float64)
    plain = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert float(spearman(tied, plain)) == pytest.approx(
        math.sqrt(3) / 2
    )  # ranks 1.5 1.5 3 and 1 2 3
    assert float(spearman(torch.ones(4), x)) == 0


def test_moves_are_in_spreads_and_logits() -> None:
    spreads = torch.tensor([0.5, 0.25])
    found = moves(
        torch.tensor([[[1.0, 0.5]]]),
        torch.tensor([[0.5, 0.0]]),
        torch.tensor([[2.0]]),
        torch.tensor([-1.0]),
        spreads,
    )
    assert found.movement.tolist() == [[[1.0, 2.0]]]
    assert found.effects.tolist() == [[3.0]]


@pytest.mark.parametrize(("freedom", "closed"), [(1, math.tan(0.475 * math.pi)), (2, 4.3026527)])
def test_students_quantile_is_its_closed_form(freedom: int, closed: float) -> None:
    assert student_t(freedom) == pytest.approx(closed, rel=1e-4)


def test_students_quantile_falls_to_that_of_the_normal_distribution() -> None:
    assert student_t(5) > student_t(50) > 1.96
    assert student_t(1000) == pytest.approx(1.95996, abs=5e-3)


def test_a_mean_of_two_seeds_has_the_interval_of_one_degree_of_freedom() -> None:
    found = mean_of_seeds([0.4, 0.6], (-9.0, 9.0))
    half = math.tan(0.475 * math.pi) * 0.1  # t · s / √2 with s = 0.1 · √2
    assert (found.value, found.num_images) == (pytest.approx(0.5), 2)
    assert found.interval == (pytest.approx(0.5 - half, rel=1e-3), pytest.approx(0.5 + half))


def test_intervals_over_seeds_end_where_scores_do() -> None:
    assert mean_of_seeds([0.9, 1.0], (0.0, 1.0)).interval == (pytest.approx(0.3147, abs=1e-3), 1.0)


def test_one_seed_has_no_interval_and_none_no_value() -> None:
    assert mean_of_seeds([0.5], (0, 1)).interval is None
    assert mean_of_seeds([], (0, 1)).value is None


def measured(num_images: int = 40) -> Moves:
    random = torch.Generator().manual_seed(1)
    movement = torch.randn(3, num_images, 6, generator=random, dtype=torch.float64) * 0.3
    movement[0, :, 0] += 2
    movement[1, :, 1] += 1
    movement[2, :, 3] += 1
    return Moves(movement, torch.ones(3, num_images, dtype=torch.float64))


def blurred(error: float, found: Moves | None = None, **changed: Any) -> dict[str, Any]:
    settings = {"most": 8, "errors": torch.full((6,), error), "seed": 0, **changed}
    return over_images(found or measured(), RELIANCE, RELIED, **settings)


def width(estimate: Any) -> float:
    low, high = estimate.interval
    return high - low


def test_scores_over_images_are_those_of_the_mean_profile_and_lie_in_their_intervals() -> None:
    found = blurred(0.2)
    plain = recover_mean(measured(), RELIANCE, RELIED, 8)
    assert found["purity"].value == plain.purity
    assert found["purity"].num_images == 40
    for name in ("recovery", "purity", "precision", "distractor_movement", "rank_agreement"):
        estimate = found[name]
        low, high = estimate.interval
        assert low <= estimate.value <= high


def test_a_worse_reader_widens_the_intervals() -> None:
    assert width(blurred(0.0)["purity"]) < width(blurred(1.0)["purity"])
    assert width(blurred(0.0)["recovery"]) == 0
    assert width(blurred(20.0)["recovery"]) > 0


def test_intervals_over_images_follow_from_the_seed() -> None:
    assert blurred(0.2) == blurred(0.2)
    assert blurred(0.2) != blurred(0.2, seed=1)


def test_without_images_no_score_is_known() -> None:
    nothing = Moves(torch.zeros(2, 0, 6), torch.zeros(2, 0))
    assert all(estimate.value is None for estimate in blurred(0.1, nothing).values())


def test_effects_may_be_single_precision() -> None:
    effects: Tensor = torch.ones(3, 40)
    single = Moves(measured().movement.float(), effects)
    assert blurred(0.1, single)["precision"].value == pytest.approx(2 / 3)

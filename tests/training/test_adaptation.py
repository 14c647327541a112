"""When p moves, how far, and what must not move it."""

from typing import Any

import pytest
import torch

from stylex.errors import InputError
from stylex.training.adaptation import Adaptation

SETTINGS = {"mode": "adaptive", "p": 0.0, "target": 0.6, "adjustment_kimg": 500}
SURE, DOUBTFUL = torch.full((10,), 3.0), torch.tensor([1.0] * 7 + [-1.0] * 3)  # signs 1 and 0.4


def adaptation(**changes: Any) -> Adaptation:
    return Adaptation({**SETTINGS, **changes})


def test_p_rises_while_the_discriminator_overfits_and_falls_while_it_does_not() -> None:
    adapting, p = adaptation(), torch.tensor(0.5)
    adapting.observe(SURE)
    assert adapting.overfitting() == 1
    adapting.adjust(p, 64)
    torch.testing.assert_close(p, torch.tensor(0.5 + 64 / 500_000))
    adapting.observe(DOUBTFUL)
    torch.testing.assert_close(adapting.overfitting(), torch.tensor(0.4))
    adapting.adjust(p, 640)
    torch.testing.assert_close(p, torch.tensor(0.5 + 64 / 500_000 - 640 / 500_000))


def test_the_set_number_of_images_takes_p_from_zero_to_one_and_no_further() -> None:
    adapting, p = adaptation(adjustment_kimg=1), torch.tensor(0.0)
    for step in range(100):
        adapting.observe(SURE)
        adapting.adjust(p, 10)
        assert p == pytest.approx((step + 1) / 100, abs=1e-5)
    adapting.observe(SURE)
    adapting.adjust(p, 10)
    assert p == 1
    for _ in range(110):
        adapting.observe(-SURE)
        adapting.adjust(p, 10)
    assert p == 0


def test_observations_count_together_until_the_next_adjustment_and_then_anew() -> None:
    parts, whole = adaptation(), adaptation()
    parts.observe(DOUBTFUL[:4])
    parts.observe(DOUBTFUL[4:])
    whole.observe(DOUBTFUL)
    assert torch.equal(parts.sums, whole.sums)
    assert parts.sums.tolist() == [4, 10]
    parts.adjust(torch.tensor(0.5), 10)
    assert parts.sums.tolist() == [0, 0]


def test_sums_of_two_processes_added_up_adjust_as_one() -> None:
    """One alone would say the opposite."""
    first, second, p = adaptation(), adaptation(), torch.tensor(0.5)
    first.observe(SURE[:2])
    second.observe(DOUBTFUL)
    first.sums += second.sums
    first.adjust(p, 12)
    assert p < 0.5


@pytest.mark.parametrize("mode", ["none", "fixed"])
def test_only_the_adaptive_mode_moves_p(mode: str) -> None:
    adapting, p = adaptation(mode=mode), torch.tensor(0.5)
    adapting.observe(SURE)
    adapting.adjust(p, 64)
    assert p == 0.5


def test_without_an_observation_p_stays() -> None:
    p = torch.tensor(0.5)
    adaptation().adjust(p, 64)
    assert p == 0.5


def test_a_judgement_that_is_no_number_does_not_spoil_p() -> None:
    adapting, p = adaptation(), torch.tensor(0.5)
    adapting.observe(torch.tensor([float("nan")] * 3 + [float("inf")]))
    adapting.adjust(p, 64)
    assert 0 < p < 0.5  # a mean sign of a quarter


def test_a_resumed_adaptation_goes_on_within_its_interval() -> None:
    stopped, resumed = adaptation(), adaptation()
    stopped.observe(DOUBTFUL)
    resumed.load_state_dict(stopped.state_dict())
    ps = []
    for adapting in (stopped, resumed):
        p = torch.tensor(0.5)
        adapting.observe(SURE)
        adapting.adjust(p, 64)
        ps.append(p)
    assert torch.equal(*ps)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"mode": "sometimes"}, "mode must be one of none, fixed, adaptive, got 'sometimes'"),
        ({"target": 1.0}, "target must lie between -1 and 1.*got 1.0"),
        ({"adjustment_kimg": 0}, "adjustment_kimg must be above 0, got 0"),
    ],
)
def test_a_setting_out_of_its_range_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        adaptation(**changes)

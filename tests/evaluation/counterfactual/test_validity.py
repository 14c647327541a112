"""Flip rates, score changes and numbers of edits, by hand."""

import pytest
import torch

from stylex.estimates import Estimate, share
from stylex.evaluation.counterfactual.validity import EditsToFlip, FlipRate, MeanScoreChange

# Of four counterfactuals, called classes 1, 1, 2 and 0.
LOGITS = torch.tensor([[0.0, 3, 1], [0, 3, 1], [0, 1, 3], [3, 1, 0]])
VALID = torch.tensor([True, True, False, False])


def test_the_targeted_flip_rate_counts_the_target_among_all_images() -> None:
    metric = FlipRate(targeted=True)
    metric.update(LOGITS, torch.full((4,), 1), VALID)
    found = metric.scores()
    assert found.over_all == share(torch.tensor([True, True, False, False]))
    assert found.over_valid == share(torch.tensor([True, True]))


def test_the_untargeted_flip_rate_counts_any_class_but_the_originals() -> None:
    metric = FlipRate(targeted=False)
    metric.update(LOGITS, torch.zeros(4, dtype=torch.int64), VALID)
    assert metric.scores().over_all.value == 3 / 4


def test_the_score_change_is_of_the_targets_probability_in_either_direction() -> None:
    before = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]])
    after = torch.tensor([[0.4, 0.6], [0.5, 0.5], [0.5, 0.5]])
    metric = MeanScoreChange()
    metric.update(before, after, torch.tensor([1, 1, 0]), torch.tensor([True, False, False]))
    found = metric.scores()
    assert found.over_all.value == pytest.approx((0.5 + 0.3 + 0) / 3)
    assert found.over_valid.value == pytest.approx(0.5)


def test_edits_to_flip_is_the_first_number_that_flips_and_images_that_never_do_are_counted() -> (
    None
):
    flips = torch.tensor(  # a column is an image; row 0 is without any edit
        [
            [False, True, False, False, False],
            [True, True, False, False, False],
            [False, True, False, True, False],
            [False, True, True, True, False],
        ]
    )
    metric = EditsToFlip()
    metric.update(flips[:, :2])
    metric.update(flips[:, 2:])
    found, numbers = metric.scores(), metric.compute()
    assert found.over_all.value == (1 + 0 + 3 + 2) / 4
    assert found.over_all.num_images == 4
    assert found.over_valid.value == pytest.approx((0 + 3 + 2) / 3)  # the first flips back
    assert metric.median() == Estimate(1.5, 4, None)
    assert numbers["never"] == 1 / 5


def test_where_no_image_ever_flips_there_is_no_number_of_edits() -> None:
    metric = EditsToFlip()
    metric.update(torch.zeros(3, 6, dtype=torch.bool))
    assert metric.scores().over_all == metric.median() == Estimate(None, 0, None)
    assert metric.compute()["never"] == 1

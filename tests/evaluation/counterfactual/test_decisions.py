"""Scores of counterfactuals against loops and at their limits."""

import math

import pytest
import torch

from stylex.evaluation.counterfactual.decisions import (
    changed_pixels,
    confusions,
    decision_changed,
    flipped_to,
    is_visible,
)


def test_an_image_is_flipped_if_the_target_has_the_highest_logit() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0], [3.0, 2.0, 1.0], [-5.0, -2.0, -1.0]])
    assert flipped_to(logits, 1).tolist() == [True, False, False]
    assert flipped_to(logits, 2).tolist() == [False, False, True]


def test_a_decision_changes_with_the_arg_max_and_not_with_the_logits() -> None:
    before = torch.tensor([[0.0, 2.0], [0.0, 2.0], [5.0, 2.0]])
    after = torch.tensor([[9.0, 9.5], [0.1, 0.0], [2.0, 5.0]])
    assert decision_changed(before, after).tolist() == [False, True, True]


def test_confusions_equal_a_loop() -> None:
    logits = torch.randn(60, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    logits[:, 4] = -9.0  # no image is called class 4
    found = confusions(logits)
    sums = [[0.0] * 5 for _ in range(5)]
    counts = [0] * 5
    for row in logits.tolist():
        said = row.index(max(row))
        total = sum(math.exp(z) for z in row)
        counts[said] += 1
        for k in range(5):
            sums[said][k] += math.exp(row[k]) / total
    assert counts[4] == 0
    for a in range(5):
        for b in range(5):
            expected = 0.0 if a == b or not counts[a] else sums[a][b] / counts[a]
            assert float(found[a, b]) == pytest.approx(expected, abs=1e-6)


def test_changed_pixels_equal_a_loop() -> None:
    generator = torch.Generator().manual_seed(2)
    before = torch.rand(3, 3, 5, 5, generator=generator) * 2 - 1
    after = before + 0.3 * torch.randn(3, 3, 5, 5, generator=generator)
    found = changed_pixels(before, after)
    for i in range(3):
        count = 0
        for y in range(5):
            for x in range(5):
                change = [float(after[i, c, y, x]) - float(before[i, c, y, x]) for c in range(3)]
                count += any(abs(value) > 0.3 for value in change)
        assert 0 < count < 25
        assert float(found[i]) == pytest.approx(count / 25)


@pytest.mark.parametrize(("num_pixels", "visible"), [(2, False), (3, True), (4, True)])
def test_an_edit_is_visible_from_3_percent_of_the_pixels_on(num_pixels: int, visible: bool) -> None:
    before = torch.zeros(1, 1, 10, 10)
    after = before.clone()
    after[0, 0, 0, :num_pixels] = -0.31
    assert is_visible(before, after) == visible


def test_a_pixel_that_changes_by_0_3_is_not_counted() -> None:
    before = torch.zeros(1, 1, 2, 2)
    assert not is_visible(before, torch.full_like(before, 0.3))
    assert is_visible(before, torch.full_like(before, 0.3001))


def test_visibility_is_judged_on_the_mean_over_the_images() -> None:
    before = torch.zeros(2, 1, 10, 10)
    after = before.clone()
    after[0, 0, 0, :6] = 1.0  # 6 % of one image and none of the other
    assert is_visible(before, after)
    after[0, 0, 0, 5] = 0.0
    assert not is_visible(before, after)

"""Scores and their changes against the definitions, one number at a time."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from stylex.search.scores import Logit, LogProbability, Rise, Score
from stylex.search.selection import Gain

TARGET = 2


def random_table(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64)


def log_probability(logits: Sequence[float]) -> float:
    """Log softmax, from its definition."""
    return logits[TARGET] - math.log(sum(math.exp(z) for z in logits))


@pytest.fixture
def logits() -> Tensor:
    """Of four images, five classes."""
    return random_table(1, 4, 5)


@pytest.fixture
def effects() -> Tensor:
    """Of six edits of each image."""
    return random_table(0, 4, 6, 5)


@pytest.mark.parametrize("kind", [Logit, Rise])
def test_a_logits_score_is_the_targets_logit(logits: Tensor, kind: type[Logit]) -> None:
    assert torch.equal(kind(TARGET)(logits), logits[:, TARGET])


def test_a_log_probabilitys_score_is_the_log_softmax(logits: Tensor) -> None:
    found = LogProbability(TARGET)(logits)
    for row, value in zip(logits.tolist(), found.tolist(), strict=True):
        assert value == pytest.approx(log_probability(row), abs=1e-12)


def test_a_logits_change_is_the_effect_on_it(logits: Tensor, effects: Tensor) -> None:
    assert torch.equal(Logit(TARGET).change(logits[:, None], effects), effects[..., TARGET])


def test_a_rise_counts_no_fall(logits: Tensor, effects: Tensor) -> None:
    found = Rise(TARGET).change(logits[:, None], effects).flatten().tolist()
    expected = effects[..., TARGET].flatten().tolist()
    assert found == [max(value, 0.0) for value in expected]
    assert min(expected) < 0 < max(expected)


def test_a_log_probabilitys_change_sees_all_classes(logits: Tensor, effects: Tensor) -> None:
    found = LogProbability(TARGET).change(logits[:, None], effects)
    for x in range(4):
        for e in range(6):
            after = log_probability((logits[x] + effects[x, e]).tolist())
            expected = after - log_probability(logits[x].tolist())
            assert float(found[x, e]) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("score", [Logit(TARGET), Rise(TARGET), LogProbability(TARGET)])
def test_a_change_of_nothing_is_nothing(logits: Tensor, score: Score) -> None:
    assert score.change(logits, torch.zeros_like(logits)).tolist() == [0.0] * 4


@pytest.mark.parametrize("score", [Logit(TARGET), LogProbability(TARGET)])
def test_a_score_can_be_differentiated(logits: Tensor, score: Score) -> None:
    logits.requires_grad_()
    (slopes,) = torch.autograd.grad(score(logits).sum(), logits)
    step = 1e-6
    for k in range(5):
        shift = torch.zeros(5, dtype=torch.float64)
        shift[k] = step
        expected = (score(logits + shift) - score(logits - shift)) / (2 * step)
        torch.testing.assert_close(slopes[:, k], expected, atol=1e-6, rtol=0)


# Gains


@pytest.mark.parametrize("score", [Logit(TARGET), Rise(TARGET), LogProbability(TARGET)])
def test_a_gain_is_the_scores_change_on_the_image_that_each_row_is_of(
    logits: Tensor, effects: Tensor, score: Score
) -> None:
    gain, images = Gain(score, logits), torch.tensor([3, 0, 3])
    grid = effects[images].view(3, 2, 3, 5)
    found = gain(grid, images)
    for row, image in enumerate(images.tolist()):
        for d in (0, 1):
            for s in range(3):
                expected = float(score.change(logits[image], grid[row, d, s]))
                assert float(found[row, d, s]) == pytest.approx(expected, abs=1e-12)
    assert torch.equal(gain(grid[:, 0, 1], images), found[:, 0, 1])


def test_images_that_do_not_count_gain_nothing(logits: Tensor, effects: Tensor) -> None:
    counted = torch.tensor([True, False, True, False])
    images = torch.tensor([0, 1, 3, 2])
    found = Gain(Logit(TARGET), logits, counted)(effects[images], images)
    assert torch.equal(found[[1, 2]], torch.zeros(2, 6, dtype=torch.float64))
    assert torch.equal(found[[0, 3]], effects[[0, 2]][..., TARGET])

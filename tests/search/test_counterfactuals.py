"""Edits in closed form, pictures against single syntheses, and which images show an attribute."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from stylex.imaging import to_uint8
from stylex.model import StylEx
from stylex.search.counterfactuals import (
    Counterfactuals,
    edited_logits,
    most_rising,
    move,
    render,
    show,
    strengths_tried,
)
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics

STYLES = torch.tensor([[1.0, 2.0, 3.0], [-4.0, 0.0, 8.0]], dtype=torch.float64)
EXTREMES = torch.tensor([[-5.0, -1.0, 0.0], [5.0, 3.0, 10.0]], dtype=torch.float64)
PICKS = [Pick(2, 0), Pick(0, 1)]


def test_strength_0_changes_nothing() -> None:
    assert torch.equal(move(STYLES, PICKS, EXTREMES, 0.0), STYLES)


def test_strength_1_reaches_the_extremes_and_touches_nothing_else() -> None:
    expected = torch.tensor([[5.0, 2.0, 0.0], [5.0, 0.0, 0.0]], dtype=torch.float64)
    assert torch.equal(move(STYLES, PICKS, EXTREMES, 1.0), expected)


def test_strength_2_goes_beyond_the_extremes_by_as_much() -> None:
    expected = torch.tensor([[9.0, 2.0, -3.0], [14.0, 0.0, -8.0]], dtype=torch.float64)
    assert torch.equal(move(STYLES, PICKS, EXTREMES, 2.0), expected)


def test_of_two_picks_of_a_coordinate_the_first_counts() -> None:
    moved = move(STYLES, [Pick(1, 0), Pick(0, 1), Pick(1, 1)], EXTREMES, 1.0)
    assert moved[:, 1].tolist() == [-1.0, -1.0]


@pytest.mark.parametrize("picks", [[], PICKS])
def test_moving_leaves_the_input_untouched(picks: list[Pick]) -> None:
    styles, extremes = STYLES.clone(), EXTREMES.clone()
    move(styles, picks, extremes, 1.5).fill_(7.0)
    assert torch.equal(styles, STYLES)
    assert torch.equal(extremes, EXTREMES)


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_edited_logits_equal_one_image_at_a_time(
    tiny_model: StylEx, statistics: Statistics, batch_size: int
) -> None:
    picks = [Pick(0, 1), Pick(20, 0), Pick(50, 1)]
    found = edited_logits(
        tiny_model, statistics.styles, picks, statistics.extremes, 1.5, batch_size
    )
    for row, styles in enumerate(statistics.styles.clone()):
        for coordinate, direction in picks:
            styles[coordinate] += 1.5 * (
                statistics.extremes[direction, coordinate] - styles[coordinate]
            )
        expected = tiny_model.classifier(tiny_model.render(styles[None]))[0]
        torch.testing.assert_close(found[row], expected, atol=1e-4, rtol=1e-4)


def test_pictures_are_the_reconstructions_before_and_after_within_the_range(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    picks = [Pick(3, 1), Pick(12, 0)]
    rows = torch.tensor([5, 2, 9])
    styles = statistics.styles[rows]
    found = render(tiny_model, rows, styles, picks, statistics.extremes, 2.0, target=1)
    assert found.indices.tolist() == [5, 2, 9]
    beyond = False
    for i in range(3):
        moved = move(styles[i : i + 1], picks, statistics.extremes, 2.0)
        for column, made, one in (
            (0, found.unchanged, styles[i : i + 1]),
            (1, found.changed, moved),
        ):
            whole = tiny_model.generator.synthesis(one)
            expected = whole.clamp(-1, 1)
            beyond |= bool((whole != expected).any())
            torch.testing.assert_close(made[i : i + 1], expected, atol=1e-4, rtol=1e-4)
            # The probability is that of the picture that people see.
            probability = tiny_model.classifier(expected).softmax(dim=1)[0, 1]
            assert float(found.probabilities[i, column]) == pytest.approx(
                float(probability), abs=1e-4
            )
    assert beyond  # the clamp is at work


def test_saved_pictures_are_the_rendered_ones_in_bytes(tmp_path: Path) -> None:
    found = Counterfactuals(
        torch.tensor([4, 8]),
        torch.rand(2, 1, 4, 4) * 2 - 1,
        torch.rand(2, 1, 4, 4) * 2 - 1,
        torch.rand(2, 2),
        1.5,
    )
    path = tmp_path / "counterfactuals" / "01.safetensors"
    found.save(path, {"name": "4px conv1 #0"})
    stored = load_file(path)
    assert torch.equal(stored["indices"], found.indices)
    assert torch.equal(stored["unchanged"], to_uint8(found.unchanged))
    assert torch.equal(stored["changed"], to_uint8(found.changed))
    assert torch.equal(stored["probabilities"], found.probabilities)


# Which images show an attribute. The grey is the sum of two styles; coordinate 0 is moved.

PICK, TARGET = Pick(0, 1), 1
GREY_EXTREMES = torch.tensor([[-1.0, 0.0], [0.2, 0.0]])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def greys(*values: float) -> Tensor:
    """Styles of images whose coordinate 0 has these values."""
    return torch.tensor([[value, 0.0] for value in values])


def shown(
    model: StylEx,
    styles: Tensor,
    *,
    most: int = 6,
    least_rise: float = 0.05,
    strength: float = 1.0,
    strengths: tuple[float, ...] = (),
    pick: Pick = PICK,
) -> Counterfactuals | None:
    return show(
        model,
        torch.arange(100, 100 + len(styles)),
        styles,
        pick,
        GREY_EXTREMES,
        strengths=strengths or (strength,),
        target=TARGET,
        most=most,
        least_rise=least_rise,
    )


def test_images_farthest_from_the_extreme_are_shown_first(grey_model: StylEx) -> None:
    # The extreme is 0.2; the last image lies beyond it, farther away than image 101.
    found = shown(grey_model, greys(-0.2, 0.1, -0.7, -0.4, 0.4), least_rise=-1.0)
    assert found is not None
    assert found.indices.tolist() == [102, 103, 100, 104, 101]


def test_the_direction_says_which_extreme(grey_model: StylEx) -> None:
    found = shown(grey_model, greys(-0.9, 0.1, -0.5), least_rise=-1.0, pick=Pick(0, 0))
    assert found is not None
    assert found.indices.tolist() == [101, 102, 100]
    assert found.changed.flatten().tolist() == [-1.0, -1.0, -1.0]


def test_pictures_are_made_at_the_strength_asked_for(grey_model: StylEx) -> None:
    found = shown(grey_model, greys(-0.2, -0.1, 0.0), strength=1.5)
    assert found is not None
    expected = [value + 1.5 * (0.2 - value) for value in (-0.2, -0.1, 0.0)]
    assert found.changed.flatten().tolist() == pytest.approx(expected)
    assert found.unchanged.flatten().tolist() == pytest.approx([-0.2, -0.1, 0.0])
    for row, value in enumerate((-0.2, -0.1, 0.0)):
        before, after = sigmoid(4 * value), sigmoid(4 * (value + 1.5 * (0.2 - value)))
        assert found.probabilities[row].tolist() == pytest.approx([before, after])


def test_only_images_whose_probability_rises_enough_are_shown(grey_model: StylEx) -> None:
    values = (0.15, -0.5, 0.1, -0.3, -0.1)
    rises = {100 + i: sigmoid(0.8) - sigmoid(4 * v) for i, v in enumerate(values)}
    found = shown(grey_model, greys(*values), least_rise=0.15)
    assert found is not None
    assert sorted(found.indices.tolist()) == [i for i, rise in rises.items() if rise >= 0.15]
    assert found.indices.tolist() == [101, 103, 104]


def test_fewer_than_three_images_are_not_shown(grey_model: StylEx) -> None:
    assert shown(grey_model, greys(-0.5, -0.4, 0.15, 0.16)) is None
    assert shown(grey_model, greys(-0.5, -0.4)) is None
    found = shown(grey_model, greys(-0.5, -0.4, -0.3, 0.16))
    assert found is not None
    assert len(found.indices) == 3


def test_no_more_images_are_shown_than_asked_for(grey_model: StylEx) -> None:
    found = shown(grey_model, greys(*(-0.5 + i / 100 for i in range(30))), most=4)
    assert found is not None
    assert found.indices.tolist() == [100, 101, 102, 103]


def test_ten_times_as_many_images_are_tried_and_no_more(grey_model: StylEx) -> None:
    # The farthest images lie beyond the extreme and fall; the ones that rise are nearer to it.
    falling = [0.9 - i / 1000 for i in range(27)]
    rising = [-0.1, -0.1, -0.1]
    found = shown(grey_model, greys(*falling, *rising), most=3)
    assert found is not None
    assert found.indices.tolist() == [127, 128, 129]
    one_more = [0.9 - i / 1000 for i in range(28)]
    assert shown(grey_model, greys(*one_more, *rising), most=3) is None


# At which strength an attribute is shown.


class Hill(nn.Module):
    """Class 1 is most probable at one grey: stronger edits overshoot."""

    def __init__(self, peak: float) -> None:
        super().__init__()
        self.peak = peak

    def forward(self, images: Tensor) -> Tensor:
        """The logits."""
        logit = -5 * (images.mean(dim=(1, 2, 3)) - self.peak).abs()
        return torch.stack((torch.zeros_like(logit), logit), dim=1)

    def probabilities(self, images: Tensor) -> Tensor:
        """Their softmax."""
        return self(images).softmax(dim=1)


@pytest.fixture
def overshooting(grey_model: StylEx) -> StylEx:
    """The extreme makes class 1 most probable; a strength of 2 goes as far beyond it."""
    grey_model.classifier = Hill(0.2)
    return grey_model


@pytest.fixture
def beyond(grey_model: StylEx) -> StylEx:
    """A grey beyond the extreme does, which near images reach at 2, far ones sooner."""
    grey_model.classifier = Hill(0.5)
    return grey_model


@pytest.mark.parametrize(
    ("greatest", "least", "expected"),
    [
        (2.0, 1.0, (2.0, 1.5, 1.0)),
        (1.2, 0.7, (1.2, 0.95, 0.7)),
        (1.0, 1.0, (1.0,)),
        (0.5, 1.0, (0.5,)),
    ],
)
def test_strengths_fall_from_that_of_the_pictures_to_that_of_the_search(
    greatest: float, least: float, expected: tuple[float, ...]
) -> None:
    assert strengths_tried(greatest, least) == pytest.approx(expected)


def test_an_attribute_that_overshoots_is_shown_at_a_lower_strength(overshooting: StylEx) -> None:
    styles = greys(-0.3, -0.2, -0.1)
    assert shown(overshooting, styles, strength=2.0) is None
    found = shown(overshooting, styles, strengths=(2.0, 1.5, 1.0))
    assert found is not None
    assert found.strength == 1.0
    assert found.changed.flatten().tolist() == pytest.approx([0.2] * 3)
    assert found.probabilities[:, 1].tolist() == pytest.approx([0.5] * 3)


def test_the_strength_of_the_greatest_mean_rise_is_taken(overshooting: StylEx) -> None:
    # At 1.25 all three images still show it, only less well than at 1.
    values = (-0.3, -0.2, -0.1)
    assert shown(overshooting, greys(*values), strength=1.25) is not None
    found = shown(overshooting, greys(*values), strengths=(1.25, 1.0, 0.75))
    assert found is not None
    assert found.strength == 1.0
    rises = [0.5 - sigmoid(-5 * (0.2 - value)) for value in values]
    assert found.rises.tolist() == pytest.approx(rises)
    assert found.mean_rise == pytest.approx(sum(rises) / 3)


def test_an_attribute_that_does_not_overshoot_is_shown_at_the_greatest(grey_model: StylEx) -> None:
    found = shown(grey_model, greys(-0.3, -0.2, -0.1), strengths=(2.0, 1.5, 1.0))
    assert found is not None
    assert found.strength == 2.0


def test_images_tried_but_not_kept_decide_on_the_strength(beyond: StylEx) -> None:
    # The three kept are the far ones, which 1 suits better; the others are more, and 2 suits them.
    styles = greys(-0.6, -0.6, -0.6, -0.1, -0.1, -0.1, -0.1)
    at_1, at_2, found = (
        shown(beyond, styles, strengths=strengths, most=3)
        for strengths in ((1.0,), (2.0,), (2.0, 1.0))
    )
    assert at_1 is not None
    assert at_2 is not None
    assert found is not None
    assert at_1.mean_rise > at_2.mean_rise
    assert found.strength == 2.0
    assert found.indices.tolist() == [100, 101, 102]


def test_a_strength_that_fewer_than_three_images_show_is_not_taken(beyond: StylEx) -> None:
    # At 2 the near two rise most, but the far one hardly does.
    styles = greys(-0.6, -0.1, -0.1)
    every = shown(beyond, styles, strengths=(2.0, 1.0), least_rise=0.0)
    found = shown(beyond, styles, strengths=(2.0, 1.0), least_rise=0.1)
    assert every is not None
    assert found is not None
    assert (every.strength, found.strength) == (2.0, 1.0)


def test_one_image_takes_the_strength_of_its_highest_probability(beyond: StylEx) -> None:
    for value, expected in ((-0.1, 2.0), (-0.4, 1.5), (-1.2, 1.0)):
        tried = [
            render(beyond, torch.tensor([0]), greys(value), [PICK], GREY_EXTREMES, strength, TARGET)
            for strength in (2.0, 1.5, 1.0)
        ]
        best = most_rising(tried)
        assert best is not None
        assert best.strength == expected
        assert best.probabilities[0, 1] == max(each.probabilities[0, 1] for each in tried)


def test_equally_good_strengths_give_the_first(grey_model: StylEx) -> None:
    # Both are clamped to white.
    styles = greys(-0.3, -0.2, -0.1)
    found = shown(grey_model, styles, strengths=(9.0, 8.0, 1.0))
    assert found is not None
    assert found.strength == 9.0

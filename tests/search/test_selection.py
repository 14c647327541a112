"""Selectors on hand-written tables, and against slow loops written from the method."""

import math
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from stylex.search import selection
from stylex.search.scores import Logit, LogProbability, Rise
from stylex.search.selection import Gain, Pick, independent, subset
from stylex.search.table import EffectTable

SMALLEST, LARGEST = 0, 1


def upwards(*columns: Sequence[float]) -> Tensor:
    """A table [n 2 s]: each column holds a coordinate's effects towards its largest value.

    Towards the smallest value every coordinate lowers the target by 1.
    """
    up = torch.tensor(columns, dtype=torch.float64).t()  # [n s]
    return torch.stack((torch.full_like(up, -1.0), up), dim=1)


def up(*coordinates: int) -> list[Pick]:
    return [Pick(c, LARGEST) for c in coordinates]


def random_table(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def table_of(effects: Tensor) -> EffectTable:
    """A table of effects [n 2 s] on the target alone, or [n 2 s k] on every class."""
    effects = effects if effects.ndim == 4 else effects[..., None]
    return EffectTable(effects, range(effects.shape[2]), range(effects.shape[3]))


def select_paper(
    effects: Tensor, num_attributes: int, threshold: float, drop_inconsistent: bool, **more: Any
) -> list[Pick]:
    """The selection from a table [n 2 s] of effects on the target's logit."""
    gain = Gain(Logit(0), torch.zeros(len(effects), 1))
    return selection.select_paper(
        table_of(effects), gain, num_attributes, threshold, drop_inconsistent, **more
    )


def select_notebook(
    effects: Tensor, num_attributes: int, max_image_effect: float, **more: Any
) -> list[Pick]:
    """The selection from a table [n 2 s] of effects on the target's logit."""
    gain = Gain(Rise(0), torch.zeros(len(effects), 1))
    return selection.select_notebook(
        table_of(effects), gain, num_attributes, max_image_effect, **more
    )


def merge_directions(effects: Tensor, *rest: Any) -> list[Pick]:
    """The merge by a table [n 2 s k]."""
    return selection.merge_directions(lambda pick: effects[:, pick[1], pick[0]], *rest)


def select_joint(
    effects: Tensor, base: Tensor, target: int, num_attributes: int, **more: Any
) -> list[Pick]:
    """The selection from a table [n 2 s k], of all its edits."""
    free = torch.ones(2, effects.shape[2], dtype=torch.bool)
    return selection.select_joint(table_of(effects), base, target, num_attributes, free, **more)


# The paper's selector


def test_paper_explained_images_leave_the_mean() -> None:
    # By the mean over all images the order would be 0, 1, 2.
    table = upwards([3, 3, 0, 0], [2.5, 2.5, 0.2, 0.2], [0, 0, 2, 2])
    assert select_paper(table, 2, threshold=1.0, drop_inconsistent=True) == up(0, 2)


def test_paper_stops_when_all_images_are_explained() -> None:
    table = upwards([3, 3, 0, 0], [2.5, 2.5, 0.2, 0.2], [0, 0, 2, 2])
    assert select_paper(table, 3, threshold=1.0, drop_inconsistent=True) == up(0, 2)


def test_paper_without_explained_images_sorts_by_the_mean() -> None:
    table = upwards([1, 1], [3, 3], [-1, -1], [2, 2])
    assert select_paper(table, 10, threshold=math.inf, drop_inconsistent=True) == up(1, 3, 0)


def test_paper_returns_no_more_than_asked_for() -> None:
    table = upwards([1, 1], [3, 3], [2, 2])
    assert select_paper(table, 2, threshold=math.inf, drop_inconsistent=True) == up(1, 2)


@pytest.mark.parametrize(("threshold", "expected"), [(2.0, up(0, 1)), (1.999, up(0))])
def test_paper_an_effect_at_the_threshold_does_not_explain(
    threshold: float, expected: list[Pick]
) -> None:
    table = upwards([2, 2], [1, 1])
    assert select_paper(table, 2, threshold, drop_inconsistent=True) == expected


def test_paper_only_the_picked_direction_explains() -> None:
    # Coordinate 0's other direction exceeds the threshold on image 1, but is not what was picked.
    table = upwards([4, 0], [0, 1])
    table[1, SMALLEST, 0] = 3.0
    assert select_paper(table, 2, threshold=2.0, drop_inconsistent=False) == up(0, 1)


def test_paper_stops_when_no_coordinate_raises_the_mean() -> None:
    assert select_paper(upwards([1, -1], [-2, 1]), 2, 1.0, drop_inconsistent=True) == []


def test_paper_drops_a_coordinate_whose_directions_both_raise_the_target() -> None:
    table = upwards([3, 3], [1, 1])
    table[:, SMALLEST, 0] = 0.5
    assert select_paper(table, 2, threshold=math.inf, drop_inconsistent=True) == up(1)
    assert select_paper(table, 2, threshold=math.inf, drop_inconsistent=False) == up(0, 1)


def test_paper_judges_consistency_on_the_images_still_unexplained() -> None:
    # Image 1 makes coordinate 1 inconsistent, until coordinate 0 explains it.
    table = upwards([0, 5], [1, 1])
    table[:, SMALLEST, 1] = torch.tensor([-1.0, 3.0], dtype=torch.float64)
    assert select_paper(table, 2, threshold=2.0, drop_inconsistent=True) == up(0, 1)


def test_paper_picks_no_second_direction_of_a_coordinate() -> None:
    table = upwards([3, 3], [1, 1])
    table[:, SMALLEST, 0] = 2.0
    found = select_paper(table, 10, threshold=math.inf, drop_inconsistent=False)
    assert found == up(0, 1)


def test_paper_finds_the_smallest_direction_too() -> None:
    table = upwards([1, 1], [-1, -1])
    table[:, SMALLEST, 1] = 2.0
    found = select_paper(table, 2, threshold=math.inf, drop_inconsistent=True)
    assert found == [Pick(1, SMALLEST), Pick(0, LARGEST)]


def test_paper_unstable_images_have_no_say() -> None:
    table = upwards([9, 0, 0], [0, 2, 2], [8, 1, 1])
    stable = torch.tensor([False, True, True])
    given = {"threshold": 1.5, "drop_inconsistent": True}
    assert select_paper(table, 3, **given) == up(2, 1)
    assert select_paper(table, 3, **given, stable=stable) == up(1)
    assert select_paper(table, 3, **given, stable=torch.zeros(3, dtype=torch.bool)) == []


def test_paper_judges_consistency_on_stable_images_alone() -> None:
    table = upwards([0, 3], [2, 1])
    table[:, SMALLEST, 0] = torch.tensor([9.0, -1.0], dtype=torch.float64)
    given = {"threshold": math.inf, "drop_inconsistent": True}
    assert select_paper(table, 2, **given) == up(1)
    assert select_paper(table, 2, **given, stable=torch.tensor([False, True])) == up(0, 1)


def test_paper_asks_the_filter_about_the_best_and_leaves_its_coordinate_out() -> None:
    asked: list[Pick] = []

    def passes(pick: Pick) -> bool:
        asked.append(pick)
        return pick.coordinate != 1

    table = upwards([1, 1], [3, 3], [2, 2])
    table[:, SMALLEST, 1] = 2.5
    found = select_paper(table, 2, math.inf, drop_inconsistent=False, passes=passes)
    assert found == up(2, 0)
    assert asked == up(1, 2, 0)


def test_paper_never_asks_the_filter_about_an_inconsistent_coordinate() -> None:
    table = upwards([3, 3], [1, 1])
    table[:, SMALLEST, 0] = 0.5
    asked: list[Pick] = []
    select_paper(table, 2, math.inf, drop_inconsistent=True, passes=lambda p: not asked.append(p))
    assert asked == up(1)


@pytest.mark.parametrize("shape", [(0, 2, 3), (4, 2, 0)])
def test_selectors_find_nothing_in_an_empty_table(shape: tuple[int, ...]) -> None:
    table = torch.zeros(shape)
    assert select_paper(table, 3, 1.0, drop_inconsistent=True) == []
    assert select_notebook(table, 3, 1.0) == []


def slow_paper(
    table: list[list[list[float]]], num_attributes: int, threshold: float, drop_inconsistent: bool
) -> list[Pick]:
    """The published algorithm, one number at a time."""
    left = list(range(len(table)))
    picks: list[Pick] = []
    while left and len(picks) < num_attributes:
        best, best_mean = None, 0.0
        for s in range(len(table[0][0])):
            if any(pick.coordinate == s for pick in picks):
                continue
            means = [sum(table[x][d][s] for x in left) / len(left) for d in (0, 1)]
            if drop_inconsistent and means[0] > 0 and means[1] > 0:
                continue
            for d in (0, 1):
                if means[d] > best_mean:
                    best, best_mean = Pick(s, d), means[d]
        if best is None:
            break
        picks.append(best)
        left = [x for x in left if not table[x][best.direction][best.coordinate] > threshold]
    return picks


@pytest.mark.parametrize("drop_inconsistent", [True, False])
@pytest.mark.parametrize("threshold", [0.5, 1.5])
@pytest.mark.parametrize("seed", range(5))
def test_paper_equals_a_slow_loop(seed: int, threshold: float, drop_inconsistent: bool) -> None:
    table = random_table(seed, 12, 2, 15)
    expected = slow_paper(table.tolist(), 8, threshold, drop_inconsistent)
    assert len(expected) > 1
    assert select_paper(table, 8, threshold, drop_inconsistent) == expected


# The notebook's selector


def test_notebook_counts_negative_effects_as_nothing() -> None:
    # Their plain means are 0 and 1.
    table = upwards([5, -5], [1, 1])
    assert select_notebook(table, 2, max_image_effect=10.0) == up(0, 1)


def test_notebook_effects_add_up_to_an_images_limit() -> None:
    # Neither 0.6 nor 0.5 reaches the limit of 1 alone; together they end image 0's say.
    table = upwards([0.6, 0.6], [0.5, 0.0], [0.4, 0.0], [0.0, 0.1])
    assert select_notebook(table, 3, max_image_effect=1.0) == up(0, 1, 3)


def test_notebook_an_image_at_the_limit_has_no_more_say() -> None:
    table = upwards([1.0, 0.9], [0.8, 0.0], [0.0, 0.1])
    assert select_notebook(table, 2, max_image_effect=1.0) == up(0, 2)


def test_notebook_may_pick_both_directions_of_a_coordinate() -> None:
    table = upwards([3, 3], [1, 1])
    table[:, SMALLEST, 0] = 2.0
    found = select_notebook(table, 3, max_image_effect=100.0)
    assert found == [Pick(0, LARGEST), Pick(0, SMALLEST), Pick(1, LARGEST)]


def test_notebook_stops_when_every_image_has_reached_the_limit() -> None:
    # The official notebook goes on with means of nothing, whose arg-max is index 0.
    table = upwards([0, 0], [2, 2], [1, 1])
    assert select_notebook(table, 8, max_image_effect=1.0) == up(1)


def test_notebook_stops_when_no_effect_is_left() -> None:
    assert select_notebook(upwards([-1, -1], [2, 2]), 8, max_image_effect=100.0) == up(1)


def test_notebook_leaves_the_table_untouched() -> None:
    table = random_table(0, 6, 2, 5)
    before = table.clone()
    select_notebook(table, 4, 0.5)
    assert torch.equal(table, before)


def slow_notebook(
    table: list[list[list[float]]], num_attributes: int, max_image_effect: float
) -> list[Pick]:
    """The notebook's loop, one number at a time, with a stop when no image is left."""
    images = range(len(table))
    left = [[[max(e, 0.0) for e in row] for row in image] for image in table]
    accumulated = [0.0 for _ in images]
    picks: list[Pick] = []
    for _ in range(num_attributes):
        open_images = [x for x in images if accumulated[x] < max_image_effect]
        best, best_mean = None, 0.0
        for d in (0, 1):
            for s in range(len(table[0][0])):
                total = sum(left[x][d][s] for x in open_images)
                if open_images and total / len(open_images) > best_mean:
                    best, best_mean = Pick(s, d), total / len(open_images)
        if best is None:
            break
        picks.append(best)
        for x in images:
            accumulated[x] += left[x][best.direction][best.coordinate]
            left[x][best.direction][best.coordinate] = 0.0
    return picks


@pytest.mark.parametrize("max_image_effect", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("seed", range(5))
def test_notebook_equals_a_slow_loop(seed: int, max_image_effect: float) -> None:
    table = random_table(seed, 12, 2, 15)
    expected = slow_notebook(table.tolist(), 8, max_image_effect)
    assert len(expected) > 1
    assert select_notebook(table, 8, max_image_effect) == expected


def test_notebook_images_that_do_not_count_gain_nothing_but_stay_in_the_mean() -> None:
    # Without its say image 0 never reaches the limit, so the selection goes on with zeros.
    table = upwards([9, 0.3], [0, 0.4], [0, 0.2])
    counted = torch.tensor([False, True])
    assert select_notebook(table, 3, max_image_effect=0.5) == up(0, 1)
    assert select_notebook(table, 3, max_image_effect=0.5, counted=counted) == up(1, 0)
    zeroed = table * counted[:, None, None]
    assert select_notebook(zeroed, 3, max_image_effect=0.5) == up(1, 0)


def test_notebook_a_pick_that_does_not_pass_is_left_out_and_adds_nothing() -> None:
    table = upwards([2, 2], [1, 1], [0.5, 0.5])
    found = select_notebook(table, 3, max_image_effect=1.2, passes=lambda pick: pick != Pick(0, 1))
    assert found == up(1, 2)


def test_merge_turns_the_list_that_moves_back_round() -> None:
    effects = torch.zeros(2, 2, 3, 2)
    effects[:, SMALLEST, 1, 1] = 1.0
    merged = merge_directions(effects, 0, 1, [], [Pick(1, LARGEST)], 8)
    assert merged == [Pick(1, SMALLEST)]


def test_merge_keeps_the_first_lists_direction_even_where_the_other_scores_more() -> None:
    effects = torch.zeros(2, 2, 3, 2)
    effects[:, SMALLEST, 1, 1] = 5.0
    effects[:, LARGEST, 1, 1] = 1.0
    merged = merge_directions(effects, 0, 1, [Pick(1, LARGEST)], [Pick(1, LARGEST)], 8)
    assert merged == [Pick(1, LARGEST)]


def test_merge_sorts_by_effect_on_the_target_plus_opposite_effect_on_the_source() -> None:
    effects = torch.zeros(2, 2, 3, 3)
    effects[:, LARGEST, 0, 1] = 2.0  # score 2
    effects[:, LARGEST, 1, 1], effects[:, SMALLEST, 1, 0] = 1.0, 1.5  # score 2.5
    effects[:, LARGEST, 2, 1], effects[:, LARGEST, 2, 0] = 1.0, 9.0  # score 1
    merged = merge_directions(effects, 0, 1, up(0, 1, 2), [], 8)
    assert merged == up(1, 0, 2)
    assert merge_directions(effects, 0, 1, up(0, 1, 2), [], 2) == up(1, 0)


def slow_merge(
    effects: Tensor, source: int, target: int, towards: list[Pick], back: list[Pick], count: int
) -> list[Pick]:
    """The notebook's binary merge, one number at a time."""
    candidates = list(towards)
    for c, d in back:
        if all(pick.coordinate != c for pick in candidates):
            candidates.append(Pick(c, 1 - d))
    scored = []
    for c, d in candidates:
        total = 0.0
        for x in range(len(effects)):
            total += float(effects[x, d, c, target]) + float(effects[x, 1 - d, c, source])
        scored.append((total / len(effects), Pick(c, d)))
    scored.sort(key=lambda item: -item[0])
    return [pick for _, pick in scored][:count]


@pytest.mark.parametrize("seed", range(5))
def test_merge_equals_a_slow_loop(seed: int) -> None:
    effects = random_table(seed, 10, 2, 12, 3)
    towards = select_paper(effects[:5, ..., 2], 5, math.inf, drop_inconsistent=True)
    back = select_paper(effects[5:, ..., 0], 5, math.inf, drop_inconsistent=True)
    assert {p.coordinate for p in towards} & {p.coordinate for p in back}  # the rule is at work
    expected = slow_merge(effects, 0, 2, towards, back, 6)
    assert merge_directions(effects, 0, 2, towards, back, 6) == expected


# The joint selector


def log_probability(logits: Sequence[float], target: int) -> float:
    """Log softmax, from its definition."""
    return logits[target] - math.log(sum(math.exp(z) for z in logits))


def slow_joint(effects: Tensor, base: Tensor, target: int, num_attributes: int) -> list[Pick]:
    """Greedy by exhaustive trial: every free coordinate, both directions, every image."""
    num_images, _, num_coordinates, _ = effects.shape
    picks: list[Pick] = []

    def score(some: list[Pick]) -> float:
        total = 0.0
        for x in range(num_images):
            logits = base[x] + sum((effects[x, d, c] for c, d in some), start=torch.zeros(()))
            total += log_probability(logits.tolist(), target)
        return total / num_images

    while len(picks) < num_attributes:
        free = [c for c in range(num_coordinates) if all(p.coordinate != c for p in picks)]
        trials = [[*picks, Pick(c, d)] for c in free for d in (0, 1)]
        best = max(trials, key=score, default=picks)
        if not score(best) > score(picks):
            break
        picks = best
    return picks


@pytest.mark.parametrize("seed", range(3))
def test_joint_equals_greedy_search_by_exhaustive_trial(seed: int) -> None:
    effects, base = 0.5 * random_table(seed, 5, 2, 6, 3), 2 * random_table(seed + 100, 5, 3)
    expected = slow_joint(effects, base, 1, 5)
    assert len(expected) >= 2
    assert select_joint(effects, base, 1, 5) == expected


def test_joint_picks_what_complements_and_not_what_is_best_alone() -> None:
    # Target 1. Coordinates 0 and 1 both flip image 0; only 2 helps image 1.
    base = torch.tensor([[4.0, 0.0], [4.0, 0.0]], dtype=torch.float64)
    effects = torch.zeros(2, 2, 3, 2, dtype=torch.float64)
    effects[0, LARGEST, 0, 1], effects[0, LARGEST, 1, 1], effects[1, LARGEST, 2, 1] = 8.0, 7.0, 3.0
    gain = Gain(LogProbability(1), base)
    alone = selection.select_paper(table_of(effects), gain, 2, math.inf, drop_inconsistent=True)
    assert alone == up(0, 1)
    assert select_joint(effects, base, 1, 2) == up(0, 2)


def test_joint_sees_a_rival_class_fall() -> None:
    base = torch.tensor([[0.0, 0.0, 3.0]])
    effects = torch.zeros(1, 2, 2, 3)
    effects[0, LARGEST, 0, 1] = 1.0  # raises the target a little
    effects[0, SMALLEST, 1, 2] = -3.0  # takes the rival away
    assert select_joint(effects, base, 1, 1) == [Pick(1, SMALLEST)]


def test_joint_repeats_no_coordinate() -> None:
    base = torch.zeros(1, 2)
    effects = torch.zeros(1, 2, 3, 2)
    effects[0, :, :, 1] = torch.tensor([[5.0, 0.5, 0.1], [4.0, 0.4, 0.2]])
    assert select_joint(effects, base, 1, 10) == [
        Pick(0, SMALLEST),
        Pick(1, SMALLEST),
        Pick(2, LARGEST),
    ]


def test_joint_stops_when_nothing_raises_the_target() -> None:
    base = torch.zeros(2, 2)
    effects = torch.full((2, 2, 4, 2), 0.0)
    effects[..., 1] = -1.0
    assert select_joint(effects, base, 1, 5) == []
    effects[:, LARGEST, 3, 1] = 2.0
    assert select_joint(effects, base, 1, 5) == up(3)


def test_joint_takes_free_edits_alone() -> None:
    effects = torch.zeros(1, 2, 3, 2)
    effects[0, :, :, 1] = torch.tensor([[5.0, 3.0, 0.1], [4.0, 0.4, 0.2]])
    free = torch.tensor([[False, False, True], [True, False, True]])
    before = free.clone()
    found = selection.select_joint(table_of(effects), torch.zeros(1, 2), 1, 5, free)
    assert found == up(0, 2)
    assert torch.equal(free, before)


def test_joint_unstable_images_have_no_say() -> None:
    effects = torch.zeros(2, 2, 2, 2)
    effects[0, LARGEST, 0, 1], effects[1, LARGEST, 1, 1] = 9.0, 1.0
    assert select_joint(effects, torch.zeros(2, 2), 1, 5) == up(0, 1)
    stable = torch.tensor([False, True])
    assert select_joint(effects, torch.zeros(2, 2), 1, 5, stable=stable) == up(1)
    assert select_joint(effects, torch.zeros(2, 2), 1, 5, stable=~stable & stable) == []


def test_joint_what_does_not_pass_is_left_out_and_adds_nothing() -> None:
    # With coordinate 0 moved, coordinate 1 would be worth less than 2.
    base = torch.tensor([[6.0, 0.0], [6.0, 0.0]])
    effects = torch.zeros(2, 2, 3, 2)
    effects[0, LARGEST, 0, 1], effects[0, LARGEST, 1, 1], effects[1, LARGEST, 2, 1] = 9, 7, 5
    assert select_joint(effects, base, 1, 2) == up(0, 2)
    found = select_joint(effects, base, 1, 2, passes=lambda pick: pick.coordinate != 0)
    assert found == up(1, 2)


def test_joint_leaves_the_given_logits_untouched() -> None:
    base = random_table(1, 5, 3)
    before = base.clone()
    assert len(select_joint(random_table(0, 5, 2, 6, 3), base, 1, 5)) > 1
    assert torch.equal(base, before)


# One image


def test_independent_sorts_one_images_raising_coordinates_and_takes_each_once() -> None:
    table = torch.tensor([[0.5, 2.0, -1.0, 0.0], [3.0, 1.0, -2.0, 0.7]])
    everything = [Pick(0, LARGEST), Pick(1, SMALLEST), Pick(3, LARGEST)]
    assert independent(table, 10) == everything
    assert independent(table, 2) == everything[:2]
    assert independent(-table.abs(), 3) == []


def test_subset_adds_what_helps_most_with_those_chosen_until_the_decision_flips() -> None:
    """Alone 1 leads, but beside it 3 brings more than 2, which undoes it."""
    gains = {
        frozenset({1}): -1.0,
        frozenset({2}): -2.0,
        frozenset({3}): -3.0,
        frozenset({1, 2}): -1.5,
        frozenset({1, 3}): 0.5,
    }

    def lead(some: list[Pick]) -> float:
        return gains[frozenset(pick.coordinate for pick in some)]

    assert subset(up(2, 1, 3), lead) == (up(1, 3), True)


def test_subset_of_one_is_enough_if_it_flips() -> None:
    assert subset(up(1, 2), lambda some: float(some == up(2)) - 0.5) == (up(2), True)


def test_subset_without_a_flip_gives_the_best_round_and_says_so() -> None:
    leads = {1: -1.0, 2: -0.5, 3: -2.0}
    assert subset(up(1, 2, 3), lambda some: leads[len(some)]) == (up(1, 2), False)
    assert subset([], lambda _: 1.0) == ([], False)

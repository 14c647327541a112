"""Selection in rounds, against greedy search with one whole synthesis for every trial."""

import pytest
import torch
from torch import Tensor

from stylex.model import StylEx
from stylex.search import selection
from stylex.search.engine import Engine
from stylex.search.joint import select_in_rounds
from stylex.search.scores import LogProbability
from stylex.search.selection import Gain, Pick, leading_coordinates
from stylex.search.statistics import Statistics
from stylex.search.table import EffectTable

ROWS = [0, 3, 5]
TARGET = 2


def table_of(
    model: StylEx, found: Statistics, styles: Tensor, logits: Tensor, coordinates: list[int]
) -> EffectTable:
    """Of images as they are now."""
    engine = Engine(model, styles, logits, found.extremes, batch_size=256)
    return EffectTable.measured(engine.measure, torch.arange(len(styles)), coordinates, 1.0)


@pytest.fixture
def effects(tiny_model: StylEx, statistics: Statistics) -> Tensor:
    """Of the first twenty coordinates on three images."""
    styles, logits = statistics.styles[ROWS], statistics.base_logits[ROWS]
    return table_of(tiny_model, statistics, styles, logits, list(range(20))).effects


def kept(effects: Tensor) -> EffectTable:
    return EffectTable(effects, range(effects.shape[2]), range(3))


def select_joint(effects: Tensor, logits: Tensor, num_attributes: int) -> list[Pick]:
    """The selection from the table alone."""
    free = torch.ones(2, effects.shape[2], dtype=torch.bool)
    return selection.select_joint(kept(effects), logits, TARGET, num_attributes, free)


def in_rounds(
    model: StylEx,
    found: Statistics,
    effects: Tensor,
    num_attributes: int,
    picks_per_round: int,
    num_candidates: int,
    **more: object,
) -> list[Pick]:
    def open_table(styles: Tensor, logits: Tensor, free: Tensor) -> EffectTable:
        assert free.shape == (2, effects.shape[2])
        assert torch.equal(free[0], free[1])
        assert free[0].sum() <= num_candidates
        coordinates = free[0].nonzero()[:, 0].tolist()
        return table_of(model, found, styles, logits, coordinates)

    def judge(styles: Tensor) -> Tensor:
        return model.classifier(model.render(styles))

    return select_in_rounds(
        kept(effects),
        found.styles[ROWS],
        found.base_logits[ROWS],
        found.extremes,
        TARGET,
        open_table=open_table,
        judge=judge,
        num_attributes=num_attributes,
        picks_per_round=picks_per_round,
        num_candidates=num_candidates,
        strength=1.0,
        **more,
    )


def logits_of(model: StylEx, found: Statistics, picks: list[Pick], strength: float) -> Tensor:
    """Logits of the images under these picks, one image at a time."""
    rows = []
    for row in ROWS:
        styles = found.styles[row].clone()
        for c, d in picks:
            styles[c] += strength * (found.extremes[d, c] - found.styles[row, c])
        rows.append(model.classifier(model.render(styles[None]))[0])
    return torch.stack(rows)


def score(logits: Tensor) -> float:
    return float(logits.log_softmax(dim=1)[:, TARGET].mean())


def slow_rounds(
    model: StylEx,
    found: Statistics,
    effects: Tensor,
    num_attributes: int,
    picks_per_round: int,
    num_candidates: int,
) -> list[Pick]:
    """The selection as its docstring says it, every effect measured by itself."""
    picks: list[Pick] = []
    candidates = list(range(effects.shape[2]))
    while True:
        now = logits_of(model, found, picks, 1.0)
        table = {
            Pick(c, d): logits_of(model, found, [*picks, Pick(c, d)], 1.0) - now
            for c in candidates
            for d in (0, 1)
        }
        for _ in range(min(picks_per_round, num_attributes - len(picks))):
            free = [p for p in table if p.coordinate not in {q.coordinate for q in picks}]
            best = max(free, key=lambda p: score(now + table[p]), default=None)
            if best is None or not score(now + table[best]) > score(now):
                return picks
            now = now + table[best]
            picks.append(best)
        if len(picks) == num_attributes:
            return picks
        now = logits_of(model, found, picks, 1.0)
        promise = {
            c: max(score(now + effects[:, d, c]) for d in (0, 1))
            for c in range(effects.shape[2])
            if c not in {q.coordinate for q in picks}
        }
        candidates = sorted(promise, key=lambda c: -promise[c])[:num_candidates]


@pytest.mark.parametrize(
    ("picks_per_round", "num_candidates"),
    [(1, 20), (2, 6)],  # the first is greedy search on the model itself
)
def test_rounds_equal_a_selection_with_a_synthesis_for_every_trial(
    tiny_model: StylEx,
    statistics: Statistics,
    effects: Tensor,
    picks_per_round: int,
    num_candidates: int,
) -> None:
    given = (tiny_model, statistics, effects, 4, picks_per_round, num_candidates)
    expected = slow_rounds(*given)
    assert in_rounds(*given) == expected
    table_alone = select_joint(effects, statistics.base_logits[ROWS], 4)
    assert expected != table_alone  # measuring again makes a difference


def test_one_round_is_the_selection_from_the_table_alone(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor
) -> None:
    expected = select_joint(effects, statistics.base_logits[ROWS], 4)
    assert len(expected) == 4
    assert in_rounds(tiny_model, statistics, effects, 4, 4, 10) == expected
    assert in_rounds(tiny_model, statistics, effects, 4, 100, 10) == expected


def test_greedy_rounds_raise_the_target_with_every_pick(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor
) -> None:
    picks = in_rounds(tiny_model, statistics, effects, 6, 1, 20)
    scores = [
        score(logits_of(tiny_model, statistics, picks[:n], 1.0)) for n in range(len(picks) + 1)
    ]
    assert len(picks) > 2
    assert scores == sorted(scores)


@pytest.mark.parametrize("picks_per_round", [1, 2, 5])
def test_rounds_repeat_no_coordinate_and_return_no_more_than_asked_for(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor, picks_per_round: int
) -> None:
    picks = in_rounds(tiny_model, statistics, effects, 7, picks_per_round, 4)
    assert len(picks) <= 7
    assert len({pick.coordinate for pick in picks}) == len(picks)


def test_rounds_end_when_every_coordinate_is_taken(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor
) -> None:
    picks = in_rounds(tiny_model, statistics, effects[:, :, :3], 10, 1, 40)
    assert {pick.coordinate for pick in picks} <= {0, 1, 2}


def test_rounds_are_judged_on_stable_images_alone(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor
) -> None:
    stable = torch.tensor([True, False, True])
    given = (tiny_model, statistics, effects, 4, 1, 20)
    found = in_rounds(*given, stable=stable)
    assert found != in_rounds(*given)
    scores = []
    for count in range(len(found) + 1):
        logits = logits_of(tiny_model, statistics, found[:count], 1.0)[stable]
        scores.append(score(logits))
    assert len(found) == 4
    assert scores == sorted(scores)
    best = max(
        (Pick(c, d) for c in range(20) for d in (0, 1)),
        key=lambda p: score(logits_of(tiny_model, statistics, [p], 1.0)[stable]),
    )
    assert found[0] == best


def test_what_does_not_pass_is_in_no_round(
    tiny_model: StylEx, statistics: Statistics, effects: Tensor
) -> None:
    given = (tiny_model, statistics, effects, 4, 2, 20)
    barred = {pick.coordinate for pick in in_rounds(*given)[:2]}
    found = in_rounds(*given, passes=lambda pick: pick.coordinate not in barred)
    assert len(found) == 4
    assert not {pick.coordinate for pick in found} & barred


def test_leading_coordinates_are_those_with_the_best_promise_that_are_free() -> None:
    generator = torch.Generator().manual_seed(0)
    effects = torch.randn(4, 2, 9, 3, generator=generator, dtype=torch.float64)
    logits = torch.randn(4, 3, generator=generator, dtype=torch.float64)
    promise = {
        c: max(float((logits + effects[:, d, c]).log_softmax(dim=1)[:, 1].mean()) for d in (0, 1))
        for c in range(9)
    }
    order = sorted(promise, key=lambda c: -promise[c])
    taken = [order[0], order[3]]
    free = torch.ones(2, 9, dtype=torch.bool)
    free[:, taken] = False
    means = kept(effects).means(Gain(LogProbability(1), logits), torch.ones(4, dtype=torch.bool))
    expected = sorted(c for c in order[:6] if c not in taken)
    assert leading_coordinates(means, 4, free).tolist() == expected
    everything = sorted(set(range(9)) - set(taken))
    assert leading_coordinates(means, 100, free).tolist() == everything


def test_a_coordinate_leads_by_a_free_direction_alone() -> None:
    means = torch.tensor([[9.0, 1.0, 3.0], [0.0, 2.0, -1.0]])
    free = torch.tensor([[False, True, False], [True, True, True]])
    assert leading_coordinates(means, 1, free).tolist() == [1]
    assert leading_coordinates(means, 2, free).tolist() == [0, 1]

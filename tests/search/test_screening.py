"""Screened tables against tables whose every effect is known."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stylex.errors import InputError
from stylex.search.edits import Edits
from stylex.search.scores import Logit, Rise
from stylex.search.screening import (
    ScreenedTable,
    Screening,
    covariates,
    regression_means,
    stratified_order,
)
from stylex.search.selection import Gain, Pick, select_notebook, select_paper
from stylex.search.table import EffectTable

SURE = Screening(audit_images=4, confidence=0.9999, tolerance=0.0, seed=0)


class Lookup:
    """Answers from a table [n 2 m k] and keeps what it was asked."""

    def __init__(self, effects: Tensor) -> None:
        self.effects = effects
        self.entries: list[tuple[int, int, int]] = []

    def __call__(self, edits: Edits) -> Tensor:
        rows = zip(
            edits.images.tolist(),
            edits.directions.tolist(),
            edits.coordinates.tolist(),
            strict=True,
        )
        self.entries += rows
        return self.effects[edits.images, edits.directions, edits.coordinates]


def planted(seed: int, num_images: int = 200, num_coordinates: int = 60) -> tuple[Tensor, Tensor]:
    """Effects [n 2 m 1] and first-order predictions of odd, even and saturating responses.

    Coordinate 7 has the greatest mean by far, by an even response that no gradient sees.
    """
    random = torch.Generator().manual_seed(seed)
    step = torch.randn(num_images, 2, num_coordinates, generator=random)
    step = step * 0.3 + torch.tensor([-1.0, 1.0])[:, None]
    size = 0.3 * torch.rand(num_coordinates, generator=random)
    odd, even, saturating = step, step**2, torch.tanh(2 * step)
    kind = torch.arange(num_coordinates) % 3
    response = torch.where(kind == 0, odd, torch.where(kind == 1, even, saturating))
    slope = torch.where(kind == 0, 1.0, torch.where(kind == 1, 0.0, 2.0))
    size[7] = 0.6
    noise = 0.4 * torch.randn(num_images, 2, num_coordinates, generator=random)
    return (size * response + noise)[..., None], size * slope * step


def table_of(
    effects: Tensor, predicted: Tensor, screening: Screening = SURE
) -> tuple[ScreenedTable, Lookup]:
    lookup = Lookup(effects)
    facts = covariates(effects.mean(dim=(1, 2)))
    return ScreenedTable(lookup, predicted, facts, 1.0, screening), lookup


def whole(effects: Tensor) -> EffectTable:
    return EffectTable(effects, range(effects.shape[2]), range(effects.shape[3]))


def gain_of(effects: Tensor, score: Callable[[int], Logit] = Logit) -> Gain:
    return Gain(score(0), torch.zeros(len(effects), effects.shape[3]))


def everything(effects: Tensor) -> tuple[Tensor, Tensor]:
    among = torch.ones(len(effects), dtype=torch.bool)
    return among, torch.ones(2, effects.shape[2], dtype=torch.bool)


@pytest.mark.parametrize("confidence", [0.95, 0.99])
def test_a_planted_even_response_is_found_as_often_as_stated_for_a_fraction_of_the_passes(
    confidence: float,
) -> None:
    found, passes = 0, 0
    for seed in range(100):
        effects, predicted = planted(seed)
        screening = Screening(audit_images=4, confidence=confidence, tolerance=0.0, seed=seed)
        table, lookup = table_of(effects, predicted, screening)
        among, free = everything(effects)
        best = table.best(gain_of(effects), among, free)
        found += best is not None and best.coordinate == 7
        passes += len(lookup.entries)
    assert found >= 100 * confidence
    assert passes < 100 * effects[..., 0].numel() / 10


def test_no_mean_exceeds_a_picks_by_more_than_the_stated_bound() -> None:
    held = 0
    for seed in range(100):
        effects, predicted = planted(seed, num_images=60, num_coordinates=20)
        effects[:, :, 7] = effects[:, :, 8]  # nothing stands out
        screening = Screening(audit_images=4, confidence=0.8, tolerance=0.0, seed=seed)
        table, _ = table_of(effects, predicted, screening)
        among, free = everything(effects)
        table.best(gain_of(effects), among, free)
        (decision,) = table.decisions
        means = effects[..., 0].mean(dim=0)
        excess = means.max() - means[decision.pick.direction, decision.pick.coordinate]
        held += bool(excess <= max(decision.bound, 0.0) + 1e-6)
    assert held >= 95


@pytest.mark.parametrize("seed", range(5))
def test_a_sure_screening_selects_what_the_whole_table_does(seed: int) -> None:
    effects, predicted = planted(seed)
    table, lookup = table_of(effects, predicted)
    found = select_paper(table, gain_of(effects), 10, 0.8, True)
    assert found == select_paper(whole(effects), gain_of(effects), 10, 0.8, True)
    assert len(set(lookup.entries)) == len(lookup.entries)  # nothing is measured twice
    table, _ = table_of(effects, predicted.clamp(min=0))
    gain = gain_of(effects, Rise)
    assert select_notebook(table, gain, 10, 1.0) == select_notebook(whole(effects), gain, 10, 1.0)


def test_every_edit_is_audited_on_images_of_every_stratum() -> None:
    effects, predicted = planted(0, num_images=40)
    facts = torch.arange(40.0)[:, None]
    lookup = Lookup(effects)
    table = ScreenedTable(lookup, predicted, facts, 1.0, SURE)
    among, free = everything(effects)
    table.means(gain_of(effects), among)
    for direction in (0, 1):
        for coordinate in range(effects.shape[2]):
            images = [i for i, d, c in lookup.entries if (d, c) == (direction, coordinate)]
            assert sorted(i // 10 for i in images) == [0, 1, 2, 3]
    assert len({i for i, _, _ in lookup.entries}) == 40  # each edit has images of its own


def test_only_free_edits_are_measured_and_picked() -> None:
    effects, predicted = planted(1)
    table, lookup = table_of(effects, predicted)
    among, free = everything(effects)
    free[:, 7] = False
    best = table.best(gain_of(effects), among, free)
    means = effects[..., 0].mean(dim=0).masked_fill(~free, -math.inf)
    assert best == Pick(*reversed(divmod(int(means.argmax()), 60)))
    assert all(coordinate != 7 for _, _, coordinate in lookup.entries)


def test_a_mean_over_some_images_is_theirs_alone() -> None:
    effects, predicted = planted(2)
    effects[:100, 1, 3] += 3.0  # the best on the first half
    effects[100:, 1, 4] += 3.0  # the best on the second
    table, _ = table_of(effects, predicted)
    _, free = everything(effects)
    first = torch.arange(200) < 100
    gain = gain_of(effects)
    assert table.best(gain, first, free) == Pick(3, 1)
    assert table.best(gain, ~first, free) == Pick(4, 1)
    assert [decision.num_images for decision in table.decisions] == [100, 100]


def test_nothing_is_picked_where_no_edit_raises_the_mean() -> None:
    effects, predicted = planted(3)
    table, _ = table_of(-effects.abs(), predicted)
    among, free = everything(effects)
    assert table.best(gain_of(effects), among, free) is None
    assert table.best(gain_of(effects), among, torch.zeros_like(free)) is None


def test_the_sign_of_a_mean_is_that_of_the_whole_tables() -> None:
    effects, predicted = planted(4)
    table, lookup = table_of(effects, predicted)
    among, _ = everything(effects)
    gain = gain_of(effects)
    for coordinate in range(20):
        for direction in (0, 1):
            pick = Pick(coordinate, direction)
            assert table.raises(pick, gain, among) == whole(effects).raises(pick, gain, among)
    assert len(lookup.entries) < 40 * 200


def test_a_column_is_exact_and_in_the_images_order() -> None:
    effects, predicted = planted(5)
    table, _ = table_of(effects, predicted)
    among = torch.arange(200) % 3 == 1
    expected = effects[among][:, 1, 9]
    assert torch.equal(table.column(Pick(9, 1), among), expected)


def test_images_with_too_many_large_effects_are_found_by_the_audit() -> None:
    effects, predicted = planted(6, num_images=40)
    effects = effects.clamp(-1.5, 1.5)
    effects[[3, 17]] = 9.0
    table, _ = table_of(effects, predicted)
    assert (~table.stable(2.0, 0.03)).nonzero()[:, 0].tolist() == [3, 17]


def test_a_sample_of_all_images_gives_the_mean_itself() -> None:
    values, arms = torch.randn(12).double(), torch.arange(12) % 3
    offsets = torch.randn(12, 2).double()
    offsets -= torch.stack([offsets[arms == a].mean(dim=0) for a in range(3)])[arms]
    mean, _ = regression_means(values, arms, offsets, 3, torch.zeros(3).double())
    expected = torch.stack([values[arms == a].mean() for a in range(3)])
    torch.testing.assert_close(mean, expected)


def test_a_good_prediction_makes_a_mean_surer_and_does_not_bend_it() -> None:
    random = torch.Generator().manual_seed(0)
    population = torch.randn(5000, generator=random).double()
    truth = 0.7 * population + 0.1 * torch.randn(5000, generator=random).double() + 0.4
    errors, plain, stated = [], [], []
    for _ in range(200):
        rows = torch.randint(5000, (30,), generator=random)
        offsets = (population - population.mean())[rows, None]
        mean, variance = regression_means(
            truth[rows], torch.zeros(30, dtype=torch.int64), offsets, 1, population.mean()[None]
        )
        errors.append(float(mean) - float(truth.mean()))
        plain.append(float(truth[rows].mean() - truth.mean()))
        stated.append(float(variance))
    found = torch.tensor(errors)
    assert found.std() < 0.4 * torch.tensor(plain).std()
    assert abs(found.mean()) < 3 * found.std() / 200**0.5
    assert 0.5 < found.var() / torch.tensor(stated).mean() < 1.5


@pytest.mark.parametrize("count", [1, 3, 8, 41])
def test_an_order_of_drawing_holds_every_image_once(count: int) -> None:
    order = stratified_order(torch.randn(count, 1), 4, seed=1)
    assert sorted(order.tolist()) == list(range(count))


def test_covariates_are_standardised_and_fewer_than_an_eighth_of_the_images() -> None:
    facts = torch.randn(64, 30) * torch.arange(1, 31)
    found = covariates(facts)
    assert found.shape == (64, 8)
    torch.testing.assert_close(found.std(dim=0), torch.ones(8), atol=0.02, rtol=0)
    torch.testing.assert_close(found.t() @ found / 64, torch.eye(8), atol=1e-4, rtol=0)
    assert covariates(facts[:7]).shape == (7, 0)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"audit_images": 1}, "audit_images must be at least 2, got 1"),
        ({"confidence": 1.0}, "confidence must be between 0.5 and 1, got 1.0"),
        ({"confidence": 0.5}, "confidence must be between 0.5 and 1, got 0.5"),
        ({"tolerance": -0.1}, "tolerance must be at least 0, got -0.1"),
    ],
)
def test_settings_that_decide_nothing_are_refused(change: dict, sentence: str) -> None:
    given = {"audit_images": 4, "confidence": 0.99, "tolerance": 0.0, "seed": 0, **change}
    with pytest.raises(InputError, match=sentence):
        Screening(**given)

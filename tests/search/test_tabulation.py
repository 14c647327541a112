"""Tables opened for a study: screened ones against exhaustive ones, and what they cost."""

from pathlib import Path

import pytest
import torch

from stylex.model import StylEx
from stylex.search.crew import Crew, Member, Place
from stylex.search.edits import Edits
from stylex.search.scores import Logit, LogProbability, Rise, Score
from stylex.search.screening import ScreenedTable, Screening
from stylex.search.selection import Gain, Pick
from stylex.search.statistics import Statistics
from stylex.search.table import EffectTable
from stylex.search.tabulation import Tabulation

SCREENING = Screening(audit_images=4, confidence=0.9999, tolerance=0.0, seed=0)
ROWS = torch.tensor([7, 2, 9, 0, 5, 11])


def tables(
    model: StylEx, statistics: Statistics, folder: Path, screening: Screening | None
) -> Tabulation:
    crew = Crew(Place())
    crew.member = Member(model, torch.zeros(1, 1, 16, 16), {"batch_size": 16})
    coordinates = model.generator.layout.searched()
    return Tabulation(crew, statistics, coordinates, [2, 0], screening, 1.0, folder, {"model": "a"})


def test_both_kinds_give_the_same_best_edit_and_the_same_effects(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path
) -> None:
    base, among = statistics.base_logits[ROWS], torch.ones(6, dtype=torch.bool)
    found = []
    for name, screening in (("whole", None), ("screened", SCREENING)):
        opened = tables(tiny_model, statistics, tmp_path / name, screening)
        table = opened.table(ROWS, Logit(2), "effects.zarr")
        gain = opened.gain(Logit, 2, base)
        free = torch.ones(2, table.num_coordinates, dtype=torch.bool)
        pick = table.best(gain, among, free)
        assert pick is not None
        effects = table.column(pick, among)[:, opened.classes.index(2)]
        found.append((pick, effects))
    assert isinstance(table, ScreenedTable)
    assert found[0][0] == found[1][0]
    torch.testing.assert_close(found[0][1], found[1][1], atol=5e-3, rtol=1e-3)  # float16


def test_an_exhaustive_table_keeps_the_classes_asked_for_and_costs_every_edit(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path
) -> None:
    opened = tables(tiny_model, statistics, tmp_path, None)
    table = opened.table(ROWS, Logit(2), "effects.zarr")
    assert isinstance(table, EffectTable)
    assert table.classes == opened.classes == (2, 0)
    edits = 2 * len(opened.coordinates)
    assert opened.passes == len(ROWS) * (edits + 1)
    assert opened.exhaustive_passes == len(ROWS) * edits
    expected = opened.journal.measure(
        Edits(ROWS, torch.full((6,), 3), torch.ones(6, dtype=torch.int64), torch.ones(6))
    )
    got = table.column(Pick(3, 1), torch.ones(6, dtype=torch.bool))
    torch.testing.assert_close(got, expected[:, [2, 0]], atol=5e-3, rtol=1e-3)


@pytest.mark.parametrize("score", [Logit(1), LogProbability(1)])
def test_predictions_are_the_gains_of_small_steps_made_large(
    tiny_model: StylEx, statistics: Statistics, score: Score, tmp_path: Path
) -> None:
    opened = tables(tiny_model, statistics, tmp_path, SCREENING)
    predicted = opened.predicted(opened.journal, ROWS[:2], score)
    small = 5e-4
    edits = Edits.grid(ROWS[:2], torch.tensor(opened.coordinates), small)
    effects = opened.journal.measure(edits).reshape(2, 2, len(opened.coordinates), 3)
    base = statistics.base_logits[ROWS[:2]][:, None, None]
    change = score.possible(base, score.change(base, effects) / small)
    close = torch.isclose(predicted, change, atol=0.05, rtol=0.1)
    assert close.float().mean() > 0.97  # the others have a kink within the step


def test_a_rise_is_never_predicted_below_0(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path
) -> None:
    opened = tables(tiny_model, statistics, tmp_path, SCREENING)
    assert opened.predicted(opened.journal, ROWS, Rise(1)).min() == 0


def test_moved_images_have_tables_of_their_own(
    tiny_model: StylEx, statistics: Statistics, tmp_path: Path
) -> None:
    moved = statistics.styles[ROWS].clone()
    moved[:, 0] = statistics.extremes[1, 0]
    logits = tiny_model.classifier(tiny_model.render(moved))
    picks = []
    for name, screening in (("whole", None), ("screened", SCREENING)):
        opened = tables(tiny_model, statistics, tmp_path / name, screening)
        free = torch.zeros(2, len(opened.coordinates), dtype=torch.bool)
        free[:, 5:15] = True
        table = opened.moved_table(moved, logits, LogProbability(1), free)
        gain = Gain(LogProbability(1), logits)  # tables of moved images keep all classes
        among = torch.ones(6, dtype=torch.bool)
        whole = torch.zeros(2, table.num_coordinates, dtype=torch.bool)
        whole[:, 5:15] = True
        picks.append(table.best(gain, among, whole))
        assert opened.exhaustive_passes == 6 * 2 * 10
    assert picks[0] == picks[1]

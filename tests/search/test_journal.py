"""The journal against the engine that it asks, and against itself run again."""

from pathlib import Path

import pytest
import torch

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search.crew import Crew, Member, Place
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.journal import Baseline, Journal
from stylex.search.scores import Logit, LogProbability
from stylex.search.statistics import Statistics

MADE_BY = {"model": "a", "classifier": "b"}


@pytest.fixture
def crew(tiny_model: StylEx) -> Crew:
    alone = Crew(Place())
    alone.member = Member(tiny_model, torch.zeros(1, 1, 16, 16), {"batch_size": 8})
    return alone


@pytest.fixture
def baseline(statistics: Statistics) -> Baseline:
    return Baseline(statistics.styles, statistics.base_logits, statistics.extremes)


def some_edits() -> Edits:
    return Edits.grid(torch.tensor([4, 1]), torch.tensor([0, 20, 33]), 1.0)


def ask(journal: Journal) -> list[torch.Tensor]:
    rows = torch.tensor([2, 0])
    return [
        journal.measure(some_edits()),
        journal.slopes(rows, Logit(1)),
        journal.slopes(rows, LogProbability(1)),
        journal.logits(journal.baseline.styles[3:5] + 0.1),
    ]


def test_answers_are_the_engines(
    crew: Crew, baseline: Baseline, tiny_model: StylEx, tmp_path: Path
) -> None:
    engine = Engine(tiny_model, **vars(baseline), batch_size=8)
    found = ask(Journal(baseline, tmp_path, MADE_BY, crew))
    slopes = engine.slopes(torch.tensor([2, 0]), [Logit(1), LogProbability(1)])
    expected = [
        engine.measure(some_edits()),
        slopes[..., 0],
        slopes[..., 1],
        engine.logits(baseline.styles[3:5] + 0.1),
    ]
    for answer, right in zip(found, expected, strict=True):
        torch.testing.assert_close(answer, right, atol=1e-5, rtol=1e-5)


def test_what_was_asked_before_is_read_and_costs_the_same(
    crew: Crew, baseline: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Journal(baseline, tmp_path, MADE_BY, crew)
    expected = ask(first)
    monkeypatch.setattr(Crew, "call", None)  # nothing may be measured
    again = Journal(baseline, tmp_path, MADE_BY, crew)
    assert all(map(torch.equal, ask(again), expected))
    # 12 edits with the states of 2 images, 2 x 2 gradients at 3 passes each, 2 images
    assert first.passes == again.passes == 12 + 2 + 2 * 2 * 3 + 2


def test_a_broken_answer_is_measured_again(crew: Crew, baseline: Baseline, tmp_path: Path) -> None:
    expected = ask(Journal(baseline, tmp_path, MADE_BY, crew))
    for answer in tmp_path.glob("measure-*.safetensors"):
        answer.write_bytes(answer.read_bytes()[:50])
    assert all(map(torch.equal, ask(Journal(baseline, tmp_path, MADE_BY, crew)), expected))


def test_another_baseline_asks_other_questions(
    crew: Crew, baseline: Baseline, tmp_path: Path
) -> None:
    one = Journal(baseline, tmp_path, MADE_BY, crew).measure(some_edits())
    far = Baseline(baseline.styles, baseline.base_logits, 2 * baseline.extremes)
    other = Journal(far, tmp_path, MADE_BY, crew).measure(some_edits())
    assert not torch.equal(one, other)
    assert len(list(tmp_path.glob("measure-*"))) == 2


def test_two_journals_take_turns_at_the_engine(
    crew: Crew, baseline: Baseline, tmp_path: Path
) -> None:
    far = Baseline(baseline.styles + 0.5, baseline.base_logits, baseline.extremes)
    one = Journal(baseline, tmp_path / "a", MADE_BY, crew)
    other = Journal(far, tmp_path / "b", MADE_BY, crew)
    found = [one.measure(some_edits()), other.measure(some_edits()), ask(one)[0]]
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])


def test_a_folder_of_something_else_is_refused_by_name(
    crew: Crew, baseline: Baseline, tmp_path: Path
) -> None:
    ask(Journal(baseline, tmp_path, MADE_BY, crew))
    with pytest.raises(InputError, match="got another 'classifier' in"):
        Journal(baseline, tmp_path, {**MADE_BY, "classifier": "c"}, crew)


def test_a_journal_that_was_asked_nothing_leaves_nothing(
    crew: Crew, baseline: Baseline, tmp_path: Path
) -> None:
    Journal(baseline, tmp_path / "measured", MADE_BY, crew)
    assert not (tmp_path / "measured").exists()
    no_edits = Edits.grid(torch.tensor([], dtype=torch.int64), torch.tensor([0]), 1.0)
    assert Journal(baseline, tmp_path, MADE_BY, crew).measure(no_edits).shape == (0, 3)

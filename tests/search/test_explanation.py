"""The whole search on a tiny model: what is selected, measured and written, and from what."""

import json
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from torch import Tensor

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx, build_discriminator
from stylex.search import questions, selection, study
from stylex.search.counterfactuals import move
from stylex.search.crew import Crew, Member, Place
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.explanation import explain, explain_together
from stylex.search.joint import select_in_rounds
from stylex.search.results import Attribute, Explanation, Settings
from stylex.search.scores import Logit, Rise, Score
from stylex.search.selection import Gain, Pick
from stylex.search.statistics import Statistics
from stylex.search.study import class_index, most_confused_pair
from stylex.search.table import EffectTable
from stylex.types import Images

PAIR: dict[str, Any] = {
    "source": "circle",
    "target": "square",
    "num_images": 10,
    "k": 3,
    "num_random": 2,
    "unstable_share": 1.0,  # none is: every other image of this model would be
}
FEW = {"num_images": 8, "k": 1, "num_random": 0, "unstable_share": 1.0}
EXHAUSTIVE: dict[str, Any] = {**PAIR, "effects": "exhaustive"}
SURE = {"confidence": 1 - 1e-9, "tolerance": 0.0}  # leaves nothing open
BOTH = ["screened", "exhaustive"]
SELECTORS = ["joint", "paper", "notebook"]


# Settings and classes


@pytest.mark.parametrize(
    "name", ["num_attributes", "num_images", "picks_per_round", "num_candidates", "num_shown"]
)
def test_counts_below_1_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        Settings.of({name: 0})


def test_a_search_may_do_without_random_classifiers_but_not_with_fewer() -> None:
    Settings.of({"num_random": 0})
    with pytest.raises(InputError, match="num_random must be at least 0, got -1"):
        Settings.of({"num_random": -1})


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("selector", "joint, paper, notebook"),
        ("effects", "screened, exhaustive"),
        ("extremes", "min_max, quantile"),
    ],
)
def test_an_unknown_choice_is_refused(name: str, known: str) -> None:
    settings = Settings()
    object.__setattr__(settings, name, "best")  # past the tests' own check of types
    with pytest.raises(InputError, match=f"{name} must be one of {known}, got 'best'"):
        settings.__post_init__()


@pytest.mark.parametrize("effects", BOTH)
@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"audit_images": 1}, "audit_images must be at least 2, got 1"),
        ({"confidence": 0.5}, "confidence must be between 0.5 and 1, got 0.5"),
        ({"confidence": 1.0}, "confidence must be between 0.5 and 1, got 1.0"),
        ({"tolerance": -0.1}, "tolerance must be at least 0, got -0.1"),
        ({"rankers": ["best"]}, "rankers must be among .*attfind.*, got 'best'"),
    ],
)
def test_settings_that_no_search_can_have_are_refused(
    effects: str, setting: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Settings.of({"effects": effects, **setting})


def test_an_unknown_setting_is_named_with_the_known_ones(
    tiny_model: StylEx, study_images: Images
) -> None:
    with pytest.raises(InputError, match="must be one of selector, num_att.*, got 'num_imags'"):
        explain(tiny_model, study_images, num_imags=3)


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_pictures_may_be_up_to_twice_as_strong_as_the_search(strength: float) -> None:
    Settings.of({"strength": strength, "shown_strength": 2 * strength})
    for wrong in (0.0, -1.0, 2 * strength + 0.01):
        message = rf"at most twice the search's strength \({strength}\), got {wrong}"
        with pytest.raises(InputError, match=message):
            Settings.of({"strength": strength, "shown_strength": wrong})


def test_a_class_is_found_by_its_name_in_any_case() -> None:
    assert class_index(("Coat", "Ankle boot"), "ankle BOOT") == 1
    with pytest.raises(InputError, match="one of Coat, Ankle boot, got 'Boot'"):
        class_index(("Coat", "Ankle boot"), "Boot")


def with_logits(statistics: Statistics, logits: Tensor) -> Statistics:
    count = len(logits)
    return Statistics(
        torch.arange(count),
        statistics.latents[:1].repeat(count, 1),
        statistics.styles[:1].repeat(count, 1),
        logits,
        logits,
        statistics.extremes,
    )


def test_the_most_confused_pair_is_the_one_with_the_highest_mean_probability(
    statistics: Statistics,
) -> None:
    logits = torch.randn(120, 4, generator=torch.Generator().manual_seed(2))
    best, expected = 0.0, (0, 0)
    for a in range(4):
        rows = [row.softmax(dim=0) for row in logits if int(row.argmax()) == a]
        for b in range(4):
            probability = float(sum(row[b] for row in rows)) / len(rows)
            if a != b and probability > best:
                best, expected = probability, (a, b)
    assert most_confused_pair(with_logits(statistics, logits)) == expected


def test_a_class_of_fewer_than_eight_images_is_in_no_confused_pair_as_its_source(
    statistics: Statistics,
) -> None:
    confused = torch.tensor([[2.0, 1.9, 0.0]]).repeat(7, 1)
    sure = torch.tensor([[0.0, 0.5, 9.0]]).repeat(8, 1)
    found = with_logits(statistics, torch.cat((confused, sure)))
    assert most_confused_pair(found) == (2, 1)
    one_more = with_logits(statistics, torch.cat((confused[:1], confused, sure)))
    assert most_confused_pair(one_more) == (0, 1)


# The two halves


def halves(found: Explanation, seed: int = 0) -> tuple[list[int], list[int]]:
    """Rows selected on and held out, cut as `explain` says: by a permutation of the seed."""
    order = torch.randperm(len(found.rows), generator=torch.Generator().manual_seed(seed)).tolist()
    half = len(order) // 2
    return tuple([found.rows[i] for i in sorted(part)] for part in (order[:half], order[half:]))


class Spy:
    """What engines were asked, and whether the selection was at work."""

    def __init__(self) -> None:
        self.selecting = False
        self.seen: dict[bool, list[Tensor]] = {True: [], False: []}  # styles, by `selecting`
        self.passes = 0

    def note(self, styles: Tensor) -> None:
        self.seen[self.selecting].append(styles)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watches every engine."""
    spy = Spy()
    select, measure, slopes, logits = (
        study.Search.select,
        Engine.measure,
        Engine.slopes,
        Engine.logits,
    )

    def watched_select(*arguments: Any) -> Any:
        spy.selecting = True
        found = select(*arguments)
        spy.selecting = False
        return found

    def watched_measure(engine: Engine, edits: Edits, *rest: Any) -> Tensor:
        spy.note(engine.styles[edits.images])
        return measure(engine, edits, *rest)

    def watched_slopes(engine: Engine, images: Tensor, *rest: Any) -> Tensor:
        spy.note(engine.styles[images])
        return slopes(engine, images, *rest)

    def watched_logits(engine: Engine, styles: Tensor) -> Tensor:
        spy.note(styles)
        return logits(engine, styles)

    monkeypatch.setattr(study.Search, "select", watched_select)
    monkeypatch.setattr(Engine, "measure", watched_measure)
    monkeypatch.setattr(Engine, "slopes", watched_slopes)
    monkeypatch.setattr(Engine, "logits", watched_logits)
    return spy


def rows_near(values: list[Tensor], table: Tensor, most_moved: int) -> set[int]:
    """Rows of `table` that values are, but for at most so many coordinates."""
    distances = (torch.cat(values)[:, None] != table).sum(dim=2)
    assert distances.amin(dim=1).max() <= most_moved
    return set(distances.argmin(dim=1).tolist())


@pytest.mark.parametrize("effects", BOTH)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_selected_on_and_those_measured_on_are_two_halves(
    tiny_model: StylEx, study_images: Images, spy: Spy, effects: str, seed: int
) -> None:
    found = explain(tiny_model, study_images, **PAIR, seed=seed, effects=effects)
    selected_on, held = halves(found, seed)
    assert len(selected_on) == len(held) == 5
    assert list(found.held) == held
    styles = found.statistics.styles
    assert rows_near(spy.seen[True], styles, 3) == set(selected_on)
    assert rows_near(spy.seen[False], styles, 3) == set(held)


# What is found, by independent slow means


def slow_effects(
    model: StylEx, found: Explanation, row: int, pick: Pick, strength: float
) -> Tensor:
    """One whole synthesis."""
    moved = found.statistics.styles[row].clone()
    value = moved[pick.coordinate]
    extreme = found.statistics.extremes[pick.direction, pick.coordinate]
    moved[pick.coordinate] = value + strength * (extreme - value)
    logits = model.classifier(model.render(moved[None]))[0]
    return logits - found.statistics.base_logits[row]


def slow_sufficiency(model: StylEx, found: Explanation, rows: list[int], count: int) -> float:
    """Each image by itself, its first `count` attributes set to their extremes."""
    target = model.class_names.index(found.target)
    flipped = 0
    for row in rows:
        styles = found.statistics.styles[row].clone()
        for attribute in found.attributes[:count]:
            extreme = 1 if attribute.direction == "largest" else 0
            styles[attribute.coordinate] = found.statistics.extremes[extreme, attribute.coordinate]
        logits = model.classifier(model.render(styles[None]))
        flipped += int(logits.argmax()) == target
    return flipped / len(rows)


def check_figures(model: StylEx, found: Explanation) -> None:
    """All figures of an explanation by single syntheses."""
    target = model.class_names.index(found.target)
    _, held = halves(found)
    base = found.statistics.base_logits
    assert found.effects.shape == (len(held), len(found.attributes), len(model.class_names))
    for rank, attribute in enumerate(found.attributes, start=1):
        assert attribute.rank == rank
        direction = 1 if attribute.direction == "largest" else 0
        assert attribute.pick == Pick(attribute.coordinate, direction)
        changes = [slow_effects(model, found, row, attribute.pick, 1.0) for row in held]
        exact = torch.stack(changes)
        torch.testing.assert_close(found.effects[:, rank - 1], exact, atol=1e-4, rtol=1e-4)
        raised = sum(float(change[target]) for change in changes) / len(held)
        assert attribute.effect.value == pytest.approx(raised, abs=1e-4)
        flips = [int((base[i] + c).argmax()) == target for i, c in zip(held, changes, strict=True)]
        assert attribute.flips.value == pytest.approx(sum(flips) / len(held))
        assert attribute.effect.num_images == attribute.flips.num_images == len(held)
        layout = model.generator.layout
        assert attribute.coordinate == layout.index(attribute.layer, attribute.channel)
        assert attribute.name == layout.name(attribute.coordinate)
    assert list(found.sufficiency) == list(range(1, len(found.attributes) + 1))
    for count, estimate in found.sufficiency.items():
        assert estimate.value == pytest.approx(slow_sufficiency(model, found, held, count))
        assert estimate.num_images == len(held)


def engine_of(model: StylEx, found: Explanation) -> Engine:
    known = found.statistics
    return Engine(model, known.styles, known.base_logits, known.extremes, batch_size=50)


def table_of(
    model: StylEx, found: Explanation, rows: list[int], classes: list[int], strength: float = 1.0
) -> EffectTable:
    """What an exhaustive search keeps of some images, from an engine of its own."""
    edits = Edits.grid(torch.tensor(rows), torch.arange(36), strength)
    effects = engine_of(model, found).measure(edits).reshape(len(rows), 2, 36, 3)
    return EffectTable(effects[..., classes].half(), range(36), range(len(classes)))


def gain_of(found: Explanation, score: Score, rows: list[int], classes: list[int]) -> Gain:
    return Gain(score, found.statistics.base_logits[rows][:, classes])


def picks_of(found: Explanation) -> list[Pick]:
    return [attribute.pick for attribute in found.attributes]


def test_one_vs_one_selects_on_one_half_and_measures_on_the_other(
    tiny_model: StylEx, study_images: Images
) -> None:
    settings = {**EXHAUSTIVE, "unstable_change": 3.0, "unstable_share": 0.05}
    found = explain(tiny_model, study_images, **settings)
    assert (found.source, found.target) == ("circle", "square")
    said = found.statistics.base_logits.argmax(dim=1)
    assert list(found.rows) == (said == 0).nonzero()[:10, 0].tolist()
    rows, _ = halves(found)
    table = table_of(tiny_model, found, rows, [0, 1, 2])
    stable = table.stable(3.0, 0.05)
    assert 0 < stable.sum() < 5  # the rule is at work
    assert found.selection.num_unstable == int((~stable).sum())

    def opened(styles: Tensor, logits: Tensor, free: Tensor) -> EffectTable:
        engine = Engine(tiny_model, styles, logits, found.statistics.extremes, batch_size=50)
        coordinates = free.any(dim=0).nonzero()[:, 0].tolist()
        return EffectTable.measured(engine.measure, torch.arange(len(styles)), coordinates, 1.0)

    picks = select_in_rounds(
        table,
        found.statistics.styles[rows],
        found.statistics.base_logits[rows],
        found.statistics.extremes,
        1,
        open_table=opened,
        judge=lambda styles: tiny_model.classifier(tiny_model.render(styles)),
        num_attributes=3,
        picks_per_round=2,
        num_candidates=40,
        strength=1.0,
        stable=stable,
    )
    assert picks_of(found) == picks
    check_figures(tiny_model, found)


def test_the_paper_selector_sees_the_two_classes_on_one_half(
    tiny_model: StylEx, study_images: Images
) -> None:
    settings = {**EXHAUSTIVE, "unstable_change": 3.0, "unstable_share": 0.05}
    found = explain(tiny_model, study_images, **settings, selector="paper", threshold=0.4)
    rows, _ = halves(found)
    table = table_of(tiny_model, found, rows, [1, 0])
    stable = table.stable(3.0, 0.05)
    gain = gain_of(found, Logit(0), rows, [1, 0])
    picks = selection.select_paper(table, gain, 3, 0.4, drop_inconsistent=True, stable=stable)
    assert len(picks) > 1
    assert picks_of(found) == picks
    check_figures(tiny_model, found)


def test_the_notebook_selector_of_a_pair_merges_the_selections_of_both_classes(
    tiny_model: StylEx, study_images: Images
) -> None:
    settings = {**EXHAUSTIVE, "unstable_change": 2.5, "unstable_share": 0.05, "num_images": 24}
    given = {**settings, "selector": "notebook", "max_image_effect": 2.0}
    found = explain(tiny_model, study_images, **given)
    said = found.statistics.base_logits.argmax(dim=1)
    mine, _ = halves(found)
    theirs = (said == 1).nonzero()[:24, 0].tolist()
    theirs = theirs[: (len(theirs) + 1) // 2]
    assert set(mine) < set((said == 0).nonzero()[:24, 0].tolist())
    measured, zeroed = [], []
    for rows in (mine, theirs):
        effects = table_of(tiny_model, found, rows, [1, 0]).effects.float()
        large = (effects.abs() > 2.5).sum(dim=(1, 2, 3)) > int(0.05 * 2 * 36 * 2)
        measured.append(effects)
        zeroed.append(effects * ~large[:, None, None, None])
    unstable = sum(int((~effects.flatten(1).any(dim=1)).sum()) for effects in zeroed)
    assert 0 < unstable < len(mine) + len(theirs)
    assert found.selection.num_unstable == unstable

    def selected(position: int, rows: list[int], target: int) -> list[Pick]:
        table = EffectTable(zeroed[position], range(36), range(2))
        return selection.select_notebook(table, gain_of(found, Rise(target), rows, [1, 0]), 3, 2.0)

    def merged(parts: list[Tensor]) -> list[Pick]:
        both = torch.cat(parts)
        lists = selected(0, mine, 0), selected(1, theirs, 1)
        return selection.merge_directions(
            lambda pick: both[:, pick.direction, pick.coordinate], 1, 0, *lists, 3
        )

    assert picks_of(found) == merged(zeroed)
    assert merged(zeroed) != merged(measured)  # the rule is at work
    check_figures(tiny_model, found)


@pytest.mark.parametrize("effects", BOTH)
def test_one_vs_all_takes_all_images_that_are_not_called_the_target(
    tiny_model: StylEx, study_images: Images, effects: str
) -> None:
    given = {"num_images": 12, "k": 3, "num_random": 0, "unstable_share": 1.0}
    found = explain(tiny_model, study_images, target="STAR", effects=effects, **given)
    assert (found.source, found.target) == (None, "star")
    said = found.statistics.base_logits.argmax(dim=1)
    assert list(found.rows) == (said != 2).nonzero()[:12, 0].tolist()
    assert len(said[list(found.rows)].unique()) == 2
    check_figures(tiny_model, found)


@pytest.mark.parametrize(
    ("selector", "source"),
    [
        ("joint", "circle"),
        ("joint", None),
        ("paper", "circle"),
        ("paper", None),
        ("notebook", None),
        ("notebook", "circle"),
    ],
)
def test_a_screening_that_is_sure_finds_what_measuring_everything_finds(
    tiny_model: StylEx, study_images: Images, selector: str, source: str | None
) -> None:
    given = {**PAIR, "selector": selector, "source": source, "k": 5, "num_random": 0}
    given |= {"num_images": 40, "threshold": 0.5}
    everything = explain(tiny_model, study_images, **given, effects="exhaustive")
    found = explain(tiny_model, study_images, **given, **SURE)
    assert len(everything.attributes) >= 3
    assert picks_of(found) == picks_of(everything)
    assert found.selection.passes < everything.selection.passes
    torch.testing.assert_close(found.effects, everything.effects)


def test_a_screened_image_is_explained_as_by_measuring_everything(
    tiny_model: StylEx, study_images: Images
) -> None:
    for image in range(4):
        given = {"image": image, "k": 3}
        everything = explain(tiny_model, study_images[:12], **given, effects="exhaustive")
        found = explain(tiny_model, study_images[:12], **given, **SURE)
        assert picks_of(found) == picks_of(everything)
        assert found.subset == everything.subset


def test_pictures_are_images_of_the_study_at_the_strengths_of_the_settings(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR, num_shown=4, shown_strength=1.5, seed=5)
    shown = [a for a in found.attributes if a.shown is not None]
    assert shown
    for attribute in shown:
        check_pictures(tiny_model, found, [attribute], 1.5, attribute)
    assert found.together is not None
    _, held = halves(found, 5)
    assert found.together.indices.tolist() == held[:4]
    check_pictures(tiny_model, found, list(found.attributes), 1.0, None)


def check_pictures(
    model: StylEx,
    found: Explanation,
    moved: list[Attribute],
    strength: float,
    attribute: Attribute | None,
) -> None:
    pictures = found.together if attribute is None else attribute.shown
    assert pictures is not None
    assert 3 <= len(pictures.indices) <= 4
    for i, index in enumerate(pictures.indices.tolist()):
        assert index in found.rows
        styles = found.statistics.styles[index].clone()
        for pick in (a.pick for a in moved):
            extreme = found.statistics.extremes[pick.direction, pick.coordinate]
            styles[pick.coordinate] += strength * (extreme - styles[pick.coordinate])
        expected = model.generator.synthesis(styles[None]).clamp(-1, 1)[0]
        torch.testing.assert_close(pictures.changed[i], expected, atol=1e-4, rtol=1e-4)


def test_extremes_are_the_smallest_and_largest_values_whatever_the_quantile(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR, quantile=0.2)
    assert torch.equal(found.statistics.extremes[0], found.statistics.styles.amin(dim=0))
    assert torch.equal(found.statistics.extremes[1], found.statistics.styles.amax(dim=0))


def test_extremes_follow_the_quantile_when_asked_to(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR, extremes="quantile", quantile=0.2)
    for row, quantile in enumerate((0.2, 0.8)):
        expected = torch.quantile(found.statistics.styles, quantile, dim=0)
        torch.testing.assert_close(found.statistics.extremes[row], expected)


@pytest.mark.parametrize("effects", BOTH)
def test_edits_are_as_strong_as_the_setting_says(
    tiny_model: StylEx, study_images: Images, effects: str
) -> None:
    found = explain(tiny_model, study_images, **PAIR, strength=1.5, effects=effects)
    for i, row in enumerate(found.held):
        for a, attribute in enumerate(found.attributes):
            expected = slow_effects(tiny_model, found, row, attribute.pick, 1.5)
            torch.testing.assert_close(found.effects[i, a], expected, atol=1e-4, rtol=1e-4)


# What a selection says of itself


@pytest.mark.parametrize("effects", BOTH)
@pytest.mark.parametrize("selector", SELECTORS)
def test_passes_are_those_that_the_engines_made(
    tiny_model: StylEx,
    study_images: Images,
    monkeypatch: pytest.MonkeyPatch,
    selector: str,
    effects: str,
) -> None:
    engines: list[Engine] = []
    made: list[int] = []
    select, init = study.Search.select, Engine.__init__

    def kept(engine: Engine, *arguments: Any, **named: Any) -> None:
        init(engine, *arguments, **named)
        engines.append(engine)

    def counted(*arguments: Any) -> Any:
        found = select(*arguments)
        made.append(sum(engine.passes for engine in engines))
        return found

    monkeypatch.setattr(Engine, "__init__", kept)
    monkeypatch.setattr(study.Search, "select", counted)
    given = {**PAIR, "num_images": 40, "num_candidates": 12}
    found = explain(tiny_model, study_images, **given, selector=selector, effects=effects)
    report = found.selection
    # An image's states may not be needed, or be made again by another engine.
    assert report.passes == pytest.approx(made[0], rel=0.1)
    assert report.effects == effects
    assert report.saving == report.exhaustive_passes / report.passes


def test_a_screening_saves_passes_and_states_its_decisions(
    tiny_model: StylEx, study_images: Images
) -> None:
    given = {**PAIR, "num_images": 40, "selector": "paper", "threshold": 100.0}
    found = explain(tiny_model, study_images, **given)
    report, rows = found.selection, halves(found)[0]
    assert report.exhaustive_passes == len(rows) * 2 * 36
    assert report.passes < report.exhaustive_passes
    assert report.saving > 1.2
    assert report.confidence == 0.99
    assert (report.num_unstable, report.rejected) == (0, None)
    picked = [decision.pick for decision in report.decisions]
    assert [pick for pick in picked if pick in picks_of(found)] == picks_of(found)
    table = table_of(tiny_model, found, rows, [0, 1, 2])
    everything = torch.ones(len(rows), dtype=torch.bool)
    means = table.means(gain_of(found, Logit(1), rows, [0, 1, 2]), everything)
    free = torch.ones(2, 36, dtype=torch.bool)
    for decision in report.decisions:
        pick = decision.pick
        exact = float(means[pick.direction, pick.coordinate])
        assert decision.gain == pytest.approx(exact, abs=0.1)
        assert decision.num_images == len(rows)
        assert float(means[free].max()) - exact <= decision.bound + 1e-6
        free[:, pick.coordinate] = False


def test_an_exhaustive_selection_has_no_decision_and_saves_nothing(
    tiny_model: StylEx, study_images: Images
) -> None:
    report = explain(tiny_model, study_images, **EXHAUSTIVE, selector="paper").selection
    assert (report.effects, report.confidence, report.decisions) == ("exhaustive", None, ())
    assert report.exhaustive_passes == 5 * 2 * 36
    assert report.saving == pytest.approx(1, abs=0.03)  # but for the images' states


@pytest.mark.parametrize("effects", BOTH)
def test_what_the_discriminator_sees_is_no_attribute_and_is_reported(
    tiny_model: StylEx, study_images: Images, tiny_config: dict[str, Any], effects: str
) -> None:
    judge = build_discriminator(tiny_config["model"], 3).eval().requires_grad_(False)
    judge.minibatch_group = 1
    given = {**PAIR, "effects": effects, "selector": "paper"}
    free = explain(tiny_model, study_images, **given)
    assert free.selection.rejected is None
    lenient = explain(
        tiny_model, study_images, **given, discriminator=judge, discriminator_change=1e6
    )
    assert picks_of(lenient) == picks_of(free)
    assert lenient.selection.rejected == ()
    with pytest.raises(InputError, match="no coordinate moves the decision towards 'square'"):
        explain(tiny_model, study_images, **given, discriminator=judge, discriminator_change=1e-9)


@pytest.mark.parametrize("selector", SELECTORS)
def test_a_rejected_coordinate_is_reported_and_the_next_best_is_found(
    tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch, selector: str
) -> None:
    given = {**PAIR, "selector": selector}
    free = explain(tiny_model, study_images, **given)
    barred = free.attributes[0].coordinate

    class Barring(study.DiscriminatorFilter):
        """Rejects one coordinate."""

        def __init__(self, *_: Any, **__: Any) -> None:
            self.rejected: list[int] = []

        def __call__(self, pick: Pick) -> bool:
            if pick.coordinate == barred and barred not in self.rejected:
                self.rejected.append(barred)
            return pick.coordinate != barred

    class Nothing(Discriminator):
        def __init__(self) -> None:
            torch.nn.Module.__init__(self)

    monkeypatch.setattr(study, "DiscriminatorFilter", Barring)
    found = explain(tiny_model, study_images, **given, discriminator=Nothing())
    assert found.selection.rejected == (barred,)
    assert barred not in {pick.coordinate for pick in picks_of(found)}
    assert len(found.attributes) >= 2


def test_every_attribute_has_its_evidence(tiny_model: StylEx, study_images: Images) -> None:
    given = {**PAIR, "num_random": 3, "moved": 0.4}
    found = explain(tiny_model, study_images, **given)
    assert len(found.attributes) == 3
    for a, attribute in enumerate(found.attributes):
        evidence = attribute.evidence
        assert (attribute.effect, attribute.flips) == (evidence.effect, evidence.flips)
        moved = (found.effects[:, a, 1] > 0.4).sum()
        assert evidence.moved.value == int(moved) / 5
        assert [d.strength for d in evidence.dose_response.doses][3] == 1.0
        assert evidence.dose_response.doses[3].effect == evidence.effect
        assert evidence.rank is not None
        assert 1 / 10 <= evidence.p <= evidence.q <= 1  # three classifiers of three classes
        assert evidence.significant == (evidence.q <= 0.05)
        values = found.statistics.styles[:, attribute.coordinate].double()
        extreme = found.statistics.extremes[attribute.pick.direction, attribute.coordinate]
        z = (float(extreme) - float(values.mean())) / float(values.std(correction=0))
        assert evidence.extreme.z == pytest.approx(z, abs=1e-5)
    assert -1 <= found.rank_correlation <= 1
    assert [(pair.first, pair.second) for pair in found.interactions] == [(1, 2), (1, 3), (2, 3)]
    bare = explain(tiny_model, study_images, **{**given, "num_random": 0})
    assert {a.evidence.p for a in bare.attributes} == {None}


def test_rankers_are_compared_when_asked_for(tiny_model: StylEx, study_images: Images) -> None:
    assert explain(tiny_model, study_images, **PAIR).rankings == ()
    found = explain(tiny_model, study_images, **PAIR, rankers=["random", "attfind"])
    assert [ranking.name for ranking in found.rankings] == ["random", "attfind"]
    own = found.rankings[1]
    assert own.passes == found.selection.passes
    assert own.effect.value == pytest.approx(found.attributes[0].effect.value, abs=1e-5)
    assert {k: v.value for k, v in own.sufficiency.items()} == {
        k: v.value for k, v in found.sufficiency.items()
    }


# Defaults of the question


def test_without_a_question_the_most_confused_pair_is_explained(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **FEW)
    pair = most_confused_pair(found.statistics)
    names = tiny_model.class_names
    assert (found.source, found.target) == (names[pair[0]], names[pair[1]])


def test_without_a_target_the_sources_most_probable_other_class_is_taken(
    tiny_model: StylEx, study_images: Images
) -> None:
    images = torch.cat((study_images, study_images.flip(3)))  # enough of every class
    for source, name in enumerate(tiny_model.class_names):
        found = explain(tiny_model, images, source=name, **FEW)
        probabilities = found.statistics.base_logits.softmax(dim=1)
        own = probabilities[probabilities.argmax(dim=1) == source].mean(dim=0)
        others = {i: float(own[i]) for i in range(3) if i != source}
        assert found.target == tiny_model.class_names[max(others, key=lambda i: others[i])]


# One image


def test_one_image_is_explained_by_its_own_effects(
    tiny_model: StylEx, study_images: Images
) -> None:
    outcomes = set()
    for image in range(6):
        found = explain(tiny_model, study_images[12:24], image=image, k=4, effects="exhaustive")
        assert found.rows == found.held == (image,)
        base = found.statistics.base_logits[image]
        order = base.argsort(descending=True).tolist()
        names = tiny_model.class_names
        assert (found.source, found.target) == (names[order[0]], names[order[1]])
        grid = Edits.grid(torch.tensor([image]), torch.arange(36), 1.0)
        effects = engine_of(tiny_model, found).measure(grid)[:, order[1]].reshape(2, 36)
        picks = selection.independent(effects, 4)
        assert picks_of(found) == picks
        alone = [slow_sufficiency(tiny_model, found, [image], n) for n in range(1, len(picks) + 1)]
        assert [estimate.value for estimate in found.sufficiency.values()] == alone
        if found.subset is not None:
            assert found.together is not None
            some = [picks[rank - 1] for rank in found.subset]
            moved = move(found.statistics.styles[[image]], some, found.statistics.extremes, 1.0)
            logits = tiny_model.classifier(tiny_model.render(moved))
            assert int(logits.argmax()) == order[1]
        shortest = None if found.subset is None else len(found.subset)
        for a, attribute in enumerate(found.attributes):
            assert attribute.shown is not None
            assert attribute.shown.indices.tolist() == [image]
            assert attribute.effect.num_images == 1
            assert (attribute.evidence.rank, attribute.evidence.p) == (None, None)
            expected = slow_effects(tiny_model, found, image, attribute.pick, 1.0)
            torch.testing.assert_close(found.effects[0, a], expected, atol=1e-4, rtol=1e-4)
        outcomes.add(shortest)
    assert None in outcomes  # both cases were seen
    assert len(outcomes) > 2


def test_one_image_can_be_explained_towards_any_class(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images[:12], image=3, k=1)
    third = ({*tiny_model.class_names} - {str(found.source), found.target}).pop()
    assert explain(tiny_model, study_images[:12], third, image=3, k=1).target == third


# Mistakes


def test_mistakes_get_one_sentence_each(tiny_model: StylEx, study_images: Images) -> None:
    def refused(match: str, images: Images = study_images, **question: Any) -> None:
        with pytest.raises(InputError, match=match):
            explain(tiny_model, images, **question)

    refused("a class must be one of circle, square, star, got 'heart'", target="heart")
    refused("a class must be one of circle, square, star, got 'heart'", source="heart")
    refused("source and target must be two classes, got 'star' twice", source="star", target="Star")
    refused("an image has its own source, got 'star'; give image or", source="star", image=0)
    refused("image must be a position in the data from 0 to 89, got 90", image=90)
    refused("image must be a position in the data from 0 to 89, got -1", image=-1)
    refused("batch_size must be at least 1, got 0", image=0, batch_size=0)
    said = tiny_model.class_names[int(tiny_model(study_images[:1]).argmax())]
    refused(
        f"image 0 is already called '{said}'; give another target",
        study_images[:1],
        image=0,
        target=said,
    )


def test_too_few_images_of_a_class_are_refused_with_their_number(
    tiny_model: StylEx, study_images: Images
) -> None:
    few = study_images[tiny_model(study_images).argmax(dim=1) == 0][:7]
    message = "at least 8 images that the classifier calls 'circle', got 7; give more images"
    with pytest.raises(InputError, match=message):
        explain(tiny_model, few, source="circle", target="star")
    with pytest.raises(InputError, match="calls anything but 'star', got 7; give more images"):
        explain(tiny_model, few, target="star")


def test_too_few_images_for_any_question_are_refused_as_too_few(
    tiny_model: StylEx, study_images: Images
) -> None:
    few = study_images[tiny_model(study_images).argmax(dim=1) == 0][:7]
    with pytest.raises(InputError, match="at least 8 images"):
        explain(tiny_model, few)


def test_a_selection_of_nothing_is_refused(
    tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(questions, "select_in_rounds", lambda *_, **__: [])
    with pytest.raises(InputError, match="no coordinate moves the decision towards 'square' on"):
        explain(tiny_model, study_images, **PAIR)


def test_an_image_that_no_coordinate_moves_is_refused(
    tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "independent", lambda *_: [])
    with pytest.raises(InputError, match="no coordinate moves image 0 towards '.*'; give another"):
        explain(tiny_model, study_images, image=0)


@pytest.mark.parametrize("selector", SELECTORS)
def test_images_that_are_all_unstable_are_refused_as_such(
    tiny_model: StylEx, study_images: Images, selector: str
) -> None:
    given = {**EXHAUSTIVE, "unstable_change": 1e-9, "unstable_share": 0.0, "selector": selector}
    with pytest.raises(InputError, match="beyond 1e-09 logits, got none among"):
        explain(tiny_model, study_images, **given)


# Files


@pytest.mark.parametrize("effects", BOTH)
def test_all_files_are_written_and_say_what_was_found(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, effects: str
) -> None:
    folder = tmp_path / "new" / "folder"
    made_by = {"checkpoint": "c0ffee"}
    given = {**PAIR, "effects": effects, "rankers": ["random"]}
    found = explain(tiny_model, study_images, **given, output_dir=folder, made_by=made_by)
    classifier = tiny_model.classifier.fingerprint()

    written = json.loads((folder / "attributes.json").read_text())
    assert (written["checkpoint"], written["classifier"]) == ("c0ffee", classifier)
    assert (written["source"], written["target"]) == ("circle", "square")
    assert (written["selector"], written["strength"], written["shown_strength"]) == ("joint", 1, 2)
    assert (written["num_images"], written["subset"]) == (10, None)
    assert written["sufficiency"].keys() == {str(k) for k in found.sufficiency}
    for entry, attribute in zip(written["attributes"], found.attributes, strict=True):
        for name in ("rank", "coordinate", "name", "layer", "channel", "direction"):
            assert entry[name] == getattr(attribute, name)
        assert entry["effect"]["value"] == attribute.effect.value
        assert entry["flips"]["num_images"] == 5
        assert len(entry["effect"]["interval"]) == 2
        assert entry["evidence"]["moved"]["value"] == attribute.evidence.moved.value
        assert len(entry["evidence"]["dose_response"]["doses"]) == 7
        assert (entry["shown"] is None) == (attribute.shown is None)
        if attribute.shown is not None:
            pictures, metadata = read_tensors(folder / entry["shown"], "pictures")
            assert pictures["indices"].tolist() == attribute.shown.indices.tolist()
            assert pictures["changed"].dtype == torch.uint8
            assert (metadata["name"], metadata["target"]) == (attribute.name, "square")
    assert (folder / "counterfactuals" / "together.safetensors").is_file()
    report = written["selection"]
    assert (report["effects"], report["saving"]) == (effects, found.selection.saving)
    assert len(report["decisions"]) == len(found.selection.decisions)
    assert (len(report["decisions"]) > 0) == (effects == "screened")
    assert written["rank_correlation"] == found.rank_correlation
    assert len(written["interactions"]) == 3
    assert written["rankings"][0]["name"] == "random"

    statistics = Statistics.read(folder / "statistics.safetensors")
    assert torch.equal(statistics.extremes, found.statistics.extremes)
    answers = list((folder / "measured").iterdir())
    assert {path.suffix for path in answers} == {".json", ".safetensors"}
    facts = json.loads((folder / "measured" / "made_by.json").read_text())
    assert facts["checkpoint"] == "c0ffee"
    assert {name: written[name] for name in facts} == facts
    assert not (folder / "effects-back.zarr").exists()
    assert (folder / "effects.zarr").exists() == (effects == "exhaustive")


@pytest.mark.parametrize(
    ("selector", "source", "classes"),
    [
        ("joint", "circle", [0, 1, 2]),
        ("paper", "circle", [1, 0]),
        ("notebook", "circle", [1, 0]),
        ("paper", None, [1]),
        ("notebook", None, [1]),
    ],
)
def test_an_exhaustive_table_is_of_the_images_selected_on_and_the_classes_needed(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    selector: str,
    source: str | None,
    classes: list[int],
) -> None:
    given = {**EXHAUSTIVE, "source": source, "selector": selector}
    found = explain(tiny_model, study_images, **given, output_dir=tmp_path)
    stored = zarr.open_group(tmp_path / "effects.zarr", mode="r")
    rows, _ = halves(found)
    expected = table_of(tiny_model, found, rows, classes).effects
    assert stored["effects"].dtype == "float16"
    kept = torch.from_numpy(stored["effects"][:])
    torch.testing.assert_close(kept.float(), expected.float(), atol=1e-3, rtol=1e-3)
    assert stored["done"][:].all()
    two = selector == "notebook" and source is not None
    assert (tmp_path / "effects-back.zarr").exists() == two
    if two:
        other = zarr.open_group(tmp_path / "effects-back.zarr", mode="r")
        theirs = (found.statistics.base_logits.argmax(dim=1) == 1).nonzero()[:10, 0].tolist()
        theirs = theirs[: (len(theirs) + 1) // 2]
        expected = table_of(tiny_model, found, theirs, classes).effects
        kept = torch.from_numpy(other["effects"][:])
        torch.testing.assert_close(kept.float(), expected.float(), atol=1e-3, rtol=1e-3)


def test_torgb_coordinates_are_searched_when_asked_for(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    for torgb, count in ((False, 36), (True, 56)):
        folder = tmp_path / str(count)
        found = explain(tiny_model, study_images, **EXHAUSTIVE, torgb=torgb, output_dir=folder)
        stored = zarr.open_group(folder / "effects.zarr", mode="r")
        assert stored["effects"].shape == (5, 2, count, 3)
        report = explain(tiny_model, study_images, **PAIR, torgb=torgb, selector="paper").selection
        assert report.exhaustive_passes == 5 * 2 * count
        assert all(attribute.coordinate < count for attribute in found.attributes)


@pytest.mark.parametrize("effects", BOTH)
def test_without_a_folder_nothing_is_kept(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    effects: str,
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    explain(tiny_model, study_images, **PAIR, effects=effects)
    assert list(tmp_path.iterdir()) == []


# Stopped, and gone on with


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None], list[int]]]:
    """Called, it lets so many measurements pass, then each further one fails; none lets all."""
    left: list[int | None] = [None]
    asked: list[int] = []

    def guarded(compute: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def measure(*arguments: Any) -> Tensor:
            if left[0] is not None and len(asked) == left[0]:
                raise KeyboardInterrupt
            asked.append(1)
            return compute(*arguments)

        return measure

    for name in ("measure", "slopes", "logits"):
        monkeypatch.setattr(Engine, name, guarded(getattr(Engine, name)))

    def after(count: int | None) -> list[int]:
        left[0] = count
        asked.clear()
        return asked

    return after


@pytest.mark.parametrize("effects", BOTH)
@pytest.mark.parametrize(
    "question",
    [
        {**PAIR, "selector": "joint"},
        {**PAIR, "selector": "paper"},
        {**PAIR, "selector": "notebook"},
        {"image": 4, "k": 3},
    ],
    ids=[*SELECTORS, "image"],
)
def test_the_same_call_measures_nothing_again_and_writes_the_same(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    stop: Callable[[int | None], list[int]],
    question: dict[str, Any],
    effects: str,
) -> None:
    given = {**question, "effects": effects, "output_dir": tmp_path}
    first = explain(tiny_model, study_images, **given)
    written = (tmp_path / "attributes.json").read_bytes()
    asked = stop(0)
    again = explain(tiny_model, study_images, **given)
    assert asked == []
    assert torch.equal(again.effects, first.effects)
    assert (tmp_path / "attributes.json").read_bytes() == written


@pytest.mark.parametrize("effects", BOTH)
@pytest.mark.parametrize(("selector", "share"), [("joint", 0.8), ("paper", 0.3), ("notebook", 0.5)])
def test_a_stopped_search_goes_on_where_it_was_and_ends_the_same(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    stop: Callable[[int | None], list[int]],
    selector: str,
    effects: str,
    share: float,
) -> None:
    given = {**PAIR, "selector": selector, "effects": effects}
    asked = stop(None)
    explain(tiny_model, study_images, **given, output_dir=tmp_path / "whole")
    total = len(asked)
    cut = int(share * total)
    stop(cut)
    with pytest.raises(KeyboardInterrupt):
        explain(tiny_model, study_images, **given, output_dir=tmp_path / "stopped")
    assert not (tmp_path / "stopped" / "attributes.json").exists()
    asked = stop(None)
    explain(tiny_model, study_images, **given, output_dir=tmp_path / "stopped")
    assert len(asked) == total - cut
    one, other = (tmp_path / name / "attributes.json" for name in ("whole", "stopped"))
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("effects", BOTH)
def test_a_cut_off_answer_is_measured_again(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, effects: str
) -> None:
    given = {**PAIR, "effects": effects, "output_dir": tmp_path}
    explain(tiny_model, study_images, **given)
    written = (tmp_path / "attributes.json").read_bytes()
    answers = {p: p.read_bytes() for p in (tmp_path / "measured").glob("*.safetensors")}
    assert len(answers) > 3
    for path, content in list(answers.items())[::2]:
        path.write_bytes(content[: len(content) // 2])
    explain(tiny_model, study_images, **given)
    assert {path: path.read_bytes() for path in answers} == answers
    assert (tmp_path / "attributes.json").read_bytes() == written


def test_an_exhaustive_search_goes_on_with_another_batch_size(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    stop: Callable[[int | None], list[int]],
) -> None:
    stop(3)
    with pytest.raises(KeyboardInterrupt):
        explain(tiny_model, study_images, **EXHAUSTIVE, batch_size=7, output_dir=tmp_path)
    asked = stop(None)
    found = explain(tiny_model, study_images, **EXHAUSTIVE, batch_size=100, output_dir=tmp_path)
    resumed = len(asked)
    asked = stop(None)
    whole = explain(tiny_model, study_images, **EXHAUSTIVE)
    assert resumed == len(asked) - 3
    assert picks_of(found) == picks_of(whole)


def test_a_refused_question_leaves_no_folder(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    folder = tmp_path / "new"
    for question in ({"target": "heart"}, {"image": 90}, {"source": "star", "target": "star"}):
        with pytest.raises(InputError):
            explain(tiny_model, study_images, **question, output_dir=folder)
        assert not folder.exists()


@pytest.mark.parametrize(
    ("effects", "first", "second"),
    [
        ("screened", "joint", "paper"),
        ("screened", "paper", "notebook"),
        ("exhaustive", "paper", "notebook"),
        ("exhaustive", "notebook", "paper"),
    ],
)
def test_another_selection_takes_what_is_measured_and_replaces_the_pictures(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    stop: Callable[[int | None], list[int]],
    effects: str,
    first: str,
    second: str,
) -> None:
    given = {**PAIR, "effects": effects, "num_images": 20}
    other = {
        **given,
        "k": 1,
        "selector": second,
        "num_shown": 3,
        "shown_strength": 1.0,
        "least_rise": -1.0,
        "threshold": 2.0,
    }
    explain(tiny_model, study_images, **given, selector=first, output_dir=tmp_path / "a")
    assert len(list((tmp_path / "a" / "counterfactuals").glob("0?.safetensors"))) > 1
    asked = stop(None)
    alone = explain(tiny_model, study_images, **other, output_dir=tmp_path / "b")
    fresh = len(asked)
    asked = stop(None)
    found = explain(tiny_model, study_images, **other, output_dir=tmp_path / "a")
    assert len(asked) < fresh
    assert picks_of(found) == picks_of(alone)
    both = [(tmp_path / name / "attributes.json").read_bytes() for name in "ab"]
    assert both[0] == both[1]
    written = json.loads(both[0])
    assert (written["selector"], len(written["attributes"])) == (second, 1)
    names = sorted(file.name for file in (tmp_path / "a" / "counterfactuals").iterdir())
    others = ["gallery.safetensors", "reconstructions.safetensors", "together.safetensors"]
    assert names == ["01-sweep.safetensors", "01.safetensors", *others]


@pytest.mark.parametrize("effects", BOTH)
def test_more_attributes_take_what_is_measured(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    stop: Callable[[int | None], list[int]],
    effects: str,
) -> None:
    given = {**PAIR, "effects": effects, "output_dir": tmp_path}
    few = explain(tiny_model, study_images, **{**given, "k": 2})
    asked = stop(None)
    more = explain(tiny_model, study_images, **{**given, "k": 4})
    resumed = len(asked)
    asked = stop(None)
    explain(tiny_model, study_images, **{**given, "k": 4, "output_dir": tmp_path / "other"})
    assert resumed < len(asked)
    assert picks_of(more)[:2] == picks_of(few)


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("checkpoint", {"made_by": {"checkpoint": "b"}}),
        ("extremes", {"extremes": "quantile", "quantile": 0.1}),
        ("images", {"num_images": 8}),
        ("images", {"source": "square", "target": "circle"}),
        ("images", {"seed": 1}),
        ("strength", {"strength": 1.5}),
        ("coordinates", {"torgb": True}),
        ("classes", {"selector": "paper"}),
    ],
)
def test_another_exhaustive_search_in_the_same_folder_is_refused(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, fact: str, changes: dict[str, Any]
) -> None:
    first = {**EXHAUSTIVE, "made_by": {"checkpoint": "a"}, "output_dir": tmp_path}
    explain(tiny_model, study_images, **first)
    written = (tmp_path / "attributes.json").read_bytes()
    with pytest.raises(InputError, match=f"another '{fact}' in '{tmp_path}.*'; give another outp"):
        explain(tiny_model, study_images, **{**first, **changes})
    assert (tmp_path / "attributes.json").read_bytes() == written


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("checkpoint", {"made_by": {"checkpoint": "b"}}),
        ("extremes", {"extremes": "quantile", "quantile": 0.1}),
    ],
)
def test_a_screened_search_by_something_else_in_the_same_folder_is_refused(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, fact: str, changes: dict[str, Any]
) -> None:
    first = {**PAIR, "made_by": {"checkpoint": "a"}, "output_dir": tmp_path}
    explain(tiny_model, study_images, **first)
    with pytest.raises(InputError, match=f"another '{fact}' in '{tmp_path}.*'; give another outp"):
        explain(tiny_model, study_images, **{**first, **changes})


@pytest.mark.parametrize("changes", [{"num_images": 8}, {"strength": 1.5}, {"torgb": True}])
def test_another_screened_question_in_the_same_folder_finds_what_it_finds_alone(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, changes: dict[str, Any]
) -> None:
    explain(tiny_model, study_images, **PAIR, output_dir=tmp_path / "a")
    for name in "ab":
        explain(tiny_model, study_images, **{**PAIR, **changes}, output_dir=tmp_path / name)
    one, other = (tmp_path / name / "attributes.json" for name in "ab")
    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("effects", BOTH)
def test_measurements_by_another_model_or_of_other_images_are_refused(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, effects: str
) -> None:
    given = {**PAIR, "effects": effects, "output_dir": tmp_path}
    found = explain(tiny_model, study_images, **given)
    last = int(found.rows[-1])
    others = study_images.clone()
    others[last + 1 :] = others[last + 1 :].flip(0)  # none that is explained
    with pytest.raises(InputError, match=f"another 'reference' in '{tmp_path}.*'; give another"):
        explain(tiny_model, others, **given)
    # No style and no decision on the originals depends on it, but every picture does.
    bias = tiny_model.generator.convolutions[0].bias
    bias.add_(0.01)
    with pytest.raises(InputError, match=f"another 'model' in '{tmp_path}.*'; give another"):
        explain(tiny_model, study_images, **given)
    bias.sub_(0.01)
    tiny_model.classifier.network.head.bias.add_(0.01)
    with pytest.raises(InputError, match=f"another 'classifier' in '{tmp_path}.*'; give another"):
        explain(tiny_model, study_images, **given)


@pytest.mark.parametrize("effects", BOTH)
def test_the_model_is_left_as_it_was(
    tiny_model: StylEx, study_images: Images, effects: str
) -> None:
    weights = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    explain(tiny_model, study_images, **PAIR, effects=effects)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, weights[name]), name
    assert not any(parameter.requires_grad for parameter in tiny_model.parameters())


# Sanity checks


def test_another_classifier_may_say_which_images_are_the_source(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    crew = Crew(Place())
    crew.member = Member(tiny_model, study_images, {"batch_size": None})
    crew.member.called = torch.arange(len(study_images)) % 3
    settings = Settings.of({"num_attributes": 1, **{k: v for k, v in FEW.items() if k != "k"}})

    found, _ = explain_together(crew, "square", "circle", None, settings, tmp_path, {}, None)

    assert set(found.rows) <= set(range(0, len(study_images), 3))
    assert len(found.rows) == 8

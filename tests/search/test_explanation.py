"""The whole search on a tiny model: what is selected, measured and written, and from what."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import zarr
from torch import Tensor

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search import effects as effects_module
from stylex.search import selection, study
from stylex.search.counterfactuals import move
from stylex.search.effects import edit_effects
from stylex.search.explanation import explain
from stylex.search.joint import select_in_rounds
from stylex.search.results import Attribute, Explanation, Settings
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.search.study import class_index, most_confused_pair
from stylex.types import Images

SETTINGS: dict[str, Any] = {
    "selector": "joint",
    "num_attributes": 10,
    "num_images": 48,
    "picks_per_round": 2,
    "num_candidates": 40,
    "threshold": 1.0,
    "drop_inconsistent": True,
    "max_image_effect": 0.5,
    "unstable_change": 2.0,
    "unstable_share": 0.0326,
    "quantile": 0.0,
    "torgb": False,
    "strength": 1.0,
    "shown_strength": 2.0,
    "num_shown": 6,
    "least_rise": 0.05,
    "batch_size": 256,
    "seed": 0,
}
PAIR = {"source": "circle", "target": "square", "num_images": 10, "k": 3}


# Settings and classes


@pytest.mark.parametrize(
    "name",
    [
        "num_attributes",
        "num_images",
        "picks_per_round",
        "num_candidates",
        "num_shown",
        "batch_size",
    ],
)
def test_counts_below_1_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must be at least 1, got 0"):
        Settings(**{**SETTINGS, name: 0})


def test_an_unknown_selector_is_refused() -> None:
    settings = Settings(**SETTINGS)
    object.__setattr__(settings, "selector", "best")  # past the tests' own check of types
    with pytest.raises(InputError, match="one of joint, paper, notebook, got 'best'"):
        settings.__post_init__()


@pytest.mark.parametrize("strength", [1.0, 1.5])
def test_pictures_may_be_up_to_twice_as_strong_as_the_search(strength: float) -> None:
    Settings(**{**SETTINGS, "strength": strength, "shown_strength": 2 * strength})
    for wrong in (0.0, -1.0, 2 * strength + 0.01):
        message = rf"at most twice the search's strength \({strength}\), got {wrong}"
        with pytest.raises(InputError, match=message):
            Settings(**{**SETTINGS, "strength": strength, "shown_strength": wrong})


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


# One-vs-one, one-vs-all


@pytest.fixture
def spied(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Tensor]]:
    """The styles that the joint selector sees, and those that are edited to measure."""
    seen: dict[str, list[Tensor]] = {"selected_on": [], "measured_on": []}
    select, edit = study.select_in_rounds, study.edited_logits

    def select_in_rounds(model: StylEx, styles: Tensor, *rest: Any, **more: Any) -> list[Pick]:
        seen["selected_on"].append(styles)
        return select(model, styles, *rest, **more)

    def edited_logits(model: StylEx, styles: Tensor, *rest: Any) -> Tensor:
        seen["measured_on"].append(styles)
        return edit(model, styles, *rest)

    monkeypatch.setattr(study, "select_in_rounds", select_in_rounds)
    monkeypatch.setattr(study, "edited_logits", edited_logits)
    return seen


def rows_of(values: Tensor, table: Tensor) -> set[int]:
    """Rows of `table` that `values` are."""
    found = set()
    for value in values:
        (row,) = (table == value).all(dim=1).nonzero()[:, 0].tolist()
        found.add(row)
    return found


@pytest.mark.parametrize("seed", [0, 1])
def test_the_images_selected_on_and_those_measured_on_are_two_halves(
    tiny_model: StylEx, study_images: Images, spied: dict[str, list[Tensor]], seed: int
) -> None:
    found = explain(tiny_model, study_images, **PAIR, seed=seed)
    statistics = found.statistics
    (styles,) = spied["selected_on"]
    selected_on = rows_of(styles, statistics.styles)
    assert len(spied["measured_on"]) == len(found.attributes)
    for styles in spied["measured_on"]:
        measured_on = rows_of(styles, statistics.styles)
        assert len(selected_on) == len(measured_on) == 5
        assert selected_on | measured_on == set(found.rows)
        assert not selected_on & measured_on


def halves(found: Explanation, seed: int = 0) -> tuple[list[int], list[int]]:
    """Positions among the explained images, cut as `explain` says: by a permutation of the seed."""
    order = torch.randperm(len(found.rows), generator=torch.Generator().manual_seed(seed)).tolist()
    half = len(order) // 2
    return sorted(order[:half]), sorted(order[half:])


def slow_sufficiency(model: StylEx, found: Explanation, positions: list[int], count: int) -> float:
    """Each image by itself, its first `count` attributes set to their extremes."""
    target = model.class_names.index(found.target)
    flipped = 0
    for position in positions:
        styles = found.statistics.styles[found.rows[position]].clone()
        for attribute in found.attributes[:count]:
            extreme = 1 if attribute.direction == "largest" else 0
            styles[attribute.coordinate] = found.statistics.extremes[extreme, attribute.coordinate]
        logits = model.classifier(model.generator.synthesis(styles[None]))
        flipped += int(logits.argmax()) == target
    return flipped / len(positions)


def check_figures(model: StylEx, found: Explanation) -> None:
    """All figures of an explanation, from its effects and by single syntheses."""
    target = model.class_names.index(found.target)
    _, held = halves(found)
    base = found.statistics.base_logits[list(found.rows)]
    for rank, attribute in enumerate(found.attributes, start=1):
        assert attribute.rank == rank
        direction = 1 if attribute.direction == "largest" else 0
        assert attribute.pick == Pick(attribute.coordinate, direction)
        changes = [found.effects[i, direction, attribute.coordinate] for i in held]
        raised = sum(float(change[target]) for change in changes) / len(held)
        assert attribute.effect.value == pytest.approx(raised, abs=1e-5)
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


def test_one_vs_one_selects_on_one_half_and_measures_on_the_other(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR)
    assert (found.source, found.target) == ("circle", "square")
    said = found.statistics.base_logits.argmax(dim=1)
    assert list(found.rows) == (said == 0).nonzero()[:10, 0].tolist()
    assert found.effects.shape == (10, 2, 36, 3)
    selected_on, _ = halves(found)
    rows = [found.rows[position] for position in selected_on]
    picks = select_in_rounds(
        tiny_model,
        found.statistics.styles[rows],
        found.effects[selected_on],
        found.statistics.base_logits[rows],
        found.statistics.extremes,
        1,
        num_attributes=3,
        picks_per_round=2,
        num_candidates=40,
        strength=1.0,
        batch_size=256,
    )
    assert [attribute.pick for attribute in found.attributes] == picks
    check_figures(tiny_model, found)


def test_one_vs_all_takes_all_images_that_are_not_called_the_target(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, target="STAR", num_images=12, k=3)
    assert (found.source, found.target) == (None, "star")
    said = found.statistics.base_logits.argmax(dim=1)
    assert list(found.rows) == (said != 2).nonzero()[:12, 0].tolist()
    assert len(said[list(found.rows)].unique()) == 2
    check_figures(tiny_model, found)


def test_pictures_are_images_of_the_study_at_the_strengths_of_the_settings(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR, num_shown=4, shown_strength=1.5)
    shown = [a for a in found.attributes if a.shown is not None]
    assert shown
    for attribute in shown:
        check_pictures(tiny_model, found, [attribute], 1.5, attribute)
    assert found.together is not None
    _, held = halves(found)
    assert found.together.indices.tolist() == [found.rows[i] for i in held[:4]]
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


def test_torgb_coordinates_are_searched_when_asked_for(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, **PAIR, torgb=True)
    assert found.effects.shape == (10, 2, 56, 3)


def test_extremes_follow_the_quantile(tiny_model: StylEx, study_images: Images) -> None:
    found = explain(tiny_model, study_images, **PAIR, quantile=0.2)
    expected = torch.quantile(found.statistics.styles, 0.2, dim=0)
    torch.testing.assert_close(found.statistics.extremes[0], expected)


def test_the_notebook_selector_of_a_pair_merges_the_selections_of_both_classes(
    tiny_model: StylEx, study_images: Images
) -> None:
    settings = {"unstable_change": 3.0, "unstable_share": 0.05, "max_image_effect": 1.0}
    found = explain(tiny_model, study_images, **PAIR, selector="notebook", **settings)
    said = found.statistics.base_logits.argmax(dim=1)
    mine = (said == 0).nonzero()[:10, 0].tolist()
    theirs = (said == 1).nonzero()[:10, 0].tolist()
    assert list(found.rows) == mine + theirs
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))[:5].sort().values
    there = found.effects[order]
    back = found.effects[10:][: (len(theirs) + 1) // 2]
    both = torch.cat((there, back))
    large = (both.abs() > 3.0).sum(dim=(1, 2, 3))
    both[large > int(0.05 * 2 * 36 * 3)] = 0.0
    assert 0 < (large > int(0.05 * 2 * 36 * 3)).sum() < len(both)  # the rule is at work
    towards = selection.select_notebook(both[:5, ..., 1], 3, 1.0)
    away = selection.select_notebook(both[5:, ..., 0], 3, 1.0)
    expected = selection.merge_directions(both, 0, 1, towards, away, 3)
    assert [attribute.pick for attribute in found.attributes] == expected


# Defaults of the question


def test_without_a_question_the_most_confused_pair_is_explained(
    tiny_model: StylEx, study_images: Images
) -> None:
    found = explain(tiny_model, study_images, num_images=8, k=1)
    pair = most_confused_pair(found.statistics)
    names = tiny_model.class_names
    assert (found.source, found.target) == (names[pair[0]], names[pair[1]])


def test_without_a_target_the_sources_most_probable_other_class_is_taken(
    tiny_model: StylEx, study_images: Images
) -> None:
    for source, name in enumerate(tiny_model.class_names):
        found = explain(tiny_model, study_images, source=name, num_images=8, k=1)
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
        found = explain(tiny_model, study_images[:12], image=image, k=4)
        assert found.rows == (image,)
        base = found.statistics.base_logits[image]
        order = base.argsort(descending=True).tolist()
        names = tiny_model.class_names
        assert (found.source, found.target) == (names[order[0]], names[order[1]])
        picks = selection.independent(found.effects[0, :, :, order[1]], 4)
        assert [attribute.pick for attribute in found.attributes] == picks
        alone = [slow_sufficiency(tiny_model, found, [0], n) for n in range(1, len(picks) + 1)]
        assert [estimate.value for estimate in found.sufficiency.values()] == alone
        if found.subset is not None:
            assert found.together is not None
            some = [picks[rank - 1] for rank in found.subset]
            moved = move(found.statistics.styles[[image]], some, found.statistics.extremes, 1.0)
            logits = tiny_model.classifier(tiny_model.generator.synthesis(moved))
            assert int(logits.argmax()) == order[1]
        shortest = None if found.subset is None else len(found.subset)
        for attribute in found.attributes:
            assert attribute.shown is not None
            assert attribute.shown.indices.tolist() == [image]
            assert attribute.effect.num_images == 1
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
    def refused(match: str, images: Images = study_images, **question: Any) -> None:  # noqa: ANN401
        with pytest.raises(InputError, match=match):
            explain(tiny_model, images, **question)

    refused("a class must be one of circle, square, star, got 'heart'", target="heart")
    refused("a class must be one of circle, square, star, got 'heart'", source="heart")
    refused("source and target must be two classes, got 'star' twice", source="star", target="Star")
    refused("image must be a position in the data from 0 to 89, got 90", image=90)
    refused("image must be a position in the data from 0 to 89, got -1", image=-1)
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
    monkeypatch.setattr(study, "select_in_rounds", lambda *_, **__: [])
    with pytest.raises(InputError, match="no coordinate moves the decision towards 'square' on"):
        explain(tiny_model, study_images, **PAIR)


def test_an_image_that_no_coordinate_moves_is_refused(
    tiny_model: StylEx, study_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(selection, "independent", lambda *_: [])
    with pytest.raises(InputError, match="no coordinate moves image 0 towards '.*'; give another"):
        explain(tiny_model, study_images, image=0)


# Files


def test_all_files_are_written_and_say_what_was_found(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "folder"
    made_by = {"checkpoint": "c0ffee"}
    found = explain(tiny_model, study_images, **PAIR, output_dir=folder, made_by=made_by)
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
        assert (entry["shown"] is None) == (attribute.shown is None)
        if attribute.shown is not None:
            pictures, metadata = read_tensors(folder / entry["shown"], "pictures")
            assert pictures["indices"].tolist() == attribute.shown.indices.tolist()
            assert pictures["changed"].dtype == torch.uint8
            assert (metadata["name"], metadata["target"]) == (attribute.name, "square")
    assert (folder / "counterfactuals" / "together.safetensors").is_file()

    statistics = Statistics.read(folder / "statistics.safetensors")
    assert torch.equal(statistics.extremes, found.statistics.extremes)
    stored = zarr.open_group(folder / "effects.zarr", mode="r")
    assert torch.equal(torch.from_numpy(stored["effects"][:]), found.effects)
    assert stored["done"][:].all()


def test_without_a_folder_nothing_is_kept(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    explain(tiny_model, study_images, **PAIR)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def without_new_effects(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called, it makes any further computation of effects fail."""

    def forbidden(*_: Any) -> None:  # noqa: ANN401
        raise AssertionError("effects were computed again")

    return lambda: monkeypatch.setattr(effects_module, "edit_effects", forbidden)


def test_the_same_call_computes_no_effect_again_and_finds_the_same(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    without_new_effects: Callable[[], None],
) -> None:
    first = explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    written = (tmp_path / "attributes.json").read_bytes()
    without_new_effects()
    again = explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    assert torch.equal(again.effects, first.effects)
    assert (tmp_path / "attributes.json").read_bytes() == written


def test_a_stopped_search_goes_on_where_it_was(
    tiny_model: StylEx, study_images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = explain(tiny_model, study_images, **PAIR)
    count = 0

    def failing(*arguments: Any) -> Tensor:  # noqa: ANN401
        nonlocal count
        count += 1
        if count == 6:
            raise KeyboardInterrupt
        return edit_effects(*arguments)

    monkeypatch.setattr(effects_module, "edit_effects", failing)
    with pytest.raises(KeyboardInterrupt):
        explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    assert not (tmp_path / "attributes.json").exists()
    found = explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    assert count == 6 + (10 - 5)
    assert torch.equal(found.effects, whole.effects)
    assert [a.as_json() for a in found.attributes] == [a.as_json() for a in whole.attributes]


def test_another_selection_takes_the_effects_and_replaces_the_pictures(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    without_new_effects: Callable[[], None],
) -> None:
    first = explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    assert len(list((tmp_path / "counterfactuals").glob("0*.safetensors"))) > 1
    without_new_effects()
    second = explain(
        tiny_model,
        study_images,
        **{**PAIR, "k": 1},
        selector="paper",
        num_shown=3,
        shown_strength=1.0,
        least_rise=-1.0,
        threshold=2.0,
        output_dir=tmp_path,
    )
    assert torch.equal(second.effects, first.effects)
    written = json.loads((tmp_path / "attributes.json").read_text())
    assert (written["selector"], len(written["attributes"])) == ("paper", 1)
    names = sorted(file.name for file in (tmp_path / "counterfactuals").iterdir())
    assert names == ["01.safetensors", "together.safetensors"]


@pytest.mark.parametrize(
    ("fact", "changes"),
    [
        ("images", {"num_images": 8}),
        ("images", {"source": "square", "target": "circle"}),
        ("strength", {"strength": 1.5}),
        ("quantile", {"quantile": 0.1}),
        ("coordinates", {"torgb": True}),
        ("checkpoint", {"made_by": {"checkpoint": "b"}}),
    ],
)
def test_another_search_in_the_same_folder_is_refused(
    tiny_model: StylEx,
    study_images: Images,
    tmp_path: Path,
    fact: str,
    changes: dict[str, Any],
) -> None:
    first = {**PAIR, "made_by": {"checkpoint": "a"}, "output_dir": tmp_path}
    explain(tiny_model, study_images, **first)
    with pytest.raises(InputError, match=f"another '{fact}' in '{tmp_path}'; give another output_"):
        explain(tiny_model, study_images, **{**first, **changes})


def test_effects_of_another_model_or_of_other_images_are_refused(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    found = explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)
    last = int(found.rows[-1])
    others = study_images.clone()
    others[last + 1 :] = others[last + 1 :].flip(0)  # none that is explained
    with pytest.raises(InputError, match=f"another 'reference' in '{tmp_path}'"):
        explain(tiny_model, others, **PAIR, output_dir=tmp_path)
    # No style and no decision on the originals depends on it, but every picture does.
    tiny_model.generator.convolutions[0].bias.add_(0.01)
    with pytest.raises(InputError, match=f"another 'model' in '{tmp_path}'"):
        explain(tiny_model, study_images, **PAIR, output_dir=tmp_path)


def test_the_model_is_left_as_it_was(tiny_model: StylEx, study_images: Images) -> None:
    weights = {name: value.clone() for name, value in tiny_model.state_dict().items()}
    explain(tiny_model, study_images, **PAIR)
    for name, value in tiny_model.state_dict().items():
        assert torch.equal(value, weights[name]), name

"""Decisions are those on the image that people see, though the generator goes beyond [-1, 1]."""

import pytest
import torch
from torch import Tensor

from stylex.model import StylEx
from stylex.search.counterfactuals import edited_logits, move, render
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Logits, Styles

PICKS = [Pick(3, 1), Pick(20, 0)]


@pytest.fixture
def tiny_model(tiny_model: StylEx) -> StylEx:
    """With a generator that goes beyond [-1, 1] on every image."""
    for layer in tiny_model.generator.torgbs:
        layer.get_parameter("weight").mul_(2)
        layer.get_parameter("bias").mul_(2)
    return tiny_model


@pytest.fixture
def engine(tiny_model: StylEx, statistics: Statistics) -> Engine:
    study = (statistics.styles, statistics.base_logits, statistics.extremes)
    return Engine(tiny_model, *study, batch_size=8)


def seen(model: StylEx, styles: Styles) -> Logits:
    """Logits of the images cut off at -1 and 1; those of the whole images are others."""
    whole = model.generator.synthesis(styles)
    assert (whole.abs() > 1).flatten(1).any(dim=1).all()
    logits = model.classifier(whole.clamp(-1, 1))
    assert ((model.classifier(whole) - logits).abs().amax(dim=1) > 0.05).all()
    return logits


def assert_equal(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_the_reconstructions_logits_are_of_what_people_see(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    assert_equal(statistics.base_logits, seen(tiny_model, statistics.styles))


def test_an_engines_logits_are_of_what_people_see(
    tiny_model: StylEx, statistics: Statistics, engine: Engine
) -> None:
    assert_equal(engine.logits(statistics.styles), seen(tiny_model, statistics.styles))


def test_changes_of_edits_in_every_layer_are_of_what_people_see(
    tiny_model: StylEx, statistics: Statistics, engine: Engine
) -> None:
    layout, coordinates = tiny_model.generator.layout, [0, 8, 16, 24, 32, 36, 44, 52]
    assert {layout.locate(c).layer for c in coordinates} == set(range(8))

    found = engine.measure(Edits.grid(torch.tensor([7]), torch.tensor(coordinates), 1.0))

    styles, extremes = statistics.styles[[7]], statistics.extremes
    picks = [Pick(c, direction) for direction in (0, 1) for c in coordinates]
    moved = torch.cat([move(styles, [pick], extremes, 1.0) for pick in picks])
    assert_equal(found, seen(tiny_model, moved) - seen(tiny_model, styles))


def test_logits_of_attributes_moved_together_are_of_what_people_see(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    given = (statistics.styles, PICKS, statistics.extremes, 1.5)
    assert_equal(edited_logits(tiny_model, *given, batch_size=5), seen(tiny_model, move(*given)))


def test_probabilities_beside_pictures_are_of_what_people_see(
    tiny_model: StylEx, statistics: Statistics
) -> None:
    given = (statistics.styles, PICKS, statistics.extremes, 1.5)
    found = render(tiny_model, torch.arange(12), *given, target=1)
    for column, styles in enumerate((statistics.styles, move(*given))):
        expected = seen(tiny_model, styles).softmax(dim=1)[:, 1]
        assert_equal(found.probabilities[:, column], expected)


def test_where_every_pixel_is_white_nothing_has_a_slope_or_a_change(
    tiny_model: StylEx, statistics: Statistics, engine: Engine
) -> None:
    def slopes() -> Tensor:
        return engine.slopes(torch.arange(12), [lambda logits: logits[:, 0]])

    assert (slopes().abs().amax(dim=(1, 2)) > 0.01).all()
    tiny_model.generator.torgbs[-1].get_parameter("bias").add_(1000)
    assert (tiny_model.generator.synthesis(statistics.styles) > 1).all()
    assert not slopes().any()
    assert torch.equal(*engine.logits(statistics.styles[:2]))

"""The arena on three squares: an explainer that knows the truth wins, a bad one loses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from patches import linear, patches, read_patches

from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.arena import Arena, measure_moves, score_method, score_methods
from stylex.evaluation.edits import Edits
from stylex.evaluation.legibility import Legibility
from stylex.evaluation.readers import Reader, ReadingNetwork
from stylex.evaluation.reliance import measure_reliance
from stylex.evaluation.standings import arena_section
from stylex.imaging import from_uint8, to_uint8
from stylex.progress import quiet
from stylex.types import Pixels

WEIGHTS = [4.0, 0.0, 2.0]  # the classifier relies on left and lamp


class TrueReader(Reader):
    """Reads the squares exactly."""

    def read(self, pixels: Pixels) -> torch.Tensor:
        return read_patches(from_uint8(pixels))


@pytest.fixture(scope="module")
def arena() -> Arena:
    drawn = patches()
    exact = tuple(
        Legibility(f.name, f.is_binary, Estimate(1.0, 9, (1.0, 1.0)), 0.0) for f in drawn.factors
    )
    reader = TrueReader(ReadingNetwork(3, 32, 3, 2), "Patches", drawn.factors, 32, 3, 2, exact)
    reliance = measure_reliance(drawn, linear(WEIGHTS), 1, 200, 0, quiet)
    return Arena(linear(WEIGHTS), reader, (), {"bright": reliance}, 0.1, 8, 0)


def edits(moved: list[list[float]], method: str = "stylex", seed: int = 0) -> Edits:
    """Edits that set each factor to a value where it is not negative."""
    drawn = patches()
    values = drawn.sample(12, seed)
    base = to_uint8(drawn.draw(values))
    edited = []
    for row in moved:
        given = torch.tensor(row)
        edited.append(to_uint8(drawn.draw(torch.where(given < 0, values, given))))
    names = tuple(f"edit {i}" for i in range(len(moved)))
    form: dict[str, Any] = {"source": None, "target": "bright", "class_names": ("dark", "bright")}
    pictures = {"images": base, "reconstructions": base, "edited": tuple(edited), "together": ()}
    return Edits(method, names, strength=1.0, positions=torch.arange(12), **form, **pictures)


LEFT, RIGHT, LAMP = [1.0, -1, -1], [-1, 1.0, -1], [-1, -1, 1.0]


def test_an_explainer_that_edits_the_relied_upon_factors_alone_is_perfect(arena: Arena) -> None:
    found = score_method(arena, [edits([LEFT, LAMP])])
    perfect = {"recovery": 1, "purity": 1, "precision": 1, "sign_accuracy": 1}
    assert {name: found[name].value for name in perfect} == pytest.approx(perfect, abs=0.02)
    assert found["distractor_rate"].value == 0
    assert found["directions"].value == 2
    assert found["purity"].num_images == 12


def test_an_explainer_that_edits_a_distractor_fails(arena: Arena) -> None:
    found = score_method(arena, [edits([RIGHT])])
    assert (found["recovery"].value, found["distractor_rate"].value) == (0, 1)
    assert found["distractor_movement"].value == pytest.approx(1, abs=0.02)


def test_moves_of_a_drawn_edit_are_its_factor_in_spreads_and_the_classifiers_answer(
    arena: Arena,
) -> None:
    found = measure_moves(arena, edits([LAMP]))
    values = patches().sample(12, 0)
    change = 1 - values[:, 2]
    assert (found.movement[0, :, 2] - change / 0.5).abs().max() < 0.02
    assert (found.effects[0] - 2 * change).abs().max() < 0.02


def test_several_seeds_are_the_unit_of_the_interval(arena: Arena) -> None:
    found = score_method(arena, [edits([LEFT, LAMP]), edits([LEFT, RIGHT], seed=1)])
    assert found["recovery"].value == 0.75
    assert found["recovery"].num_images == 2
    assert found["recovery"].interval == (0, 1)  # two seeds say little


def test_a_method_of_one_search_beside_others_of_several_counts_one(arena: Arena) -> None:
    several = [edits([LEFT]), edits([LEFT], seed=1)]
    found = score_methods(arena, {"stylex": several, "svd": [edits([RIGHT], "svd")]})
    assert found["stylex"]["recovery"].num_images == 2
    assert found["svd"]["recovery"].num_images == 1


def test_a_search_without_directions_recovers_nothing(arena: Arena) -> None:
    found = score_method(arena, [edits([])])
    assert (found["recovery"].value, found["directions"].value) == (0, 0)
    assert found["precision"].value is None


def test_the_section_has_one_cell_a_method_and_a_sentence_a_row(arena: Arena) -> None:
    searches = {"stylex": [edits([LEFT, LAMP])], "random": [edits([RIGHT], "random")]}
    section = arena_section(arena, searches, score_methods(arena, searches), ())
    names = [table.name for table in section.tables]
    assert names == ["methods", "reliance_bright", "directions", "readers"]
    for table in section.tables:
        assert table.reading
        assert all(len(row.cells) == len(table.columns) for row in table.rows)
    methods = section.tables[0]
    assert [column.name for column in methods.columns] == ["stylex", "random"]
    assert all(row.reading for row in methods.rows)
    assert methods.rows[0].name == "recovery_at_8"
    assert [row.cells[0] for row in section.tables[2].rows] == ["left", "lamp"]


def test_a_reader_that_misses_its_aim_is_listed(arena: Arena) -> None:
    blind = replace(arena.reader.held_out[1], score=Estimate(0.4, 9, (0.3, 0.5)), error=0.8)
    poor = replace(
        arena, reconstructed=(*arena.reader.held_out[:1], blind, arena.reader.held_out[2])
    )
    searches = {"stylex": [edits([LEFT])]}
    table = arena_section(poor, searches, score_methods(poor, searches), ()).tables[-1]
    assert ["misses" in row.reading for row in table.rows] == [False, True, False]
    assert poor.errors().tolist() == [0, 0.8, 0]


def test_what_does_not_fit_is_refused(arena: Arena) -> None:
    with pytest.raises(InputError, match="at least one search"):
        score_method(arena, [])
    with pytest.raises(InputError, match="measured for the class searched for, got 'dark'"):
        score_method(arena, [replace(edits([LEFT]), target="dark")])
    other = replace(arena, reliance={"bright": replace(arena.reliance["bright"], factors=("a",))})
    with pytest.raises(InputError, match="must read the factors of the drawings"):
        score_method(other, [edits([LEFT])])

"""Figures for papers: what they show is what the search left."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.collections import QuadMesh
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from stylex.imaging import enlarge
from stylex.report import wording
from stylex.report.figures.attributes import draw_attributes
from stylex.report.figures.charts import draw_doses, draw_intervals
from stylex.report.figures.grids import (
    draw_image,
    draw_ladder,
    draw_reconstructions,
    first_flip,
)
from stylex.report.figures.matrix import draw_effects, shown_classes
from stylex.report.figures.sheet import DECREASE, INCREASE, Sheet, fit, style, text_px, wrap
from stylex.report.results import Results, read_results

WriteFolder = Callable[..., Path]
HOSTILE = ["$x_1$", "<img src=x>\n\\frac{a}{b}", "long name " * 15]


@pytest.fixture(autouse=True)
def _styled() -> Iterator[None]:
    with style():
        yield


def texts(sheet: Sheet) -> list[str]:
    """All words on a page."""
    return [text.get_text() for text in sheet.figure.findobj(Text) if text.get_text()]


def framed(sheet: Sheet) -> list[tuple[float, float]]:
    """Corners of the pictures that are framed in red."""
    return [
        patch.get_xy()
        for patch in sheet.page.patches
        if isinstance(patch, Rectangle) and to_hex(patch.get_edgecolor()) == INCREASE
    ]


def pages(results: Results, columns: int) -> Iterator[Sheet]:
    """All figures of a search."""
    yield draw_attributes([results], columns)
    draws = (draw_image, draw_effects, draw_doses, draw_intervals, draw_ladder)
    yield from (draw(results, columns) for draw in (*draws, draw_reconstructions))


def climbing(results: Results, flips: list[int | None]) -> Results:
    """The same with ladders whose decision becomes the target at these steps."""
    gallery = results.gallery
    steps = gallery.ladder_probabilities.shape[1]
    aim = results.class_names.index(results.target)
    probabilities = torch.full((len(flips), steps, len(results.class_names)), 0.2)
    probabilities[..., aim - 1] = 0.4
    for row, flip in enumerate(flips):
        if flip is not None:
            probabilities[row, flip, aim] = 0.6  # later pictures fall back
    return replace(results, gallery=replace(gallery, ladder_probabilities=probabilities))


def test_numbers_in_pictures_are_the_stored_probabilities(write_folder: WriteFolder) -> None:
    results = read_results(write_folder(unshown=()))
    said = texts(draw_attributes([results], 2))
    for attribute in results.attributes:
        assert attribute.pictures is not None
        for chances in (attribute.pictures.before, attribute.pictures.after):
            for chance in chances[:2]:
                assert wording.percent(chance) in said
    assert "in the box: probability of Coat" in said


def test_attributes_without_pictures_are_passed_over(write_folder: WriteFolder) -> None:
    results = read_results(write_folder(num_attributes=7, unshown=(2, 4)))
    said = texts(draw_attributes([results], 2))
    assert [text for text in said if text in "1234567"] == ["1", "3", "5", "6"]
    none = read_results(write_folder(num_attributes=2, unshown=(1, 2)))
    assert "too few images show any attribute for pictures" in texts(draw_attributes([none], 1))


@pytest.mark.parametrize("columns", [1, 2])
def test_given_names_stand_in_quotes_in_place_of_the_coordinate(
    write_folder: WriteFolder, columns: int
) -> None:
    results = read_results(write_folder(unshown=()))
    named = tuple(replace(a, given_name=f"name {a.rank}") for a in results.attributes)
    for page in pages(replace(results, attributes=named), columns):
        said = " ".join(texts(page))
        assert "conv" not in said
        assert "“name 1”" in said or "reconstructions" in page.description


def test_the_first_picture_that_flips_is_framed_and_no_other(write_folder: WriteFolder) -> None:
    results = climbing(read_results(write_folder()), [2, None, 0])
    page = draw_ladder(results, 2)
    left = sorted({image.get_extent()[0] for image in page.page.images})
    columns = [min(range(len(left)), key=lambda i, x=x: abs(left[i] - x)) for x, _ in framed(page)]
    assert columns == [2, 0]
    said = " ".join(texts(page))
    assert "classified as Coat with 2 attributes" in said
    assert "not classified as Coat, even with all 3" in said
    assert "its reconstruction is classified as Coat already" in said
    faded = [image.get_alpha() is not None for image in page.page.images]
    assert faded == [False, False, False, True, *[False] * 4, False, True, True, True]


def test_a_ladder_that_flips_later_than_shown_says_so(write_folder: WriteFolder) -> None:
    results = climbing(read_results(write_folder(num_attributes=8)), [7, 4, None])
    page = draw_ladder(results, 1)
    assert len(framed(page)) == 1
    assert any("with 7 attributes (not shown)" in text for text in texts(page))


def test_the_first_flip_is_the_first_of_several() -> None:
    probabilities = torch.tensor([[0.6, 0.4], [0.3, 0.7], [0.6, 0.4], [0.2, 0.8]])
    assert first_flip(probabilities, 1) == 1
    assert first_flip(probabilities, 0) == 0
    assert first_flip(probabilities[:1], 1) is None


def test_one_image_shows_its_strongest_attributes_and_both_decisions(
    write_folder: WriteFolder,
) -> None:
    results = read_results(write_folder(num_attributes=8))
    gallery = results.gallery
    chances = torch.tensor([0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6])
    probabilities = gallery.probabilities.clone()
    probabilities[0, :, -1] = torch.stack((chances * 0, 1 - chances, chances), dim=1)
    own = torch.tensor([[0.9, 0.05, 0.05]]).repeat(len(gallery.indices), 1)
    changed = replace(gallery, probabilities=probabilities, image_probabilities=own)
    page = draw_image(replace(results, gallery=changed), 2)
    said = texts(page)
    assert [text for text in said if text in "12345678"] == ["2", "4", "6", "8", "7"]
    assert {"Sandal 90%", "decision differs", "Coat 90%", "90%", "all 8"} <= set(said)
    base = float(gallery.ladder_probabilities[0, 0, 2])
    assert f"+{round(100 * (0.9 - base))} points" in said
    assert len(framed(page)) == sum(c > 0.5 for c in (0.9, 0.8, 0.7, 0.6))


@pytest.mark.parametrize("columns", [1, 2])
def test_cells_of_the_matrix_are_the_effects(write_folder: WriteFolder, columns: int) -> None:
    results = read_results(write_folder())
    page = draw_effects(results, columns)
    (mesh,) = page.figure.findobj(QuadMesh)
    expected = torch.tensor([[a.effects[k] for k in (2, 1, 0)] for a in results.attributes])
    assert torch.tensor(mesh.get_array()).reshape(3, 3).allclose(expected.double())
    low, high = mesh.get_clim()
    assert -low == high == expected.abs().max()  # white is no effect
    said = texts(page)
    assert {wording.logits(v) for v in expected.flatten().tolist()} <= set(said)


def test_of_many_classes_those_searched_and_those_moved_most_are_shown(
    write_folder: WriteFolder,
) -> None:
    results = read_results(write_folder())
    names = ("Sandal", "Pullover", "Coat", *(f"class {k}" for k in range(3, 200)))
    effects = [0.0] * 200
    effects[150], effects[77], effects[5] = -9.0, 8.0, 0.1
    moved = tuple(replace(a, effects=tuple(effects)) for a in results.attributes)
    many = replace(results, class_names=names, attributes=moved)
    assert shown_classes(many, 4) == [2, 1, 77, 150]
    assert shown_classes(replace(many, source=None), 3) == [2, 77, 150]
    said = " ".join(texts(draw_effects(many, 2)))
    assert "12 of 200 classes" in said
    assert "class 150" in said


def test_points_of_attributes_like_random_weights_are_hollow(write_folder: WriteFolder) -> None:
    results = read_results(write_folder())  # the third has q = 0.3
    page = draw_intervals(results, 2)
    effects, shares = (axes for axes in page.figure.axes if axes is not page.page)
    for axes, values in (
        (effects, [a.effect.value for a in results.attributes]),
        (shares, [a.flips.value for a in results.attributes]),
    ):
        points = [line for line in axes.lines if line.get_marker() == "o"]
        assert [line.get_xdata()[0] for line in points] == values
        assert [line.get_markerfacecolor() for line in points] == [DECREASE, DECREASE, "white"]
        ends = [tuple(line.get_xdata()) for line in axes.lines if len(set(line.get_ydata())) == 1]
        intervals = [a.effect.interval for a in results.attributes]
        assert axes is shares or set(intervals) <= set(ends)
    said = " ".join(texts(page))
    assert "n = 24 images" in said
    assert "q > 0.05" in said


def test_curves_are_the_measured_doses_and_say_how_they_run(write_folder: WriteFolder) -> None:
    results = read_results(write_folder())
    page = draw_doses(results, 2)
    charts = [axes for axes in page.figure.axes if axes is not page.page]
    for axes, attribute in zip(charts, results.attributes, strict=True):
        curve = next(line for line in axes.lines if len(line.get_xdata()) > 2)
        doses = [(at, effect.value) for at, effect in attribute.evidence.doses]
        drawn = list(zip(curve.get_xdata(), curve.get_ydata(), strict=True))
        assert drawn == [(0, 0), *doses]
        assert any(set(line.get_xdata()) == {results.strength} for line in axes.lines)
    said = " ".join(texts(page))
    for attribute in results.attributes:
        assert wording.response(attribute) in said


def test_a_curve_that_ends_at_its_highest_is_not_said_to_weaken(write_folder: WriteFolder) -> None:
    attribute = read_results(write_folder(unshown=())).attributes[2]  # peaks at 1.0
    assert wording.response(attribute) == "strongest at ×1, weaker beyond"
    (low, a), (middle, b), (high, c) = attribute.evidence.doses
    uneven = replace(attribute.evidence, doses=((low, a), (middle, c), (high, b)))
    said = wording.response(replace(attribute, evidence=uneven))
    assert said == "rises unevenly, strongest at ×2"


def test_a_reconstruction_that_is_classified_otherwise_is_framed(
    write_folder: WriteFolder,
) -> None:
    results = read_results(write_folder())
    found = results.reconstructions
    probabilities = torch.tensor([[[0.1, 0.8, 0.1], [0.1, 0.7, 0.2]]]).repeat(3, 1, 1)
    probabilities[1, 1] = torch.tensor([0.55, 0.25, 0.2])
    changed = replace(found, probabilities=probabilities)
    page = draw_reconstructions(replace(results, reconstructions=changed), 2)
    assert len(framed(page)) == 1
    said = texts(page)
    assert {"80%", "70%", "55%", "→ Sandal"} <= set(said)
    assert said.count("Pullover") == 3
    assert any("1 of 3 shown" in text for text in said)


@pytest.mark.parametrize("columns", [1, 2])
@pytest.mark.parametrize("is_one_image", [False, True])
def test_hostile_names_are_text_inside_the_page(
    write_folder: WriteFolder, tmp_path: Path, columns: int, is_one_image: bool
) -> None:
    results = read_results(write_folder(num_attributes=7, unshown=(), is_one_image=is_one_image))
    hostile = replace(
        results,
        class_names=tuple(HOSTILE),
        source=HOSTILE[1],
        target=HOSTILE[2],
        attributes=tuple(replace(a, given_name="$\\alpha$ " * 6) for a in results.attributes),
    )
    for i, page in enumerate(pages(hostile, columns)):
        page.save(tmp_path / f"{i}.png")
        assert not any(text.get_parse_math() for text in page.figure.findobj(Text))
        drawn, (width, height) = page.figure.get_tightbbox(), page.figure.get_size_inches()
        assert drawn.x0 > -0.01, page.description
        assert drawn.y0 > -0.01, page.description
        assert drawn.x1 < width + 0.01, page.description
        assert drawn.y1 < height + 0.01, page.description


@pytest.mark.parametrize("below", range(20))
def test_pixels_are_exact_at_any_height_of_the_page(tmp_path: Path, below: int) -> None:
    picture = torch.arange(192, dtype=torch.uint8).reshape(3, 8, 8)
    sheet = Sheet(1)
    sheet.picture(10, 5, 80, picture)
    sheet.height = 100 + below
    sheet.save(tmp_path / "page.png")
    with Image.open(tmp_path / "page.png") as page:
        assert page.height == sheet.height
        found = np.asarray(page.convert("RGB"))[5:85, 10:90]
    assert (found == enlarge(picture, 10).permute(1, 2, 0).numpy()).all()


def test_a_text_is_shortened_to_its_width_and_no_further() -> None:
    text = "a name of many letters"
    width = text_px(text, 7)
    assert fit(f"  {text}\n", width, 7) == text
    shorter = fit(text, width - 1, 7)
    assert shorter.endswith("…")
    assert text_px(shorter, 7) <= width - 1 < text_px(f"{text[: len(shorter) + 1]}…", 7)


def test_lines_hold_all_words_or_say_that_some_are_left() -> None:
    text = "one two three four five six"
    width = text_px("three four", 6)
    lines = wrap(text, width, 6, 9)
    assert " ".join(lines) == text
    assert max(text_px(line, 6) for line in lines) <= width
    assert wrap(text, width, 6, 2)[-1].endswith("…")
    assert wrap("", width, 6, 2) == []

"""Scores of attribution maps against known regions, by hand."""

import pytest
import torch
from patches import linear, patches
from torch import Tensor

from stylex.errors import InputError
from stylex.evaluation.maps import (
    Placement,
    maps_table,
    place,
    relied_regions,
)
from stylex.evaluation.reliance import measure_reliance
from stylex.progress import quiet


def quarter(count: int = 6) -> Tensor:
    regions = torch.zeros(count, 32, 32, dtype=torch.bool)
    regions[:, :16, :16] = True
    return regions


def test_images_with_an_empty_region_are_left_out_and_counted() -> None:
    regions = quarter(3)
    regions[1] = False
    maps = torch.zeros(3, 32, 32)
    maps[0, 0, 0], maps[2, 31, 31] = -2.0, 1.0  # a hit by an absolute value, and a miss
    found = place(maps, regions)
    assert (found.mass.value, found.mass.num_images, found.left_out) == (0.5, 2, 1)
    assert found.pointing.value == 0.5


def test_a_map_of_zeros_hits_nothing() -> None:
    found = place(torch.zeros(2, 32, 32), quarter(2))
    assert (found.mass.value, found.pointing.value) == (0, 0)


def test_a_uniform_map_has_the_share_that_is_reported_for_one() -> None:
    found = place(torch.ones(2, 32, 32), quarter(2))
    assert found.mass.value == pytest.approx(found.uniform.value)


def test_no_image_with_a_region_leaves_no_score() -> None:
    found = place(torch.ones(2, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool))
    assert (found.mass.value, found.left_out) == (None, 2)


def test_the_region_of_the_reasons_is_that_of_the_factors_relied_upon() -> None:
    drawn = patches()
    reliance = measure_reliance(drawn, linear([4.0, 0.0, 2.0]), 1, 50, 0, quiet)
    found = relied_regions(drawn, drawn.sample(3, 0), reliance, 0.1)
    assert found[:, :16, :16].all()
    assert found[:, 16:, 16:].all()
    assert not found[:, :16, 16:].any()


def test_the_table_ends_with_a_uniform_map() -> None:
    placed: dict[str, Placement] = {"Gradient": place(torch.ones(2, 32, 32), quarter(2))}
    table = maps_table(placed)
    assert [row.title for row in table.rows] == ["Gradient", "A uniform map"]
    assert table.rows[1].cells[0].value == 0.25
    with pytest.raises(InputError, match="at least one kind of map"):
        maps_table({})

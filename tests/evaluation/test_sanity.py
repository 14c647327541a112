"""Sanity on hand-made searches: it passes where attributes change, and fails where they stay."""

from pathlib import Path
from typing import Any

import pytest

from stylex.artifacts import write_json
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.sanity import overlap, read_found, sanity_section
from stylex.evaluation.tables import Row, Table

NUM_COORDINATES = 20
OWN, OTHERS = [1, 2, 3, 4], [5, 6, 7, 8]


def write(folder: Path, coordinates: list[int], **changed: Any) -> Path:
    stated = {
        "attributes": [{"coordinate": c, "direction": "largest"} for c in coordinates],
        "sufficiency": {"1": {"value": 0.25}, "10": {"value": 0.75}},
        "rank_correlation": 0.5,
        "source": None,
        "target": "b",
    }
    write_json(folder / "attributes.json", {**stated, **changed})
    return folder


def tables(folder: Path) -> dict[str, Table]:
    section = sanity_section(folder, NUM_COORDINATES)
    assert section is not None
    return {table.name: table for table in section.tables}


def randomised(folder: Path) -> Row:
    (row,) = tables(folder)["randomisation"].rows
    return row


def test_a_destroyed_classifier_with_other_attributes_passes(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    write(tmp_path / "seeds" / "1", [1, 2, 3, 9])
    write(tmp_path / "sanity" / "layers-2", [1, *OTHERS[1:]])
    overlapping, _, verdict, flipped = randomised(tmp_path).cells
    assert isinstance(overlapping, Estimate)
    assert (overlapping.value, overlapping.num_images) == (0.25, 4)
    assert (verdict, flipped) == ("passed", "75%")


def test_a_destroyed_classifier_with_the_same_attributes_fails(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    write(tmp_path / "sanity" / "permuted-labels", OWN)
    row = randomised(tmp_path)
    assert (row.title, row.cells[2]) == ("permuted labels", "FAILED: the attributes stay")


def test_as_much_change_as_another_seed_makes_fails(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    for folder in ("seeds/1", "sanity/layers-2"):
        write(tmp_path / folder, [1, 2, *OTHERS[:2]])
    assert randomised(tmp_path).cells[2] == "FAILED: the attributes stay"


def test_the_same_coordinate_the_other_way_is_another_attribute(tmp_path: Path) -> None:
    own = write(tmp_path, OWN)
    turned = [{"coordinate": c, "direction": "smallest"} for c in OWN]
    other = write(tmp_path / "sanity" / "layers-1", [], attributes=turned)
    assert overlap(read_found(own), read_found(other)).value == 0


@pytest.mark.parametrize(("own", "seed"), [([], OTHERS), (OWN, OTHERS)], ids=["no own", "no seed"])
def test_where_nothing_is_found_again_nothing_is_decided(
    tmp_path: Path, own: list[int], seed: list[int]
) -> None:
    write(tmp_path, own)
    write(tmp_path / "seeds" / "1", seed)
    write(tmp_path / "sanity" / "layers-2", OTHERS)
    assert str(randomised(tmp_path).cells[2]).startswith("undecided")


def test_chance_is_the_share_of_all_edits_that_the_other_search_has(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    write(tmp_path / "sanity" / "layers-2", OTHERS[:2])  # 2 of 20 coordinates, two ways each
    assert randomised(tmp_path).cells[1] == "0.05"


def test_every_two_seeds_are_compared_and_the_halves_stand_below(tmp_path: Path) -> None:
    write(tmp_path, OWN)
    for seed in ("1", "2"):
        write(tmp_path / "seeds" / seed, [1, 2, *OTHERS[:2]])
    rows = tables(tmp_path)["stability"].rows
    assert [row.title for row in rows[:3]] == [
        "this search and seed 1",
        "this search and seed 2",
        "seed 1 and seed 2",
    ]
    shares = [cell.value for row in rows[:3] for cell in row.cells if isinstance(cell, Estimate)]
    assert shares == [0.5, 0.5, 1]
    assert rows[3].cells == ("0.50",)


def test_a_search_alone_has_no_such_section(tmp_path: Path) -> None:
    assert sanity_section(write(tmp_path, OWN), NUM_COORDINATES) is None


@pytest.mark.parametrize("kind", ["seeds", "sanity"])
def test_a_search_that_asked_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    write(tmp_path, OWN)
    write(tmp_path / kind / "1", OTHERS, target="a")
    with pytest.raises(InputError, match="that ask the same.*search again with the same source"):
        sanity_section(tmp_path, NUM_COORDINATES)


def test_a_folder_without_a_whole_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no attributes\.json in"):
        read_found(tmp_path)
    write_json(tmp_path / "attributes.json", {"attributes": [], "source": None, "target": "b"})
    with pytest.raises(InputError, match="must say sufficiency, rank_correlation, got nothing"):
        read_found(tmp_path)

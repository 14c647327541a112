"""Attributes of two trainings on hand-made edits: the same change is found again, no other."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stylex.artifacts import write_json, write_tensors
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.evaluation.edits import Edits, read_edits
from stylex.evaluation.retraining import retraining_table, similarities
from stylex.evaluation.sanity import sanity_section

TOP, BOTTOM, LEFT = (slice(0, 2), slice(0, 4)), (slice(2, 4), slice(0, 4)), (slice(0, 4), slice(2))
Places = list[tuple[slice, slice]]


def write(folder: Path, places: Places, *, copies: int, positions: list[int] | None = None) -> Path:
    """A finished search whose edits brighten a place, of a model whose copies are of one grey."""
    places_of = positions or [3, 5, 8]
    copy = torch.full((len(places_of), 1, 4, 4), copies, dtype=torch.uint8)
    edited = copy.repeat(len(places), 1, 1, 1, 1)
    for picture, (rows, columns) in zip(edited, places, strict=True):
        picture[..., rows, columns] += 40
    tensors: dict[str, Tensor] = {
        "positions": torch.tensor(places_of),
        "images": copy,
        "reconstructions": copy,
        "edited": edited,
        "together": edited,
    }
    names = json.dumps([str(i) for i in range(len(places))])
    facts = {
        "source": "",
        "target": "b",
        "class_names": '["a", "b"]',
        "strength": "1",
        "names": names,
    }
    write_tensors(folder / "edits" / "stylex.safetensors", tensors, facts)
    stated = {
        "attributes": [{"coordinate": i, "direction": "largest"} for i in range(len(places))],
        "sufficiency": {"1": {"value": 0.5}},
        "rank_correlation": None,
        "source": None,
        "target": "b",
    }
    write_json(folder / "attributes.json", stated)
    return folder


def edits(folder: Path, places: Places, copies: int = 50) -> Edits:
    return read_edits(write(folder, places, copies=copies))["stylex"]


def test_cosines_are_those_of_the_changes_and_not_of_the_copies(tmp_path: Path) -> None:
    one = edits(tmp_path / "one", [TOP, BOTTOM], copies=10)
    other = edits(tmp_path / "other", [BOTTOM, LEFT], copies=200)
    expected = torch.tensor([[0.0, 0.5], [1.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(similarities(one, other), expected)


def test_the_opposite_change_is_not_the_same(tmp_path: Path) -> None:
    one, other = edits(tmp_path / "one", [TOP]), edits(tmp_path / "other", [TOP])
    other.edited[0][:] = other.reconstructions - (other.edited[0] - other.reconstructions)
    assert similarities(one, other).item() == pytest.approx(-1)


def test_an_edit_that_changes_nothing_is_like_none(tmp_path: Path) -> None:
    nothing = (slice(0, 0), slice(0, 0))
    found = similarities(edits(tmp_path / "a", [nothing]), edits(tmp_path / "b", [TOP, nothing]))
    assert found.tolist() == [[0.0, 0.0]]


def test_images_are_matched_by_their_position(tmp_path: Path) -> None:
    one = edits(tmp_path / "one", [TOP])
    write(tmp_path / "other", [TOP], copies=50, positions=[8, 1, 5])
    other = read_edits(tmp_path / "other")["stylex"]
    other.edited[0][1] = 255  # of an image that the first has not
    assert similarities(one, other).item() == pytest.approx(1)


def test_mismatched_images_show_what_an_attribute_does_everywhere(tmp_path: Path) -> None:
    one, other = edits(tmp_path / "one", [TOP]), edits(tmp_path / "other", [TOP])
    for found in (one, other):  # each image changes in a row of its own
        found.edited[0][:] = found.reconstructions
        for i in range(3):
            found.edited[0][i, 0, i] += 9
    assert similarities(one, other).item() == pytest.approx(1)
    assert similarities(one, other, shift=1).item() == 0


def test_the_table_says_what_another_training_finds_again(tmp_path: Path) -> None:
    write(tmp_path, [TOP, BOTTOM], copies=50)
    write(tmp_path / "trained" / "1", [TOP], copies=90)
    section = sanity_section(tmp_path, 20)
    assert section is not None
    (table,) = section.tables
    (row,) = table.rows
    found, best, elsewhere = row.cells
    assert (table.name, row.title) == ("retraining", "training 1")
    assert isinstance(found, Estimate)
    assert (found.value, found.num_images) == (0.5, 2)
    assert isinstance(best, Estimate)
    assert best.value == pytest.approx(0.5)
    assert elsewhere == best  # these attributes do the same to every image


def test_a_training_that_finds_nothing_finds_nothing_again(tmp_path: Path) -> None:
    write(tmp_path, [TOP], copies=50)
    write(tmp_path / "trained" / "1", [], copies=50)
    table = retraining_table(tmp_path, ["1"])
    assert table is not None
    assert isinstance(table.rows[0].cells[0], Estimate)
    assert table.rows[0].cells[0].value == 0


def test_searches_without_common_images_are_refused(tmp_path: Path) -> None:
    write(tmp_path, [TOP], copies=50)
    write(tmp_path / "trained" / "1", [TOP], copies=50, positions=[8, 9, 10])
    with pytest.raises(InputError, match=r"at least 2 images that both edited, got 1; search with"):
        retraining_table(tmp_path, ["1"])


def test_without_another_training_there_is_no_table(tmp_path: Path) -> None:
    assert retraining_table(write(tmp_path, [TOP], copies=50), []) is None

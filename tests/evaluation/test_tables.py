"""evaluation.json has a key for everything; a cell in a line."""

from pathlib import Path

import pytest

from stylex.artifacts import read_json
from stylex.estimates import Estimate
from stylex.evaluation.tables import (
    VALUE,
    Cell,
    Column,
    Row,
    Section,
    Table,
    spoken,
    write_sections,
)

COLUMNS = (Column("stylex", "StylEx"), Column("svd", "SVD", "Of the weights."))
CELLS: tuple[Cell, ...] = (Estimate(0.5, 8, (0.25, 0.75)), None)


def section() -> Section:
    row = Row("flips", "Flips", "Share.", CELLS, unit="pairs", base="original")
    words = Row("verdict", "Verdict", "", ("passed",))
    tables = (Table("a", "A", "", COLUMNS, (row,)), Table("b", "B", "So.", VALUE, (words,)))
    return Section("truth", "Is it true?", "Perhaps.", tables)


def test_everything_has_its_key_in_the_file(tmp_path: Path) -> None:
    write_sections(tmp_path / "e.json", [section()], {})
    (truth,) = read_json(tmp_path / "e.json", "")["sections"]
    table = truth["tables"][0]
    assert (truth["name"], table["name"], table["rows"][0]["name"]) == ("truth", "a", "flips")
    assert [column["name"] for column in table["columns"]] == ["stylex", "svd"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        (Estimate(0.94, 200, (0.915, 0.952)), "0.94 [0.915, 0.952] of 200"),
        (Estimate(31.7142, 40, None), "31.7 of 40"),
        (Estimate(None, 0, None), "– of 0"),
        (None, "–"),
        ("passed", "passed"),
    ],
)
def test_a_cell_in_a_line_has_its_interval_and_its_denominator(cell: Cell, said: str) -> None:
    assert spoken(cell) == said

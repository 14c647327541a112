"""evaluation.json: what is written is what the page reads; a cell in a line."""

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
from stylex.report.evaluation import read_evaluation

COLUMNS = (Column("stylex", "StylEx"), Column("svd", "SVD", "Of the weights."))
CELLS: tuple[Cell, ...] = (Estimate(0.5, 8, (0.25, 0.75)), None)


def section() -> Section:
    row = Row("flips", "Flips", "Share.", CELLS, unit="pairs", base="original")
    words = Row("verdict", "Verdict", "", ("passed",))
    tables = (Table("a", "A", "", COLUMNS, (row,)), Table("b", "B", "So.", VALUE, (words,)))
    return Section("truth", "Is it true?", "Perhaps.", tables)


def test_the_page_reads_what_was_written(tmp_path: Path) -> None:
    facts = {"flagged_positions": [3, 8], "config": {"seed": 0}}
    write_sections(tmp_path / "evaluation.json", [section()], facts)
    found = read_evaluation(tmp_path)
    assert found is not None
    assert found.flagged == (3, 8)
    (read,) = found.sections
    assert (read.title, read.reading) == ("Is it true?", "Perhaps.")
    assert [table.title for table in read.tables] == ["A", "B"]
    (row,) = read.tables[0].rows
    assert (row.cells, row.unit, row.base) == (CELLS, "pairs", "original")
    assert [column.reading for column in read.tables[0].columns] == ["", "Of the weights."]


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

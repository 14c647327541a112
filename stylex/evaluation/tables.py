"""What evaluation.json holds: sections of tables, each with a sentence on how to read it.

The page's evaluation tab draws any such file; it knows nothing of what is measured.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import write_json
from stylex.estimates import Estimate

SCHEMA = 1
Cell = Estimate | str | None


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        name: Key in the file, such as `stylex`.
        title: As people read it.
        reading: How to read its figures, in a sentence; empty where the rows say so.
    """

    name: str
    title: str
    reading: str = ""


@dataclass(frozen=True)
class Row:
    """One figure, or one figure a column.

    Attributes:
        name: Key in the file, such as `agreement`.
        title: As people read it.
        reading: How to read it, in a sentence; empty where the columns say so.
        cells: One a column; none where a figure cannot be had.
        unit: What an estimate's denominator counts: images, pairs, seeds, people.
        base: What the figure compares with: original, reconstruction; empty if with nothing.
    """

    name: str
    title: str
    reading: str
    cells: tuple[Cell, ...]
    unit: str = "images"
    base: str = ""


@dataclass(frozen=True)
class Table:
    """Figures that are read together.

    Attributes:
        name: Key in the file.
        title: As people read it.
        reading: How to read it, in a sentence or two.
        columns: At least one.
        rows: Each with as many cells as there are columns.
    """

    name: str
    title: str
    reading: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """Tables that answer one question.

    Attributes:
        name: Key in the file, such as `fidelity`.
        title: The question, as people ask it.
        reading: What an answer means, in a sentence or two.
        tables: At least one.
    """

    name: str
    title: str
    reading: str
    tables: tuple[Table, ...]


VALUE = (Column("value", "Value"),)  # of a table with one figure a row


def write_sections(path: Path, sections: Sequence[Section], facts: Mapping[str, Any]) -> None:
    """Writes evaluation.json.

    Args:
        path: The file.
        sections: In the order to be read.
        facts: What made the figures: settings, fingerprints, counts.
    """
    write_json(
        path, {"schema": SCHEMA, "facts": facts, "sections": [_section(s) for s in sections]}
    )


def spoken(cell: Cell) -> str:
    """A cell in a line: 0.94 [0.92, 0.95] of 200."""
    if not isinstance(cell, Estimate):
        return "–" if cell is None else cell
    if cell.value is None:
        return f"– of {cell.num_images}"
    ends = "" if cell.interval is None else " [{:.3g}, {:.3g}]".format(*cell.interval)
    return f"{cell.value:.3g}{ends} of {cell.num_images}"


def _section(section: Section) -> dict[str, Any]:
    return {**_named(section), "tables": [_table(table) for table in section.tables]}


def _table(table: Table) -> dict[str, Any]:
    return {
        **_named(table),
        "columns": [_named(column) for column in table.columns],
        "rows": [
            {
                **_named(row),
                "unit": row.unit,
                "base": row.base,
                "cells": [c.as_json() if isinstance(c, Estimate) else c for c in row.cells],
            }
            for row in table.rows
        ],
    }


def _named(what: Section | Table | Column | Row) -> dict[str, str]:
    return {"name": what.name, "title": what.title, "reading": what.reading}

"""An evaluation's tables, read back from evaluation.json and checked; what they measure is theirs.

The page draws any sections of tables, so a new figure needs no new page.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import read_json
from stylex.errors import InputError
from stylex.estimates import Estimate

EVALUATION_FILE = "evaluation.json"
SCHEMA = 1
MOST_DECIMALS = 4
Cell = Estimate | str | None


@dataclass(frozen=True)
class Column:
    """A column of figures.

    Attributes:
        title: As people read it.
        reading: How to read its figures; empty where the rows say so.
    """

    title: str
    reading: str


@dataclass(frozen=True)
class Row:
    """One figure, or one figure a column.

    Attributes:
        title: As people read it.
        reading: How to read it; empty where the columns say so.
        cells: One a column; none where a figure cannot be had.
        unit: What an estimate's denominator counts.
        base: What the figures compare with; empty if with nothing.
    """

    title: str
    reading: str
    cells: tuple[Cell, ...]
    unit: str
    base: str

    @property
    def figures(self) -> tuple[Estimate, ...]:
        """The cells that are numbers."""
        return tuple(c for c in self.cells if isinstance(c, Estimate) and c.value is not None)

    @property
    def decimals(self) -> int:
        """So many of each number as its interval leaves certain, the same in the whole row."""
        needed = [_decimals(figure) for figure in self.figures]
        return max(needed, default=0)

    @property
    def denominator(self) -> int | None:
        """That of all figures of a row of several; none if they differ."""
        counts = {figure.num_images for figure in self.figures}
        return counts.pop() if len(self.cells) > 1 and len(counts) == 1 else None

    @property
    def is_from_0_to_1(self) -> bool:
        """Whether all figures and their intervals can be marked on a line from 0 to 1."""
        ends = [end for f in self.figures for end in (f.value or 0.0, *(f.interval or ()))]
        return bool(ends) and min(ends) >= 0 and max(ends) <= 1


@dataclass(frozen=True)
class Table:
    """Figures that are read together.

    Attributes:
        title: As people read it.
        reading: How to read it.
        columns: At least one.
        rows: Each with as many cells as there are columns; at least one.
    """

    title: str
    reading: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Section:
    """Tables that answer one question.

    Attributes:
        title: The question, as people ask it.
        reading: What an answer means.
        tables: At least one.
    """

    title: str
    reading: str
    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Evaluation:
    """What was measured of a search's edits.

    Attributes:
        sections: In the order to be read; at least one.
        facts: What made the figures, by name, without the flagged images.
        flagged: Positions of images whose copy the classifier calls otherwise than the image;
            none if the file does not tell.
    """

    sections: tuple[Section, ...]
    facts: tuple[tuple[str, str], ...]
    flagged: tuple[int, ...] | None


def read_evaluation(folder: Path) -> Evaluation | None:
    """Reads a search's evaluation; none if there is none.

    Raises:
        InputError: If the file is broken, of another schema, or lacks an entry.
    """
    path = folder / EVALUATION_FILE
    if not path.is_file():
        return None
    remedy = f"run `python -m stylex.evaluation {folder}` again"
    file = _Place(f"'{path}'", remedy, read_json(path, remedy))
    schema = file.value.get("schema")
    if schema != SCHEMA:
        raise file.fault(f"be of schema {SCHEMA}", schema)
    facts = file.entry("facts")
    if not isinstance(facts.value, dict):
        raise facts.fault("be named entries", facts.value)
    flagged = None
    if "flagged_positions" in facts.value:
        flagged = tuple(each.position() for each in facts.items("flagged_positions", least=0))
    others = {name: value for name, value in facts.value.items() if name != "flagged_positions"}
    sections = tuple(_section(each) for each in file.items("sections"))
    return Evaluation(sections, tuple(_told(others)), flagged)


@dataclass(frozen=True)
class _Place:
    """A value somewhere in a file, which refuses what it must not be."""

    where: str
    remedy: str
    value: Any

    def fault(self, rule: str, got: object) -> InputError:
        return InputError(f"{self.where} must {rule}, got {str(got)[:60]!r}; {self.remedy}")

    def entry(self, name: str) -> "_Place":
        if not isinstance(self.value, dict) or name not in self.value:
            raise self.fault(f"have a '{name}'", self.value)
        where = f"{name} of {self.where}"
        return _Place(where, self.remedy, self.value[name])

    def items(self, name: str, *, least: int = 1) -> list["_Place"]:
        found = self.entry(name)
        if not isinstance(found.value, list) or len(found.value) < least:
            raise found.fault(f"be a list of at least {least}", found.value)
        return [
            _Place(f"item {i} of {found.where}", self.remedy, each)
            for i, each in enumerate(found.value, 1)
        ]

    def text(self, name: str, *, may_be_empty: bool = True) -> str:
        found = self.entry(name)
        if not isinstance(found.value, str):
            raise found.fault("be a text", found.value)
        if not (may_be_empty or found.value.strip()):
            raise found.fault("be a text that is not empty", found.value)
        return found.value

    def number(self) -> float:
        if (
            isinstance(self.value, bool)
            or not isinstance(self.value, int | float)
            or not math.isfinite(self.value)
        ):
            raise self.fault("be a finite number", self.value)
        return float(self.value)

    def position(self) -> int:
        if isinstance(self.value, bool) or not isinstance(self.value, int) or self.value < 0:
            raise self.fault("be a whole number of at least 0", self.value)
        return self.value


def _section(at: _Place) -> Section:
    return Section(
        at.text("title", may_be_empty=False),
        at.text("reading"),
        tuple(_table(each) for each in at.items("tables")),
    )


def _table(at: _Place) -> Table:
    columns = tuple(
        Column(each.text("title", may_be_empty=False), each.text("reading"))
        for each in at.items("columns")
    )
    rows = tuple(_row(each, len(columns)) for each in at.items("rows"))
    return Table(at.text("title", may_be_empty=False), at.text("reading"), columns, rows)


def _row(at: _Place, num_columns: int) -> Row:
    cells = tuple(_cell(each) for each in at.items("cells"))
    if len(cells) != num_columns:
        raise at.fault(f"have a cell for each of {num_columns} columns", len(cells))
    return Row(
        at.text("title", may_be_empty=False),
        at.text("reading"),
        cells,
        at.text("unit"),
        at.text("base"),
    )


def _cell(at: _Place) -> Cell:
    if at.value is None or isinstance(at.value, str):
        return at.value
    value, interval = at.entry("value"), at.entry("interval")
    num_images = at.entry("num_images").position()
    if value.value is None:
        return Estimate(None, num_images, None)
    if interval.value is None:
        return Estimate(value.number(), num_images, None)
    ends = [each.number() for each in at.items("interval", least=2)]
    if len(ends) != 2 or ends[0] > ends[1]:
        raise interval.fault("be two numbers that do not fall", ends)
    return Estimate(value.number(), num_images, (ends[0], ends[1]))


def _decimals(figure: Estimate) -> int:
    value = abs(figure.value or 0.0)
    if figure.interval is None and value == round(value):
        return 0
    low, high = figure.interval or (0.0, value / 100)
    size = high - low or value or 1.0
    return min(MOST_DECIMALS, max(2 if value < 10 else 0, -math.floor(math.log10(size))))


def _told(facts: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Names and values as people read them; entries of entries under both names."""
    for name, value in facts.items():
        called = prefix + name.replace("_", " ")
        called = called[:1].upper() + called[1:]
        if isinstance(value, dict):
            yield from _told(value, f"{called}: ")
        elif isinstance(value, list):
            yield called, ", ".join(str(each) for each in value)
        elif value is not None:
            yield called, str(value)

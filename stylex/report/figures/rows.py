"""Rows of charts: an attribute's name at the left, and how many rows there are."""

from stylex.report.figures.labels import title
from stylex.report.figures.sheet import NOTE_PT, TEXT_PT, WIDTH_PX, Sheet, fit, line_px, text_px
from stylex.report.results import Attribute, Results

MOST_ROWS = 20  # attributes


def write_row_name(
    sheet: Sheet, y: float, height: float, width: float, attribute: Attribute
) -> None:
    """Writes an attribute's rank and name, and if there is room its direction.

    Args:
        sheet: The page.
        y: Top of the row.
        height: Of the row.
        width: Of the letters at most.
        attribute: Of the row.
    """
    is_narrow = sheet.width == WIDTH_PX[1]
    size = NOTE_PT if is_narrow else TEXT_PT
    y += (height - line_px(size)) / 2
    indent = text_px("000", size, bold=True)
    sheet.write(0, y, str(attribute.rank), size, bold=True)
    name = title(attribute) if is_narrow else f"{title(attribute)} → {attribute.direction}"
    sheet.write(indent, y, fit(name, width - indent, size), size)


def left_out(results: Results) -> str:
    """How many attributes are not shown, if some are not."""
    number = len(results.attributes)
    return f"; the first {MOST_ROWS} of {number} attributes" if number > MOST_ROWS else ""

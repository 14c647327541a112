"""The first attributes of every search: originals above, edited below.

Layout of the original's figure 4: Lang et al. 2021, "Explaining in Style" (arXiv:2104.13369).
"""

from collections.abc import Sequence

from stylex.report import wording
from stylex.report.figures.labels import direction, pair, title
from stylex.report.figures.sheet import (
    MUTED,
    NOTE_PT,
    TEXT_PT,
    Sheet,
    fit,
    line_px,
    pixels,
    side_px,
    text_px,
)
from stylex.report.pictures import Pictures
from stylex.report.results import Attribute, Results

MOST = 4  # attributes
LEFT_PX = 36  # of the words beside the rows
GAP_PX, COLUMN_GAP_PX, BAND_GAP_PX = 8, 36, 44


def draw_attributes(searches: Sequence[Results], columns: int) -> Sheet:
    """A band per search, a column per attribute, two images (one in one column) in each.

    Args:
        searches: Of one model.
        columns: Of text, 1 or 2.
    """
    sheet = Sheet(columns)
    y = 0.0
    for results in searches:
        y = _band(sheet, y, results, columns) + BAND_GAP_PX
    sheet.description = (
        "Attributes that the classifier decides by, in the order of selection. Above: original "
        "(reconstruction); below: the same image with this attribute alone changed to the strength "
        "written above it. In the box: probability of the class moved to."
    )
    return sheet


def _band(sheet: Sheet, y: float, results: Results, shown: int) -> float:
    """Draws a search's attributes, so many images of each; returns where the band ends."""
    note = f"in the box: probability of {results.target}"
    room = sheet.width - text_px(note, NOTE_PT) - COLUMN_GAP_PX
    name = fit(pair(results), max(room, sheet.width / 2), TEXT_PT, bold=True)
    room = sheet.width - text_px(name, TEXT_PT, bold=True) - COLUMN_GAP_PX
    sheet.write(0, y, name, bold=True)
    sheet.write(
        sheet.width, y + pixels(1), fit(note, room, NOTE_PT), NOTE_PT, color=MUTED, align="right"
    )
    y += line_px(TEXT_PT) + 8
    seen = [(a, a.pictures) for a in results.attributes if a.pictures is not None][:MOST]
    if not seen:
        return sheet.note(y, "too few images show any attribute for pictures")
    room = (sheet.width - LEFT_PX - (MOST - 1) * COLUMN_GAP_PX) / MOST
    side = side_px((room - (shown - 1) * GAP_PX) / shown, seen[0][1].unchanged.shape[-1])
    width = shown * side + (shown - 1) * GAP_PX
    step = (sheet.width - LEFT_PX - width) / (MOST - 1)
    for i, (attribute, pictures) in enumerate(seen):
        x = round(LEFT_PX + i * step)
        top = _heading(sheet, x, y, step - 12, attribute)
        _pairs(sheet, x, top, side, pictures, shown)
    sheet.turned(0, top, side, "original")
    sheet.turned(0, top + side + GAP_PX, side, "edited")
    return top + 2 * side + GAP_PX


def _heading(sheet: Sheet, x: float, y: float, width: float, attribute: Attribute) -> int:
    """Writes an attribute's rank, name, direction and strength; returns where pictures begin."""
    rank = f"{attribute.rank} "
    sheet.write(x, y, rank, bold=True)
    indent = text_px(f"{rank} ", TEXT_PT, bold=True)
    y = sheet.write(x + indent, y, fit(title(attribute), width - indent, TEXT_PT))
    y = sheet.write(x, y, fit(direction(attribute), width, NOTE_PT), NOTE_PT, color=MUTED)
    return round(y) + 6


def _pairs(sheet: Sheet, x: int, y: int, side: int, pictures: Pictures, most: int) -> None:
    """Draws originals above their edited ones."""
    rows = ((pictures.unchanged, pictures.before), (pictures.changed, pictures.after))
    for row, (images, probabilities) in enumerate(rows):
        for i in range(min(most, len(images))):
            place = x + i * (side + GAP_PX), y + row * (side + GAP_PX)
            sheet.picture(*place, side, images[i])
            sheet.tag(*place, wording.percent(probabilities[i]))

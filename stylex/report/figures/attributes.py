"""The first attributes of every search: originals above, edited below.

Layout of the original's figure 4: Lang et al. 2021, "Explaining in Style" (arXiv:2104.13369).
"""

from collections.abc import Sequence

from stylex.report import wording
from stylex.report.figures.labels import direction, source, target, title
from stylex.report.figures.sheet import (
    EDGE_PX,
    MUTED,
    NOTE_PT,
    TEXT_PT,
    Sheet,
    fit,
    line_px,
    pixels,
    side_px,
    text_px,
    wrap,
)
from stylex.report.pictures import Pictures
from stylex.report.results import Attribute, Results

MOST = 4  # attributes
LEFT_PX = 36  # of the words beside the rows
GAP_PX, BAND_GAP_PX = 8, 44
COLUMN_GAP_PX = {1: 12, 2: 36}  # at least, by columns of text


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


def _band(sheet: Sheet, y: float, results: Results, columns: int) -> float:
    """Draws a search's attributes; returns where the band ends."""
    most = 0.3 * sheet.width  # of a class's name
    names = (fit(name, most, TEXT_PT, bold=True) for name in (source(results), target(results)))
    image = results.explained_image
    name = ("" if image is None else f"image {image} · ") + " → ".join(names)
    sheet.write(0, y, name, bold=True)
    room = sheet.width - text_px(name, TEXT_PT, bold=True) - BAND_GAP_PX
    note = fit(f"in the box: probability of {target(results)}", room, NOTE_PT)
    sheet.write(sheet.width, y + pixels(1), note, NOTE_PT, color=MUTED, align="right")
    y += line_px(TEXT_PT) + 12
    seen = [(a, a.pictures) for a in results.attributes if a.pictures is not None][:MOST]
    if not seen:
        return sheet.note(y, "too few images show any attribute for pictures")
    shown = min(columns, max(len(pictures.indices) for _, pictures in seen))
    room = (sheet.width - LEFT_PX - EDGE_PX - (MOST - 1) * COLUMN_GAP_PX[columns]) / MOST
    side = side_px((room - (shown - 1) * GAP_PX) / shown, seen[0][1].unchanged.shape[-1])
    width = shown * side + (shown - 1) * GAP_PX
    step = (sheet.width - LEFT_PX - EDGE_PX - width) / (MOST - 1)
    top = round(y) + _headings(sheet, round(y), [a for a, _ in seen], step, columns)
    for i, (_, pictures) in enumerate(seen):
        _pairs(sheet, round(LEFT_PX + i * step), top, side, pictures, shown)
    sheet.turned(0, top, side, "original")
    sheet.turned(0, top + side + GAP_PX, side, "edited")
    return top + 2 * side + GAP_PX


def _headings(
    sheet: Sheet, y: int, attributes: Sequence[Attribute], step: float, columns: int
) -> int:
    """Writes ranks, names, directions and strengths above their columns; returns their height."""
    size = TEXT_PT if columns == 2 else NOTE_PT
    width = step - 12
    indent = max(text_px(f"{a.rank} ", size, bold=True) for a in attributes)
    is_stacked = any(text_px(title(a), size) > width - indent for a in attributes)
    if is_stacked:
        indent = 0
    names = [wrap(title(a), width - indent, size, 2) for a in attributes]
    top = y + line_px(size) if is_stacked else y
    below = top + max(map(len, names)) * line_px(size)
    for i, (attribute, lines) in enumerate(zip(attributes, names, strict=True)):
        x, at = LEFT_PX + i * step, float(top)
        sheet.write(x, y, str(attribute.rank), size, bold=True)
        for line in lines:
            at = sheet.write(x + indent, at, line, size)
        sheet.write(x, below, fit(direction(attribute), width, NOTE_PT), NOTE_PT, color=MUTED)
    return below + line_px(NOTE_PT) + 8 - y


def _pairs(sheet: Sheet, x: int, y: int, side: int, pictures: Pictures, most: int) -> None:
    """Draws originals above their edited ones."""
    rows = ((pictures.unchanged, pictures.before), (pictures.changed, pictures.after))
    for row, (images, probabilities) in enumerate(rows):
        for i in range(min(most, len(images))):
            place = x + i * (side + GAP_PX), y + row * (side + GAP_PX)
            sheet.picture(*place, side, images[i])
            sheet.tag(*place, wording.percent(probabilities[i]))

"""The effect matrix: what every attribute does to every class."""

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from torch import Tensor

from stylex.report import wording
from stylex.report.figures.labels import measured_on
from stylex.report.figures.rows import MOST_ROWS, left_out, write_row_name
from stylex.report.figures.sheet import (
    INK,
    MUTED,
    NOTE_PT,
    Sheet,
    fit,
    line_px,
    text_px,
    wrap,
)
from stylex.report.results import Results

MOST_CLASSES = {1: 6, 2: 12}  # by columns of text
LABEL_PX = {1: 285, 2: 510}
ROW_PX, WIDEST_CELL_PX, SLANTED_PX = 50, 150, 150
RIGHT_PX = 140  # room for the scale
SCALE_PX, SCALE_GAP_PX = 20, 24
DARK = 0.55  # of the largest value; letters on darker cells are white
COLORS = "RdBu_r"  # blue, white, red


def draw_effects(results: Results, columns: int) -> Sheet:
    """Mean effect of each attribute on the logit of every class, or of those moved most."""
    sheet, attributes = Sheet(columns), results.attributes[:MOST_ROWS]
    classes = shown_classes(results, MOST_CLASSES[columns])
    left = LABEL_PX[columns]
    cell = (sheet.width - left - RIGHT_PX) / len(classes)
    cell = int(min(cell, WIDEST_CELL_PX))
    is_slanted = _is_wide([results.class_names[k] for k in classes], cell)
    write = _slant_names if is_slanted else _stack_names
    top = write(sheet, results, classes, left, cell)
    height = ROW_PX * len(attributes)
    for i, attribute in enumerate(attributes):
        write_row_name(sheet, top + i * ROW_PX, ROW_PX, left - 12, attribute)
    effects = torch.tensor([a.effects for a in attributes], dtype=torch.float64)[:, classes]
    limit = float(effects.abs().max()) or 1.0
    _draw_cells(sheet.chart(left, top, cell * len(classes), height), effects, limit, cell)
    right = left + cell * len(classes) + SCALE_GAP_PX
    _draw_scale(sheet.chart(right, top, SCALE_PX, height), limit)
    number = len(results.class_names)
    which = (
        f"{len(classes)} of {number} classes: those searched and those moved most; "
        if len(classes) < number
        else ""
    )
    what = "Change" if results.is_one_image else "Mean change"
    bold = "bold: target" + ("; " if results.source is None else ", then source; ")
    roles = bold if is_slanted else ""  # else they are written below the names
    text = f"{what} of each class’s logit; {roles}{which}{measured_on(results)}{left_out(results)}"
    sheet.note(sheet.height, text)
    sheet.description = f"{text}. Rows: one attribute alone; columns: classes."
    return sheet


def shown_classes(results: Results, most: int) -> list[int]:
    """The target, the source, and of the others those that fit, moved most, in their order.

    Args:
        results: With the effects.
        most: Number of classes that fit.
    """
    searched = [results.class_names.index(results.target)]
    if results.source is not None:
        searched.append(results.class_names.index(results.source))
    moved = torch.tensor([a.effects for a in results.attributes]).abs().amax(dim=0)
    order = moved.sort(descending=True, stable=True).indices.tolist()
    others = [k for k in order if k not in searched][: most - len(searched)]
    return searched + sorted(others)


def _is_wide(names: list[str], cell: int) -> bool:
    """Whether a word of a name does not fit above its column."""
    words = [word for name in names for word in name.split()]
    return any(text_px(word, NOTE_PT, bold=True) > cell - 10 for word in words)


def _slant_names(sheet: Sheet, results: Results, classes: list[int], left: int, cell: int) -> int:
    """Writes names that rise above their columns; returns the rows' top."""
    for i, k in enumerate(classes):
        name = results.class_names[k]
        is_searched = name in (results.target, results.source)
        text = fit(name, SLANTED_PX * 1.15, NOTE_PT, bold=is_searched)
        sheet.slanted(left + (i + 0.5) * cell, SLANTED_PX - 8, text, bold=is_searched)
    return SLANTED_PX


def _stack_names(sheet: Sheet, results: Results, classes: list[int], left: int, cell: int) -> int:
    """Writes names in lines above their columns, and what was searched; returns the rows' top."""
    roles = {results.target: "target", results.source: "source"}
    names = [results.class_names[k] for k in classes]
    lines = [wrap(name, cell - 24, NOTE_PT, 2) for name in names]
    top = (max(map(len, lines)) + 1) * line_px(NOTE_PT) + 4
    for i, name in enumerate(names):
        x, role = left + (i + 0.5) * cell, roles.get(name)
        y = top - 4.0 - (len(lines[i]) + (role is not None)) * line_px(NOTE_PT)
        for line in lines[i]:
            y = sheet.write(x, y, line, NOTE_PT, bold=role is not None, align="center")
        sheet.write(x, y, role or "", NOTE_PT, color=MUTED, align="center")
    return top


def _draw_cells(axes: Axes, effects: Float[Tensor, "a k"], limit: float, cell: int) -> None:
    """Colours the cells, and writes their values if these fit."""
    rows, number = effects.shape
    norm = Normalize(-limit, limit)
    axes.pcolormesh(effects.numpy(), cmap=COLORS, norm=norm, edgecolors="white", linewidth=0.8)
    axes.set_ylim(rows, 0)
    axes.set_axis_off()
    texts = [[_value(effect) for effect in row] for row in effects.tolist()]
    if max(text_px(text, NOTE_PT) for row in texts for text in row) > cell - 4:
        return
    for y, row in enumerate(texts):
        for x, text in enumerate(row):
            is_dark = abs(float(effects[y, x])) > DARK * limit
            axes.text(
                x + 0.5,
                y + 0.52,
                text,
                fontsize=NOTE_PT,
                color="white" if is_dark else INK,
                ha="center",
                va="center_baseline",
            )


def _value(effect: float) -> str:
    """A change of a logit; what rounds to nothing has no sign."""
    return "0.00" if abs(effect) < 0.005 else wording.logits(effect)


def _draw_scale(axes: Axes, limit: float) -> None:
    """Draws the colours with their values."""
    shades = torch.linspace(1, 0, 256)[:, None].numpy()
    extent = (0, 1, -limit, limit)
    axes.imshow(shades, cmap=COLORS, extent=extent, aspect="auto", interpolation="none")
    axes.set_xticks([])
    ends = [-limit, 0.0, limit]
    axes.set_yticks(ends, [wording.logits(end) if end else "0" for end in ends])
    axes.yaxis.tick_right()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)

"""Charts of the numbers: dose and response, intervals of effects and flips."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from stylex.estimates import Estimate
from stylex.report import wording
from stylex.report.figures.labels import measured_on, target, title, with_interval
from stylex.report.figures.rows import MOST_ROWS, left_out, write_row_name
from stylex.report.figures.sheet import (
    DECREASE,
    MUTED,
    NOTE_PT,
    RULE,
    TEXT_PT,
    WIDTH_PX,
    Sheet,
    fit,
    line_px,
    pixels,
    text_px,
    wrap,
)
from stylex.report.results import Attribute, Results

ACROSS = {1: 3, 2: 5}  # curves beside each other, by columns of text
CURVE_GAP_PX, CURVE_HEIGHT_PX = 36, 200
ROW_PX = 44  # of the intervals
HEAD_GAP_PX = 10


def draw_doses(results: Results, columns: int) -> Sheet:
    """A small chart per attribute: mean change of the target's logit by strength."""
    sheet, attributes = Sheet(columns), results.attributes[:MOST_ROWS]
    reach = [
        limit
        for a in attributes
        for _, effect in a.evidence.doses
        for limit in (effect.value, *(effect.interval or ()))
        if limit is not None
    ]
    low, high = min(0.0, *reach), max(0.0, *reach)
    pad = 0.06 * ((high - low) or 1.0)
    number = ACROSS[columns]
    left = pixels(24)
    width = (sheet.width - left - pixels(3) - (number - 1) * CURVE_GAP_PX) / number
    y = 0.0
    for start in range(0, len(attributes), number):
        row = attributes[start : start + number]
        top = max(
            _curve_head(sheet, left + i * (width + CURVE_GAP_PX), y, width, attribute)
            for i, attribute in enumerate(row)
        )
        for i, attribute in enumerate(row):
            x, is_last = left + i * (width + CURVE_GAP_PX), start + i + number >= len(attributes)
            axes = sheet.chart(x, top, width, CURVE_HEIGHT_PX)
            _draw_curve(axes, attribute, results.strength)
            axes.set_ylim(low - pad, high + pad)
            axes.tick_params(labelleft=not i, labelbottom=is_last)
            axes.set_ylabel("" if i else "change of logit")
            axes.set_xlabel("strength" if is_last else "")
        y = top + CURVE_HEIGHT_PX + pixels(9)
    sheet.height += pixels(19)
    what = "Change" if results.is_one_image else "Mean change"
    what += f" of the logit of {target(results)} by strength, on {_images(results)}"
    band = "" if results.is_one_image else "; band: bootstrap 95% interval"
    dashes = f"dashed: strength of the search, {wording.times(results.strength)}"
    sheet.note(sheet.height, f"{what}{band}; {dashes}{left_out(results)}")
    sheet.description = f"{what}{band}; {dashes}. Each attribute is changed alone."
    return sheet


def _images(results: Results) -> str:
    """On which images the numbers are measured."""
    if results.is_one_image:
        return "this image"
    return f"{results.attributes[0].effect.num_images} images not selected on"


def _curve_head(sheet: Sheet, x: float, y: float, width: float, attribute: Attribute) -> float:
    """Writes an attribute's rank, name and response in words; returns where its chart begins."""
    size = NOTE_PT if sheet.width == WIDTH_PX[1] else TEXT_PT
    sheet.write(x, y, str(attribute.rank), size, bold=True)
    indent = text_px(f"{attribute.rank} ", size, bold=True)
    y = sheet.write(x + indent, y, fit(title(attribute), width - indent, size), size)
    for line in wrap(wording.response(attribute), width, NOTE_PT, 2):
        y = sheet.write(x, y, line, NOTE_PT, color=MUTED)
    return y + HEAD_GAP_PX


def _draw_curve(axes: Axes, attribute: Attribute, strength: float) -> None:
    """Draws one dose-response curve from strength 0, where nothing changes."""
    doses = [(at, e.value, e.interval) for at, e in attribute.evidence.doses if e.value is not None]
    xs = [0.0, *(at for at, _, _ in doses)]
    axes.axhline(0, color=RULE, lw=0.5, zorder=1)
    axes.axvline(strength, color=MUTED, lw=0.6, dashes=(3, 2), zorder=1)
    limits = [(0.0, 0.0), *(i for _, _, i in doses if i is not None)]
    if len(limits) == len(xs):
        low, high = zip(*limits, strict=True)
        axes.fill_between(xs, low, high, color=DECREASE, alpha=0.22, lw=0, zorder=2)
    axes.plot(xs, [0.0, *(value for _, value, _ in doses)], color=DECREASE, lw=1.0, zorder=3)
    for at, value, _ in doses:
        if at == strength:
            axes.plot(at, value, "o", color=DECREASE, ms=2.6, zorder=4, clip_on=False)
    last = max([*xs, strength])
    axes.set_xlim(0, last * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:g}")


def draw_intervals(results: Results, columns: int) -> Sheet:
    """A row per attribute: mean effect and share flipped, each with its 95 % interval."""
    sheet, attributes = Sheet(columns), results.attributes[:MOST_ROWS]
    gap, plot_px, value_px = pixels(6), *((475, 300) if columns == 2 else (310, 0))
    left = 510 if columns == 2 else 285
    right = left + plot_px + (value_px or pixels(6)) + gap
    for i, a in enumerate(attributes):
        write_row_name(sheet, i * ROW_PX, ROW_PX, left - gap, a)
        for x, found, is_share in ((left, a.effect, False), (right, a.flips, True)):
            if columns == 2:
                text = with_interval(found, is_share=is_share)
                y = i * ROW_PX + (ROW_PX - line_px(NOTE_PT)) / 2
                sheet.write(x + plot_px + gap, y, text, NOTE_PT, color=MUTED)
    filled, height = [not _is_hollow(a) for a in attributes], 0
    for x, name, estimates in (
        (left, f"mean effect on the logit of {target(results)}", [a.effect for a in attributes]),
        (right, f"classified as {target(results)} by it alone", [a.flips for a in attributes]),
    ):
        axes = sheet.chart(x, 0, plot_px, len(attributes) * ROW_PX)
        _draw_rows(axes, estimates, filled)
        lines = wrap(name, plot_px + value_px / 2, NOTE_PT, 2)
        axes.set_xlabel("\n".join(lines))
        height = max(height, len(lines))
    axes.set_xlim(-0.04, 1.04)
    axes.set_xticks([0, 0.5, 1], [wording.percent(share) for share in (0, 0.5, 1)])
    sheet.height += pixels(15) + height * line_px(NOTE_PT)
    _draw_legend(sheet, attributes)
    sheet.note(
        sheet.height,
        "95% intervals: bootstrap over images (effect), Wilson (share); "
        f"n = {_images(results)}, strength {wording.times(results.strength)}{left_out(results)}",
    )
    sheet.description = (
        f"Mean effect of each attribute on the logit of {target(results)} and share of images "
        f"whose decision becomes {target(results)} by it alone, {measured_on(results)}, with 95% "
        "intervals (bootstrap over images; Wilson). Hollow: no more than classifiers of random "
        "weights react (q > 0.05)."
    )
    return sheet


def _is_hollow(attribute: Attribute) -> bool:
    q = attribute.evidence.q
    return q is not None and q > wording.SIGNIFICANT


def _draw_rows(axes: Axes, found: list[Estimate], filled: list[bool]) -> None:
    """Draws points with their intervals, from top to bottom."""
    axes.axvline(0, color=RULE, lw=0.5, zorder=1)
    for row, (estimate, is_filled) in enumerate(zip(found, filled, strict=True)):
        if estimate.interval is not None:
            axes.plot(estimate.interval, (row, row), color=DECREASE, lw=1.0, zorder=2)
        if estimate.value is not None:
            axes.plot(estimate.value, row, **_marker(is_filled=is_filled))
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _marker(*, is_filled: bool) -> dict[str, Any]:
    """How a point is drawn."""
    face = DECREASE if is_filled else "white"
    return {
        "marker": "o",
        "ms": 3.6,
        "mfc": face,
        "mec": DECREASE,
        "mew": 0.9,
        "lw": 0,
        "zorder": 3,
        "clip_on": False,
    }


def _draw_legend(sheet: Sheet, attributes: tuple[Attribute, ...]) -> None:
    """Says what filled and hollow points are, of those that are drawn."""
    if all(a.evidence.q is None for a in attributes):
        return
    y, x = sheet.height + pixels(1), float(pixels(3))
    kinds = (
        (True, f"more than random weights react (q ≤ {wording.SIGNIFICANT})"),
        (False, f"no more than they do (q > {wording.SIGNIFICANT})"),
    )
    widest = max(text_px(said, NOTE_PT) for _, said in kinds) + pixels(5)
    for is_filled, said in kinds:
        if any(_is_hollow(a) != is_filled for a in attributes):
            dot = Line2D([x], [y + line_px(NOTE_PT) / 2], **_marker(is_filled=is_filled))
            sheet.page.add_line(dot)
            sheet.write(x + pixels(5), y, said, NOTE_PT, color=MUTED)
            x += pixels(18) + text_px(said, NOTE_PT)
            if x + widest > sheet.width:
                x, y = float(pixels(3)), y + line_px(NOTE_PT)

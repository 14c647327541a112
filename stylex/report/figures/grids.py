"""Grids of single images: one image explained, ladders, reconstructions."""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float, UInt8
from torch import Tensor

from stylex.report import wording
from stylex.report.figures.labels import points, short, target, title
from stylex.report.figures.sheet import (
    EDGE_PX,
    INCREASE,
    INK,
    MUTED,
    NOTE_PT,
    Sheet,
    fit,
    line_px,
    side_px,
    text_px,
    wrap,
)
from stylex.report.results import Results

GAP_PX, ROW_GAP_PX = 16, 30  # between pictures, at least
LEFT_PX = 36  # of the words beside the rows
ACROSS = {1: 4, 2: 8}  # pictures beside each other, by columns of text
MOST_ALONE = 5  # attributes of one image
MOST_LADDERS = 4
STEPS = {1: 4, 2: 10}  # of a ladder that fit, by columns of text
LEAST_ACROSS = 7  # pictures have this size even if a ladder is shorter
MOST_IMAGES = {1: 8, 2: 16}  # with their reconstructions


@dataclass(frozen=True)
class Cell:
    """A picture with two lines above and two below.

    Attributes:
        above: What is changed: a rank, a name, and how.
        picture: The image.
        probabilities: Of all classes; the target's is written into the picture.
        below: What follows the decision.
        is_notable: Whether what is below deserves attention.
    """

    above: tuple[str, str, str]
    picture: UInt8[Tensor, "c h w"]
    probabilities: Float[Tensor, " k"]
    below: str
    is_notable: bool = False


def draw_image(results: Results, columns: int) -> Sheet:
    """One image: itself, its reconstruction, the attributes that move it most, all together.

    The image is the first of the gallery, which nobody chose, or the one that is explained.
    """
    sheet, cells = Sheet(columns), _cells(results)
    side, xs = _across(EDGE_PX, sheet.width, ACROSS[columns], cells[0].picture.shape[-1])
    width = xs[1] - xs[0] - 12
    y = 0
    for i, cell in enumerate(cells):
        if i and i % len(xs) == 0:
            y = sheet.height + ROW_GAP_PX
        _draw_cell(sheet, (xs[i % len(xs)], y), (side, width), cell, results)
    num_alone = len(cells) - 3
    which = f"the {num_alone} attributes" if num_alone < len(results.attributes) else "attributes"
    sheet.description = (
        f"Image {results.gallery.indices[0]}: the image, its reconstruction, {which} that raise "
        f"the probability of {target(results)} most, each alone at the strength above it, and all "
        f"together. In the box: probability of {target(results)}. Framed: classified as "
        f"{target(results)}."
    )
    sheet.note(
        sheet.height,
        f"Image {results.gallery.indices[0]} · in the box: probability of {target(results)} · "
        f"framed: classified as {target(results)} · points: percentage points "
        "from the reconstruction",
    )
    return sheet


def _cells(results: Results) -> list[Cell]:
    """The image, its reconstruction, its strongest attributes and all together."""
    gallery, aim = results.gallery, results.class_names.index(results.target)
    own, base = gallery.image_probabilities[0], gallery.ladder_probabilities[0, 0]
    differs = bool(own.argmax() != base.argmax())
    cells = [
        Cell(("", "", f"image {gallery.indices[0]}"), gallery.images[0], own, ""),
        Cell(
            ("", "", "reconstruction"),
            gallery.ladder[0, 0],
            base,
            "decision differs" if differs else "",
            differs,
        ),
    ]
    alone = gallery.probabilities[0, :, -1]  # [a k]
    order = alone[:, aim].sort(descending=True, stable=True).indices[:MOST_ALONE]
    for i in order.tolist():
        attribute = results.attributes[i]
        at = f"→ {attribute.direction}, {wording.times(gallery.positions[i][-1])}"
        above = (str(attribute.rank), title(attribute), at)
        change = points(float(alone[i, aim] - base[aim]))
        cells.append(Cell(above, gallery.frames[0, i, -1], alone[i], change))
    last, ranks = gallery.ladder_probabilities[0, -1], gallery.ladder_ranks
    name = wording.ranks(ranks) if results.subset is not None else f"all {len(ranks)}"
    above = ("", name, f"together, {wording.times(results.strength)}")
    change = points(float(last[aim] - base[aim]))
    return [*cells, Cell(above, gallery.ladder[0, -1], last, change)]


def _draw_cell(
    sheet: Sheet, place: tuple[int, int], size: tuple[int, int], cell: Cell, results: Results
) -> None:
    """Draws a cell whose picture has a side and whose words have a width."""
    (x, y), (side, width) = place, size
    width = min(width, sheet.width - x)
    aim = results.class_names.index(results.target)
    rank, name, how = cell.above
    sheet.write(x, y, rank, NOTE_PT, bold=True)
    indent = text_px(f"{rank} ", NOTE_PT, bold=True) if rank else 0
    sheet.write(x + indent, y, fit(name, width - indent, NOTE_PT), NOTE_PT)
    y += line_px(NOTE_PT)
    sheet.write(x, y, fit(how, width, NOTE_PT), NOTE_PT, color=MUTED if name else INK)
    y += line_px(NOTE_PT) + 8
    sheet.picture(x, y, side, cell.picture)
    sheet.tag(x, y, wording.percent(float(cell.probabilities[aim])))
    decided = int(cell.probabilities.argmax())
    if decided == aim:
        sheet.frame(x, y, side, INCREASE)
    y += side + 8
    chance = wording.percent(float(cell.probabilities[decided]))
    decision = _decision(short(results.class_names[decided]), chance, width)
    below = sheet.write(x, y, decision, NOTE_PT)
    color = INCREASE if cell.is_notable else MUTED
    sheet.write(x, below, cell.below, NOTE_PT, color=color, bold=cell.is_notable)


def draw_ladder(results: Results, columns: int) -> Sheet:
    """Up to four images of the gallery with none, one, two ... attributes changed together."""
    sheet, gallery = Sheet(columns), results.gallery
    aim = results.class_names.index(results.target)
    shown = min(STEPS[columns] + 1, gallery.ladder.shape[1])
    number = min(STEPS[columns] + 1, max(shown, LEAST_ACROSS))
    side, xs = _across(EDGE_PX, sheet.width, number, gallery.ladder.shape[-1])
    y = _ladder_heads(sheet, results, xs[:shown])
    for row, index in enumerate(gallery.indices[:MOST_LADDERS]):
        probabilities = gallery.ladder_probabilities[row]
        flip = first_flip(probabilities, aim)
        words = f"image {index}: {_verdict(results, flip, shown)}"
        y = sheet.write(EDGE_PX, y, fit(words, sheet.width - EDGE_PX, NOTE_PT), NOTE_PT) + 8
        for step, x in enumerate(xs[:shown]):
            faded = flip is not None and step > flip
            sheet.picture(x, round(y), side, gallery.ladder[row, step], faded=faded)
            said = wording.percent(float(probabilities[step, aim]))
            sheet.tag(x, round(y), said, faded=faded)
            if step == flip:
                sheet.frame(x, round(y), side, INCREASE)
        y = round(y) + side + ROW_GAP_PX
    sheet.description = (
        f"Attributes added one after the other, in the order of selection, at strength "
        f"{wording.times(results.strength)}, until the image is classified as {target(results)} "
        f"(framed). In the box: probability of {target(results)}."
    )
    sheet.note(
        y - ROW_GAP_PX,
        f"In the box: probability of {target(results)} · framed: the first picture that is "
        f"classified as {target(results)} · all at strength {wording.times(results.strength)}",
    )
    return sheet


def first_flip(probabilities: Float[Tensor, "m k"], target: int) -> int | None:
    """The first step of a ladder whose decision is the target; none if there is none."""
    flips = (probabilities.argmax(dim=1) == target).nonzero()
    return int(flips[0]) if len(flips) else None


def _ladder_heads(sheet: Sheet, results: Results, xs: Sequence[int]) -> float:
    """Writes which attribute each column adds; returns where the first ladder begins."""
    titles = {a.rank: title(a) for a in results.attributes}
    width = (xs[1] - xs[0] if len(xs) > 1 else sheet.width) - 20
    sheet.write(xs[0], 0, "none", NOTE_PT, bold=True)
    for x, rank in zip(xs[1:], results.gallery.ladder_ranks, strict=False):
        y = sheet.write(x, 0, f"+ {rank}", NOTE_PT, bold=True)
        for line in wrap(titles[rank], min(width, sheet.width - x), NOTE_PT, 2):
            y = sheet.write(x, y, line, NOTE_PT, color=MUTED)
    return sheet.height + 14


def _verdict(results: Results, flip: int | None, shown: int) -> str:
    """When a ladder flips the decision, in words."""
    steps = len(results.gallery.ladder_ranks)
    if flip is None:
        return (
            f"not classified as {target(results)}, even with {'all ' if steps > 1 else ''}{steps}"
        )
    if flip == 0:
        return f"its reconstruction is classified as {target(results)} already"
    number = "1 attribute" if flip == 1 else f"{flip} attributes"
    return f"classified as {target(results)} with {number}{'' if flip < shown else ' (not shown)'}"


def draw_reconstructions(results: Results, columns: int) -> Sheet:
    """Images above their reconstructions, with what the classifier decides for each."""
    sheet, found = Sheet(columns), results.reconstructions
    count = len(found.images)
    number = min(MOST_IMAGES[columns], count)
    rows = [i * count // number for i in range(number)]  # spread evenly
    side, xs = _across(LEFT_PX, sheet.width, ACROSS[columns], found.images.shape[-1])
    y = EDGE_PX
    for start in range(0, number, len(xs)):
        for x, i in zip(xs, rows[start : start + len(xs)], strict=False):
            _draw_reconstruction(sheet, (x, y), (side, xs[1] - xs[0] - 12), results, i)
        sheet.turned(0, y, side, "image")
        sheet.turned(0, y + side + GAP_PX, side, "reconstruction")
        y = sheet.height + ROW_GAP_PX
    decisions = found.probabilities[rows].argmax(dim=2)
    changed = int((decisions[:, 0] != decisions[:, 1]).sum())
    agreement = results.metrics["agreement"]
    sheet.note(
        y - ROW_GAP_PX - 8,
        f"In the box: probability of the decision, which is written below · framed: the "
        f"reconstruction is classified otherwise ({changed} of {number} shown; "
        f"{wording.count(agreement)} of all images agree)",
    )
    sheet.description = (
        "Images, spread evenly over the data, above their reconstructions. In the box: "
        "probability of the classifier's decision, which is written below. Framed: the "
        f"reconstruction is classified otherwise ({changed} of {number})."
    )
    return sheet


def _draw_reconstruction(
    sheet: Sheet, place: tuple[int, int], size: tuple[int, int], results: Results, i: int
) -> None:
    """Draws an image, its reconstruction and their decisions."""
    (x, y), (side, width), found = place, size, results.reconstructions
    width = min(width, sheet.width - x)
    decided = found.probabilities[i].argmax(dim=1).tolist()
    names = [results.class_names[k] for k in decided]
    for j, picture in enumerate((found.images[i], found.reconstructions[i])):
        top = y + j * (side + GAP_PX)
        sheet.picture(x, top, side, picture)
        sheet.tag(x, top, wording.percent(float(found.probabilities[i, j, decided[j]])))
    below = top + side + 10.0
    if decided[0] == decided[1]:
        sheet.write(x, below, fit(names[0], width, NOTE_PT), NOTE_PT)
        return
    sheet.frame(x, top, side, INCREASE)
    for name in (names[0], f"→ {names[1]}"):
        below = sheet.write(
            x, below, fit(name, width, NOTE_PT, bold=True), NOTE_PT, color=INCREASE, bold=True
        )


def _across(left: int, width: int, number: int, native: int) -> tuple[int, list[int]]:
    """Side and left edges of so many pictures beside each other, with room for their frames."""
    room = width - left - EDGE_PX
    side = side_px((room - (number - 1) * GAP_PX) / number, native)
    return side, [round(left + i * (room - side) / (number - 1)) for i in range(number)]


def _decision(name: str, chance: str, width: float) -> str:
    """A class and its probability; a long name is shortened, never the number."""
    said = f"{name} {chance}"
    if fit(said, width, NOTE_PT) == said:
        return said
    letters = len(name)
    while letters and not fit(f"{name[:letters]}… {chance}", width, NOTE_PT).endswith(chance):
        letters -= 1
    return f"{name[:letters]}… {chance}"

"""Still pictures for a paper: original, changed and difference; an overview of all attributes."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int16
from PIL import Image, ImageDraw
from PIL.PngImagePlugin import PngInfo
from torch import Tensor

from stylex.artifacts import replacing
from stylex.report.canvas import (
    MUTED,
    PAPER,
    RULE,
    cut,
    line_height,
    probability_tag,
    text_width,
    to_pillow,
    wrap,
    write,
    write_lines,
)
from stylex.report.results import Pictures
from stylex.types import Pixels

IMAGE_PX, ONE_IMAGE_PX = 160, 240  # smaller images are enlarged up to this
OVERVIEW_PX = 128  # and larger ones are reduced to this in the overview
LEAST_WIDTH_PX, NATURAL_WIDTH_PX = 820, 1000  # room for captions; above it letters grow, too
MARGIN_PX, GAP_PX = 16, 4
TITLE_PX, TEXT_PX, NOTE_PX = 17, 15, 13
PAIRS = 3  # of an attribute in the overview
SCALE_WIDTH_PX = 121
DECREASE, INCREASE = (
    (33, 102, 172),
    (178, 24, 43),
)  # blue and red that colour-blind readers tell apart


@dataclass(frozen=True)
class Row:
    """A row of the overview: lines of text, and the pictures beside them if there are any."""

    lines: tuple[str, ...]
    pictures: Pictures | None


@dataclass(frozen=True)
class Heading:
    """A title and a text under it, broken into lines of a width."""

    title: list[str]
    body: list[str]
    zoom: float

    @classmethod
    def fit(cls, title: str, body: str, width_px: int, zoom: float = 1.0) -> "Heading":
        """Breaks both into lines for a figure of this width, in letters `zoom` times as large."""
        inner = width_px - 2 * MARGIN_PX
        return cls(
            wrap(title, round(TITLE_PX * zoom), inner),
            wrap(body, round(TEXT_PX * zoom), inner),
            zoom,
        )

    @property
    def height(self) -> int:
        """Up to where pictures may begin, in pixels."""
        title = len(self.title) * line_height(round(TITLE_PX * self.zoom))
        return MARGIN_PX + title + len(self.body) * line_height(round(TEXT_PX * self.zoom)) + 14

    def draw(self, draw: ImageDraw.ImageDraw) -> None:
        """Writes both at the top of a figure."""
        y = write_lines(draw, (MARGIN_PX, MARGIN_PX), self.title, round(TITLE_PX * self.zoom))
        write_lines(draw, (MARGIN_PX, y + 2), self.body, round(TEXT_PX * self.zoom), MUTED)


def difference(pictures: Pictures) -> Int16[Tensor, "b h w"]:
    """Changed minus original in 8-bit pixel values; in colour, of the channel that changes most."""
    change = pictures.changed.to(torch.int16) - pictures.unchanged.to(torch.int16)
    most = change.abs().argmax(dim=1, keepdim=True)
    return change.gather(1, most)[:, 0]


def difference_map(change: Int16[Tensor, "b h w"], scale: int) -> Pixels:
    """Colours a difference: white for none, full blue for `-scale`, full red for `scale`."""
    ends = torch.tensor([DECREASE, INCREASE], dtype=torch.float32)
    colour = ends[(change > 0).long()]  # [b h w 3]
    share = (change.abs().float() / scale)[..., None]
    return (255 + share * (colour - 255)).round().to(torch.uint8).permute(0, 3, 1, 2)


def write_strip(path: Path, pictures: Pictures, target: str, caption: str, finding: str) -> None:
    """Writes the figure of one edit: a column per image; original, changed and difference in rows.

    A single image has the three beside each other.

    Args:
        path: The file; its caption and finding are also its description.
        pictures: Originals, changed images and probabilities.
        target: Class that the probabilities are of.
        caption: What was changed and how far.
        finding: What was measured.
    """
    change = difference(pictures)
    scale = max(1, int(change.abs().max()))
    maps = difference_map(change, scale)
    is_one = len(maps) == 1
    aim = max(maps.shape[-1], ONE_IMAGE_PX if is_one else IMAGE_PX)
    rows = [
        ("original", pictures.unchanged, pictures.before),
        ("changed", pictures.changed, pictures.after),
        ("difference", maps, None),
    ]
    step = to_pillow(maps[0], aim).width + GAP_PX
    zoom = max(1.0, step * len(maps) / NATURAL_WIDTH_PX)  # large figures are looked at reduced
    text, note = round(TEXT_PX * zoom), round(NOTE_PX * zoom)
    left = MARGIN_PX + (0 if is_one else text_width("difference", text) + 12)
    width = max(LEAST_WIDTH_PX, left + (3 if is_one else len(maps)) * step - GAP_PX + MARGIN_PX)
    body = f"{finding} · number in the corner: probability of {target}"
    heading = Heading.fit(caption, body, width, zoom)
    top = heading.height + line_height(note) + 3
    bottom = top + (1 if is_one else 3) * step + 10
    figure = Image.new("RGB", (width, bottom + line_height(note) + MARGIN_PX), PAPER)
    draw = ImageDraw.Draw(figure)
    heading.draw(draw)
    columns = [word for word, _, _ in rows] if is_one else [f"image {i}" for i in pictures.indices]
    for i, word in enumerate(columns):
        write(draw, (left + i * step, heading.height), cut(word, note, step - GAP_PX), note, MUTED)
    for j, (word, images, probabilities) in enumerate(rows):
        place = (left + j * step, top) if is_one else (left, top + j * step)
        _paste(figure, place, [to_pillow(image, aim) for image in images], probabilities)
        if not is_one:
            write(draw, (MARGIN_PX, place[1] + (step - line_height(text)) // 2), word, text)
    _draw_scale(draw, (MARGIN_PX, bottom), scale, note, in_colour=pictures.changed.shape[1] == 3)
    _save(path, figure, f"{caption} · {finding}")


def write_overview(path: Path, rows: Sequence[Row], caption: str, legend: str) -> None:
    """Writes one figure with a row per attribute: its numbers, and pairs of original and changed.

    Args:
        path: The file; its caption is also its description.
        rows: From top to bottom; one without pictures says so.
        caption: What the figure shows and how far attributes were changed.
        legend: What the pictures and the numbers in them are.
    """
    shown = [row.pictures for row in rows if row.pictures is not None]
    side = to_pillow(shown[0].unchanged[0], OVERVIEW_PX).width if shown else OVERVIEW_PX
    num_pairs = max((min(PAIRS, len(p.indices)) for p in shown), default=1)
    left = MARGIN_PX + max(text_width(line, TEXT_PX) for row in rows for line in row.lines) + 24
    width = max(LEAST_WIDTH_PX, left + num_pairs * _pair_width(side) - 12 + MARGIN_PX)
    heading = Heading.fit(caption, legend, width)
    heights = [
        max(len(row.lines) * line_height(TEXT_PX), side if row.pictures else 0) + 12 for row in rows
    ]
    figure = Image.new("RGB", (width, heading.height + sum(heights) + MARGIN_PX - 12), PAPER)
    draw = ImageDraw.Draw(figure)
    heading.draw(draw)
    y = heading.height
    for row, height in zip(rows, heights, strict=True):
        draw.line((MARGIN_PX, y - 6, width - MARGIN_PX, y - 6), RULE)
        write(draw, (MARGIN_PX, y), row.lines[0], TEXT_PX)
        below = (MARGIN_PX, y + line_height(TEXT_PX))
        write_lines(draw, below, list(row.lines[1:]), TEXT_PX, MUTED)
        if row.pictures is None:
            write(draw, (left, y), "no pictures: fewer than 3 images show it", TEXT_PX, MUTED)
        else:
            _paste_pairs(figure, (left, y), row.pictures)
        y += height
    _save(path, figure, caption)


def _pair_width(side: int) -> int:
    return 2 * side + GAP_PX + 12


def _paste_pairs(figure: Image.Image, place: tuple[int, int], pictures: Pictures) -> None:
    x, y = place
    for i in range(min(PAIRS, len(pictures.indices))):
        pair = [to_pillow(p, OVERVIEW_PX) for p in (pictures.unchanged[i], pictures.changed[i])]
        _paste(figure, (x, y), pair, (pictures.before[i], pictures.after[i]))
        x += _pair_width(pair[0].width)


def _paste(
    figure: Image.Image,
    place: tuple[int, int],
    tiles: Sequence[Image.Image],
    probabilities: Sequence[float] | None,
) -> None:
    """Puts images side by side, with probabilities in their corners or else a thin frame."""
    draw = ImageDraw.Draw(figure)
    x, y = place
    for i, tile in enumerate(tiles):
        figure.paste(tile, (x, y))
        if probabilities is None:
            draw.rectangle((x, y, x + tile.width - 1, y + tile.height - 1), outline=RULE)
        else:
            probability_tag(draw, (x, y), probabilities[i], tile.width)
        x += tile.width + GAP_PX


def _draw_scale(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], scale: int, size: int, *, in_colour: bool
) -> None:
    """Draws the colours of a difference with their values."""
    x, y = place
    low, high = f"−{scale} ", f" +{scale}"
    write(draw, (x, y), low, size, MUTED)
    x += text_width(low, size)
    steps = torch.linspace(-1000, 1000, SCALE_WIDTH_PX).round().to(torch.int16)
    for i, colour in enumerate(difference_map(steps[None, None], 1000)[0, :, 0].t().tolist()):
        draw.line((x + i, y + 3, x + i, y + 3 + size), tuple(colour))
    x += SCALE_WIDTH_PX
    write(draw, (x, y), high, size, MUTED)
    channel = ", of the channel that changes most" if in_colour else ""
    text = f"changed − original, in pixel values of 0 to 255{channel}; white: no change"
    write(draw, (x + text_width(high, size) + 14, y), text, size, MUTED)


def _save(path: Path, figure: Image.Image, description: str) -> None:
    facts = PngInfo()
    facts.add_itxt("Description", description)
    with replacing(path) as temporary:
        figure.save(temporary, format="PNG", pnginfo=facts)

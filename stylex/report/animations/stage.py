"""What the frames of one film share: their words, and where each image stands.

From top to bottom: from which class to which; what was changed; the state (a word or a knob); the
images, each under a bar as long as its probability; what the numbers are.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import UInt8
from PIL import Image, ImageDraw
from torch import Tensor

from stylex.imaging import Picture
from stylex.report.animations.canvas import (
    INK,
    MUTED,
    PAPER,
    RULE,
    line_height,
    probability_tag,
    to_pillow,
    wrap,
    write_lines,
)
from stylex.report.animations.inset import Inset, Point, draw_places, find_region, leader_masks

IMAGE_PX, ONE_IMAGE_PX = 160, 320  # smaller images are enlarged up to this by a whole factor
LEAST_WIDTH_PX = 320  # so that words have room over a single image
LEAST_TEXT_PX, LETTERS = 14, 52  # size of the text, or this part of the width if that is more
MOST_LINES = 3  # of each text


@dataclass(frozen=True)
class Words:
    """What is written in every frame.

    Attributes:
        move: From which class to which, such as `Pullover → Coat`.
        caption: What was changed and how far, or what people call it.
        target: Class that the probabilities are of.
    """

    move: str
    caption: str
    target: str


@dataclass(frozen=True)
class Grid:
    """Where images stand, in pixels of a frame.

    Attributes:
        side: Of an image as it is drawn.
        columns: Images in a row.
        rows: Of images.
        gap: Between neighbours in a row.
        bar: Height of the bar above an image.
        has_inset: Whether each image has a magnified copy: below it in a row of images, else right
            of it.
    """

    side: int
    columns: int
    rows: int
    gap: int
    bar: int
    has_inset: bool

    @property
    def is_row(self) -> bool:
        """Whether images stand beside each other in one row."""
        return self.rows == 1 and self.columns > 1

    @property
    def step(self) -> Point:
        """From an image to its right and to its lower neighbour."""
        across = 1 + (self.has_inset and not self.is_row)
        down = 1 + (self.has_inset and self.is_row)
        reach = self.side + self.gap
        return across * reach, down * reach + self.above + self.gap

    @property
    def above(self) -> int:
        """From the top of a bar to that of its image."""
        return self.bar + max(2, self.bar // 2)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of all."""
        across, down = self.step
        return self.columns * across - self.gap, self.rows * down - 2 * self.gap

    def place(self, number: int) -> Point:
        """Left top corner of an image, from that of the grid."""
        row, column = divmod(number, self.columns)
        across, down = self.step
        return column * across, row * down + self.above

    def inset_place(self, place: Point) -> Point:
        """Left top corner of the magnified copy of the image at a place."""
        reach = self.side + self.gap
        return (place[0], place[1] + reach) if self.is_row else (place[0] + reach, place[1])


@dataclass(frozen=True)
class Stage:
    """What the frames of one film share.

    Attributes:
        ground: A frame without state, images and probabilities.
        state: Left, top and width of the line for a word or a knob.
        text_px: Size of the text, which everything else follows.
        grid: How the images stand.
        places: Left top corner of each image.
        insets: Of each image, if any are wanted.
        leaders: Where they are dark and white; none without insets.
    """

    ground: Image.Image
    state: tuple[int, int, int]
    text_px: int
    grid: Grid
    places: tuple[Point, ...]
    insets: tuple[Inset, ...]
    leaders: tuple[Image.Image, Image.Image] | None

    def frame(self, pictures: Sequence[Picture], probabilities: Sequence[float]) -> Image.Image:
        """A frame with its images and their probabilities, the line of the state still empty."""
        frame = self.ground.copy()
        for picture, place in zip(pictures, self.places, strict=True):
            frame.paste(to_pillow(picture, self.grid.side), place)
        for picture, inset in zip(pictures, self.insets, strict=False):
            if inset.region is not None:
                frame.paste(inset.region.crop(picture, inset.side), inset.place)
        if self.leaders is not None:
            for ink, mask in zip((INK, PAPER), self.leaders, strict=True):
                frame.paste(ink, (0, 0), mask)
        draw = ImageDraw.Draw(frame)
        for (x, y), probability in zip(self.places, probabilities, strict=True):
            probability_tag(draw, (x, y), probability, self.grid.side)
            top, length = y - self.grid.above, round(probability * self.grid.side)
            if length > 0:
                draw.rectangle((x, top, x + length - 1, top + self.grid.bar - 1), fill=INK)
        return frame


def build_stage(
    frames: UInt8[Tensor, "b t c h w"],
    rest: int,
    words: Words,
    state_lines: float,
    *,
    is_square: bool,
    has_inset: bool,
) -> Stage:
    """Lays out a film.

    Args:
        frames: Every image of it, in the order of time.
        rest: Which of a panel's images is the unedited one.
        words: What is written.
        state_lines: Height of the line of the state, in lines of text.
        is_square: Whether the images stand in about as many rows as columns, or in one row.
        has_inset: Whether to magnify what changes most.
    """
    number = len(frames)
    grid = _arrange(number, frames.shape[-1], is_square=is_square, has_inset=has_inset)
    inner = max(LEAST_WIDTH_PX, grid.size[0])
    size = max(LEAST_TEXT_PX, inner // LETTERS)
    title, note = round(size * 1.25), round(size * 0.9)
    head = wrap(words.move, title, inner, bold=True, most=MOST_LINES)
    body = wrap(words.caption, size, inner, most=MOST_LINES)
    foot = wrap(f"Number and bar: probability of {words.target}", note, inner, most=MOST_LINES)

    # From top to bottom.
    state = size + len(head) * line_height(title) + len(body) * line_height(size) + size // 3
    top = state + round(state_lines * line_height(size)) + size // 2
    bottom = top + grid.size[1] + size // 2
    height = bottom + len(foot) * line_height(note) + size // 2
    mode = "L" if frames.shape[2] == 1 else "RGB"
    ground = Image.new(mode, (inner + 2 * size, height), PAPER)
    draw = ImageDraw.Draw(ground)
    y = write_lines(draw, (size, size // 2), head, title, bold=True)
    write_lines(draw, (size, y), body, size, MUTED)
    write_lines(draw, (size, bottom), foot, note, MUTED)

    places = tuple((size + x, top + y) for x, y in map(grid.place, range(number)))
    for x, y in places:
        edge = y - grid.above
        draw.rectangle((x, edge, x + grid.side - 1, edge + grid.bar - 1), fill=RULE)
    factor = grid.side // frames.shape[-1]
    insets = tuple(
        Inset(find_region(frames[i], rest), place, factor, grid.inset_place(place), grid.side)
        for i, place in enumerate(places)
        if has_inset
    )
    draw_places(ground, insets)
    seen = [inset for inset in insets if inset.region is not None]
    leaders = leader_masks(ground.size, seen) if seen else None
    return Stage(ground, (size, state, inner), size, grid, places, insets, leaders)


def _arrange(number: int, side_px: int, *, is_square: bool, has_inset: bool) -> Grid:
    """Where images of a side stand, enlarged by a whole factor if they are small."""
    side = max(1, (ONE_IMAGE_PX if number == 1 else IMAGE_PX) // side_px) * side_px
    columns = math.ceil(math.sqrt(number)) if is_square else number
    rows = math.ceil(number / columns)
    return Grid(side, columns, rows, max(6, side // 24), max(3, side // 40), has_inset)

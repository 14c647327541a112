"""Drawing with Pillow: text legible on any machine, boxes, smooth shapes, images enlarged exactly.

Text is written in DejaVu Sans, which comes with matplotlib; what it lacks (Chinese, Japanese,
Korean) in the first font of the system that has all its characters.
"""

from bisect import bisect_right
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from stylex.imaging import Picture, enlarge
from stylex.report.wording import percent

INK, MUTED, RULE, PAPER = "#1a1a1a", "#666666", "#c8c8c8", "#ffffff"
SYSTEM_FONTS = (
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "DroidSansFallbackFull.ttf",
    "wqy-zenhei.ttc",
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "msyh.ttc",
    "YuGothM.ttc",
    "malgun.ttf",
    "NotoSans-Regular.ttf",
    "Arial Unicode.ttf",
)
LONGEST_TEXT = 1000  # letters; what is longer is cut before it is measured
FINE = 4  # shapes are drawn this many times larger and reduced, for smooth edges


def to_pillow(picture: Picture, side_px: int) -> Image.Image:
    """Makes a square picture of about a size, by a whole factor.

    A smaller one is enlarged by repeated pixels and stays within the size; one of at least twice
    the size is reduced by averaging.

    Args:
        picture: The picture, grey or RGB.
        side_px: Height and width to aim for.
    """
    side = picture.shape[-1]
    array = enlarge(picture, max(1, side_px // side)).permute(1, 2, 0).contiguous().numpy()
    made = Image.fromarray(array[:, :, 0] if array.shape[2] == 1 else array)
    return made.reduce(side // side_px) if side >= 2 * side_px else made


def printable(text: str) -> str:
    """The text with spaces for line breaks and for whatever else cannot be seen."""
    return "".join(c if c.isprintable() else " " for c in text)


def text_width(text: str, size_px: int, *, bold: bool = False) -> int:
    """Width of a line of text in pixels, rounded up."""
    return round(_font_for(text, size_px, bold).getlength(text) + 0.5)


def line_height(size_px: int) -> int:
    """Distance of two lines of text in pixels."""
    return round(size_px * 1.4)


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size_px: int,
    ink: str = INK,
    *,
    bold: bool = False,
) -> None:
    """Writes one line.

    Args:
        draw: Where to write.
        place: Left end and top of the line.
        text: Any text without line breaks.
        size_px: Size of the font.
        ink: Its colour.
        bold: Whether its letters are.
    """
    baseline = place[1] + round(size_px * 1.05)
    font = _font_for(text, size_px, bold)
    draw.text((place[0], baseline), text, ink, font, anchor="ls")


def write_lines(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: list[str],
    size_px: int,
    ink: str = INK,
    *,
    bold: bool = False,
) -> int:
    """Writes lines below each other and gives the y below the last one."""
    x, y = place
    for line in lines:
        write(draw, (x, y), line, size_px, ink, bold=bold)
        y += line_height(size_px)
    return y


def wrap(
    text: str, size_px: int, width_px: int, *, bold: bool = False, most: int | None = None
) -> list[str]:
    """Breaks a caption into lines: at its dots, else between words, else inside a word.

    Args:
        text: Any text; what cannot be printed is left out.
        size_px: Size of the font.
        width_px: Widest line.
        bold: Whether the letters are.
        most: Lines at most, the last of which then ends in `...`; none allows any number.
    """
    text = printable(text[:LONGEST_TEXT])
    lines: list[str] = []
    for part in text.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines else part
        if lines and text_width(joined, size_px, bold=bold) <= width_px:
            lines[-1] = joined
        else:
            lines += _wrap_words(part, size_px, width_px, bold)
    if most is not None and len(lines) > most:
        last = cut(f"{lines[most - 1]} {lines[most]}", size_px, width_px, bold=bold)
        return [*lines[: most - 1], last]
    return lines


def cut(text: str, size_px: int, width_px: int, *, bold: bool = False) -> str:
    """Shortens a text that is too long for its place, and shows that it did."""
    if text_width(text, size_px, bold=bold) <= width_px:
        return text
    room = width_px - text_width("...", size_px, bold=bold)
    return f"{text[: _fitting(text, size_px, room, bold)].rstrip()}..."


def tag(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size_px: int,
    ink: str = "#000000",
    ground: str = PAPER,
    width_px: int | None = None,
) -> int:
    """Writes a text in a filled box and gives the x right of the box.

    Args:
        draw: Where to write.
        place: Left top corner of the box.
        text: One line.
        size_px: Size of the font.
        ink: Colour of the text.
        ground: Colour of the box.
        width_px: Width of the box, its text centred; none makes it as wide as the text needs.
    """
    x, y = place
    inner = text_width(text, size_px)
    width = width_px or inner + 2 * round(size_px * 0.35)
    height = line_height(size_px)
    draw.rectangle((x, y, x + width - 1, y + height - 1), fill=ground)
    write(draw, (x + (width - inner) // 2, y), text, size_px, ink)
    return x + width


def probability_box(side_px: int) -> tuple[int, int]:
    """Width and height of the box of `probability_tag` on an image of this side, in pixels."""
    size = _probability_px(side_px)
    return text_width(">99%", size) + size // 2, line_height(size)


def probability_tag(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], probability: float, side_px: int
) -> None:
    """Writes a probability into the corner of an image, in a white box of one width for all values.

    Args:
        draw: Where to write.
        place: Left top corner of the image.
        probability: What to write.
        side_px: Side of the image, which the text's size follows.
    """
    width, _ = probability_box(side_px)
    tag(draw, place, percent(probability), _probability_px(side_px), width_px=width)


def paint(
    picture: Image.Image,
    box: tuple[int, int, int, int],
    ink: str,
    shape: Callable[[ImageDraw.ImageDraw, int], None],
) -> None:
    """Paints a shape with smooth edges.

    Args:
        picture: Where to paint.
        box: Left, top, right and bottom of the part that the shape lies in.
        ink: Its colour.
        shape: Draws it with fill 255, in coordinates of the part times the given factor.
    """
    mask = Image.new("L", ((box[2] - box[0]) * FINE, (box[3] - box[1]) * FINE))
    shape(ImageDraw.Draw(mask), FINE)
    picture.paste(ink, box, mask.reduce(FINE))


def _probability_px(side_px: int) -> int:
    return max(12, side_px // 12)


def _wrap_words(text: str, size_px: int, width_px: int, bold: bool) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size_px, bold=bold) <= width_px:
            lines[-1] = joined
            continue
        while word:
            end = max(1, _fitting(word, size_px, width_px, bold))
            lines.append(word[:end])
            word = word[end:]
    return lines


def _fitting(text: str, size_px: int, width_px: int, bold: bool) -> int:
    """How many of the first letters fit."""
    return bisect_right(
        range(1, len(text) + 1),
        width_px,
        key=lambda end: text_width(text[:end], size_px, bold=bold),
    )


@lru_cache(maxsize=1024)
def _font_for(text: str, size_px: int, bold: bool) -> ImageFont.FreeTypeFont:
    """The first font that has all characters, or else DejaVu Sans, which shows boxes for them."""
    own = _font(_shipped_font(bold), size_px)
    assert own is not None, "matplotlib was installed without its fonts"
    if not _lacks(own, text):
        return own
    for name in SYSTEM_FONTS:
        font = _font(name, size_px)
        if font is not None and not _lacks(font, text):
            return font
    return own


def _lacks(font: ImageFont.FreeTypeFont, text: str) -> bool:
    if text.isascii():
        return False
    box = bytes(font.getmask("\uffff"))  # no character: every font shows its box for a missing one
    return any(bytes(font.getmask(c)) == box for c in set(text) if not c.isascii())


@cache
def _shipped_font(bold: bool) -> str:
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / name)


@cache
def _font(name: str, size_px: int) -> ImageFont.FreeTypeFont | None:
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None

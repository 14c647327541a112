"""Drawing with Pillow: legible text on any machine, boxes, and images enlarged without smoothing.

Pillow's own font needs no file but has ASCII letters only; another text is written in the first
system font that has all its characters, and without accents when there is none.
"""

import unicodedata
from functools import cache

from PIL import Image, ImageDraw, ImageFont

from stylex.imaging import Picture, enlarge
from stylex.report.wording import percent

INK, MUTED, RULE, PAPER = "#1a1a1a", "#666666", "#c8c8c8", "#ffffff"
SYSTEM_FONTS = (
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "Arial Unicode.ttf",
    "arial.ttf",
)
PLAIN = str.maketrans({"×": "x", "−": "-", "–": "-"})  # which Pillow's own font lacks
ARROW = "→"  # drawn, not written


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


def text_width(text: str, size_px: int) -> int:
    """Width of a line of text in pixels, rounded up."""
    font, text = _font_for(text, size_px)
    pieces = text.split(ARROW)
    return round(sum(font.getlength(p) for p in pieces) + (len(pieces) - 1) * size_px + 0.5)


def line_height(size_px: int) -> int:
    """Distance of two lines of text in pixels."""
    return round(size_px * 1.4)


def write(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size_px: int, ink: str = INK
) -> None:
    """Writes one line.

    Args:
        draw: Where to write.
        place: Left end and top of the line.
        text: Any text; `→` becomes an arrow.
        size_px: Size of the font.
        ink: Its colour.
    """
    font, text = _font_for(text, size_px)
    x, top = float(place[0]), place[1]
    baseline = top + round(size_px * 1.05)
    for i, piece in enumerate(text.split(ARROW)):
        if i:
            draw.bitmap((round(x), baseline - size_px), _arrow(size_px), ink)
            x += size_px
        draw.text((x, baseline), piece, ink, font, anchor="ls")
        x += font.getlength(piece)


def write_lines(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    lines: list[str],
    size_px: int,
    ink: str = INK,
) -> int:
    """Writes lines below each other and gives the y below the last one."""
    x, y = place
    for line in lines:
        write(draw, (x, y), line, size_px, ink)
        y += line_height(size_px)
    return y


def wrap(text: str, size_px: int, width_px: int) -> list[str]:
    """Breaks a caption into lines: at its dots, else between words; a word too long is cut."""
    lines: list[str] = []
    for part in text.split(" · "):
        joined = f"{lines[-1]} · {part}" if lines else part
        if lines and text_width(joined, size_px) <= width_px:
            lines[-1] = joined
        else:
            lines += _wrap_words(part, size_px, width_px)
    return lines


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


def _wrap_words(text: str, size_px: int, width_px: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(joined, size_px) <= width_px:
            lines[-1] = joined
        else:
            lines.append(cut(word, size_px, width_px))
    return lines


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
    size = max(12, side_px // 10)
    tag(draw, place, percent(probability), size, width_px=text_width(">99%", size) + size // 2)


def cut(text: str, size_px: int, width_px: int) -> str:
    """Shortens a text that is too long for its place, and shows that it did."""
    if text_width(text, size_px) <= width_px:
        return text
    while text and text_width(f"{text}...", size_px) > width_px:
        text = text[:-1]
    return f"{text}..."


def _font_for(text: str, size_px: int) -> tuple[ImageFont.FreeTypeFont, str]:
    """A font that has all characters, and the text as it is to be written in it."""
    own = _font(None, size_px)
    assert own is not None
    text = text.translate(PLAIN)
    needed = "".join(set(text) - {ARROW, " "})
    for name in (None, *SYSTEM_FONTS) if _lacks(own, needed) else (None,):
        font = _font(name, size_px)
        if font is not None and not _lacks(font, needed):
            return font, text
    parts = unicodedata.normalize("NFKD", text)
    return own, "".join(c for c in parts if not unicodedata.combining(c))


def _lacks(font: ImageFont.FreeTypeFont, characters: str) -> bool:
    if characters.isascii():
        return False
    box = bytes(font.getmask("\uffff"))  # no character: every font shows its box for a missing one
    return any(bytes(font.getmask(c)) == box for c in characters if not c.isascii())


@cache
def _font(name: str | None, size_px: int) -> ImageFont.FreeTypeFont | None:
    if name is None:
        font = ImageFont.load_default(size_px)
        assert isinstance(font, ImageFont.FreeTypeFont), "Pillow was built without FreeType"
        return font
    try:
        return ImageFont.truetype(name, size_px)
    except OSError:
        return None


@cache
def _arrow(size_px: int) -> Image.Image:
    """A smooth arrow in a square of the font's size, standing at the height of small letters."""
    scale = 8
    side, stroke = size_px * scale, size_px * scale / 12
    mask = Image.new("L", (side, side))
    draw = ImageDraw.Draw(mask)
    y, tip = side * 0.68, side * 0.88
    draw.rectangle((side * 0.14, y - stroke / 2, tip - stroke, y + stroke / 2), fill=255)
    draw.polygon(
        ((tip, y), (tip - side * 0.3, y - side * 0.19), (tip - side * 0.3, y + side * 0.19)),
        fill=255,
    )
    return mask.reduce(scale)

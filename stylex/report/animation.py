"""Two-frame GIFs that flicker between original and changed images.

Six hundred milliseconds a frame, images side by side, each with the target's probability in its top
left corner, as the official notebook shows them (google/explaining-in-style). Grey levels are
exact. Both frames of colour images share one palette of 256 colours, so that what does not change
does not flicker; the figures hold the exact colours.
"""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from stylex.artifacts import replacing
from stylex.imaging import Picture
from stylex.report.canvas import (
    INK,
    MUTED,
    PAPER,
    line_height,
    probability_tag,
    tag,
    text_width,
    to_pillow,
    wrap,
    write_lines,
)
from stylex.report.results import Pictures

FRAME_MS = 600
IMAGE_PX, ONE_IMAGE_PX = 160, 320  # smaller images are enlarged up to this by a whole factor
LEAST_WIDTH_PX = 480  # so that a caption has room over a single image
MARGIN_PX, GAP_PX = 10, 4


def write_animation(path: Path, pictures: Pictures, target: str, caption: str) -> None:
    """Writes the GIF; its caption is also its comment.

    Args:
        path: The file.
        pictures: Originals, changed images and probabilities.
        target: Class that the probabilities are of.
        caption: What was changed and how far.
    """
    frames = [
        draw_frame(list(pictures.unchanged), pictures.before, target, caption, is_changed=False),
        draw_frame(list(pictures.changed), pictures.after, target, caption, is_changed=True),
    ]
    if frames[0].mode == "RGB":
        frames = _share_palette(frames)
    with replacing(path) as temporary:
        frames[0].save(
            temporary,
            format="GIF",
            save_all=True,
            append_images=frames[1:],
            duration=[FRAME_MS, FRAME_MS],
            loop=0,
            optimize=False,
            comment=caption.encode(),
        )


def draw_frame(
    images: Sequence[Picture],
    probabilities: Sequence[float],
    target: str,
    caption: str,
    *,
    is_changed: bool,
) -> Image.Image:
    """Draws one frame; a GIF's two differ in images, probabilities and the word at the top left.

    Args:
        images: The images, side by side.
        probabilities: The target's, one per image.
        target: The class's name.
        caption: What was changed and how far.
        is_changed: Whether these are the changed images.
    """
    aim = max(images[0].shape[-1], ONE_IMAGE_PX if len(images) == 1 else IMAGE_PX)
    tiles = [to_pillow(image, aim) for image in images]
    side = tiles[0].width
    inner = max(LEAST_WIDTH_PX, len(tiles) * (side + GAP_PX) - GAP_PX)
    size = max(15, inner // 62)
    word_width = text_width("ORIGINAL", size) + size
    indent = MARGIN_PX + word_width + size // 2
    lines = wrap(caption, size, inner + MARGIN_PX - indent)
    legend = wrap(f"Number in the corner: probability of {target}", size - 2, inner)
    top = (
        MARGIN_PX + len(lines) * line_height(size) + len(legend) * line_height(size - 2) + size // 2
    )
    frame = Image.new(tiles[0].mode, (inner + 2 * MARGIN_PX, top + side + MARGIN_PX), PAPER)
    draw = ImageDraw.Draw(frame)
    word, ink, ground = ("CHANGED", PAPER, INK) if is_changed else ("ORIGINAL", INK, "#dddddd")
    tag(draw, (MARGIN_PX, MARGIN_PX), word, size, ink, ground, word_width)
    y = write_lines(draw, (indent, MARGIN_PX), lines, size)
    write_lines(draw, (MARGIN_PX, y + size // 4), legend, size - 2, MUTED)
    for i, (tile, probability) in enumerate(zip(tiles, probabilities, strict=True)):
        place = (MARGIN_PX + i * (side + GAP_PX), top)
        frame.paste(tile, place)
        probability_tag(draw, place, probability, side)
    return frame


def _share_palette(frames: list[Image.Image]) -> list[Image.Image]:
    width, height = frames[0].size
    both = Image.new("RGB", (width, 2 * height))
    for i, frame in enumerate(frames):
        both.paste(frame, (0, i * height))
    both = both.quantize(256, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE)
    return [both.crop((0, i * height, width, (i + 1) * height)) for i in range(2)]

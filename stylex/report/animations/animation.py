"""Animations of one edit: a flicker between two states, and a sweep through all between extremes.

In every frame an image is untouched but for the white box in its top left corner with the target's
probability, as in the paper's own animations; everything else that is drawn stands around it.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image, ImageDraw

from stylex.errors import InputError
from stylex.report.animations.canvas import (
    INK,
    MUTED,
    PAPER,
    line_height,
    paint,
    printable,
    text_width,
    write,
)
from stylex.report.animations.stage import Stage, Words, build_stage
from stylex.report.pictures import Pictures, Sweep

LAYOUTS = ("row", "square")
LEAST_MS, MOST_MS = 600, 1000  # of a flicker's frame
STEP_MS, PAUSE_MS = 60, 500  # of a sweep's frame; at its ends and at rest
ORIGINAL, MODIFIED = "ORIGINAL", "MODIFIED"
KNOB_EMS = 22  # longest knob, in sizes of the text


@dataclass(frozen=True)
class Style:
    """How animations look.

    Attributes:
        layout: All images in one `row`, or as `square` as can be: 2x2 of four.
        inset: Whether to magnify the region of each image that changes most.
        frame_ms: How long a flicker shows each state, in milliseconds: 600 to 1000.

    Raises:
        InputError: If `layout` is another, or `frame_ms` outside.
    """

    layout: str
    inset: bool
    frame_ms: int

    def __post_init__(self) -> None:
        """Checks both."""
        if self.layout not in LAYOUTS:
            raise InputError(f"report.layout must be {' or '.join(LAYOUTS)}, got '{self.layout}'")
        if not LEAST_MS <= self.frame_ms <= MOST_MS:
            raise InputError(
                f"report.frame_ms must be from {LEAST_MS} to {MOST_MS} milliseconds, got "
                f"{self.frame_ms}"
            )


@dataclass(frozen=True)
class Film:
    """Frames of one size, to be repeated for ever.

    Attributes:
        frames: Grey or RGB, the first to the last.
        durations_ms: How long each is shown, in milliseconds.
        caption: What it shows, in words.
    """

    frames: tuple[Image.Image, ...]
    durations_ms: tuple[int, ...]
    caption: str


def flicker(pictures: Pictures, move: str, caption: str, target: str, style: Style) -> Film:
    """Two frames, ORIGINAL and MODIFIED.

    Args:
        pictures: Originals, changed images and probabilities.
        move: From which class to which, such as `Pullover → Coat`.
        caption: What was changed and how far, or what people call it.
        target: Class that the probabilities are of.
        style: How it looks.
    """
    frames = torch.stack((pictures.unchanged, pictures.changed), dim=1)
    stage = build_stage(
        frames,
        0,
        Words(move, caption, target),
        1.0,
        is_square=style.layout == "square",
        has_inset=style.inset,
    )
    made = []
    states = ((ORIGINAL, pictures.before), (MODIFIED, pictures.after))
    for i, (word, shares) in enumerate(states):
        frame = stage.frame(list(frames[:, i]), shares)
        _write_state(frame, stage, word)
        made.append(frame)
    return Film(tuple(made), (style.frame_ms,) * 2, printable(f"{move} · {caption}"))


def sweep(
    swept: Sweep, target_index: int, move: str, caption: str, target: str, style: Style
) -> Film:
    """A knob turned from one extreme to the other and back; the ends are not doubled.

    Args:
        swept: Images at every position of the knob, and probabilities of all classes.
        target_index: Class that the probabilities shown are of.
        move: From which class to which, such as `Pullover → Coat`.
        caption: What was changed and how far, or what people call it.
        target: The class's name.
        style: How it looks; `frame_ms` is a flicker's.
    """
    stage = build_stage(
        swept.frames,
        swept.rest,
        Words(move, caption, target),
        1.6,
        is_square=style.layout == "square",
        has_inset=style.inset,
    )
    shares = swept.probabilities[:, :, target_index].t().tolist()
    there = []
    for i, position in enumerate(swept.positions):
        frame = stage.frame(list(swept.frames[:, i]), shares[i])
        _draw_knob(frame, stage, swept.positions, position)
        there.append(frame)
    last = len(there) - 1
    order = [*range(last + 1), *range(last - 1, 0, -1)]
    durations = [PAUSE_MS if i in (0, swept.rest, last) else STEP_MS for i in order]
    return Film(tuple(there[i] for i in order), tuple(durations), printable(f"{move} · {caption}"))


def _write_state(frame: Image.Image, stage: Stage, word: str) -> None:
    """Writes a word: dark on light for the original, light on dark for what was modified."""
    x, y, _ = stage.state
    size = stage.text_px
    width = max(text_width(w, size, bold=True) for w in (ORIGINAL, MODIFIED)) + size
    draw = ImageDraw.Draw(frame)
    ink, ground = (PAPER, INK) if word == MODIFIED else (INK, PAPER)
    box = (x, y, x + width - 1, y + line_height(size) - 1)
    draw.rectangle(box, fill=ground, outline=INK)
    left = x + (width - text_width(word, size, bold=True)) // 2
    write(draw, (left, y), word, size, ink, bold=True)


def _draw_knob(
    frame: Image.Image, stage: Stage, positions: Sequence[float], position: float
) -> None:
    """Draws a line with ticks at whole positions and a dot where the knob is."""
    x, y, room = stage.state
    size = stage.text_px
    small, radius = round(size * 0.8), size * 0.42
    low, high = positions[0], max(positions[-1], positions[0] + 1e-6)
    start, length = x + size, min(room, KNOB_EMS * size) - 2 * size
    middle = size * 0.5
    draw = ImageDraw.Draw(frame)

    def across(at: float) -> float:
        return start + length * (at - low) / (high - low)

    for tick in range(-round(-low), int(high) + 1):
        at, label = round(across(tick)), f"{tick:+d}".replace("-", "−") if tick else "0"
        draw.line((at, y + size // 5, at, y + size - size // 5), MUTED)
        width = text_width(label, small)
        write(draw, (at - width // 2, y + size), label, small, MUTED)
    track = round(y + middle)
    draw.line((start, track, start + length, track), MUTED, width=max(1, size // 10))
    box = (x - size, y - size, x + room + size, y + 2 * size)

    def dot(draw: ImageDraw.ImageDraw, fine: int) -> None:
        centre, level = (across(position) + 0.5 - box[0]) * fine, (middle + 0.5 + size) * fine
        reach = radius * fine
        draw.ellipse((centre - reach, level - reach, centre + reach, level + reach), fill=255)

    paint(frame, box, INK, dot)

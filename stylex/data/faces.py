"""Drawn faces: fifteen independent factors, from skin tone to hat."""

from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.data.drawing import Canvas, Colour, both, either, mix, ring
from stylex.data.drawn import DrawnSet, Factor, Given, Values

_FRAME = (0.12, 0.13, 0.20)
_LEAST_CONTRAST = 0.12  # of two colours, in the largest channel, to be told apart


class Faces(DrawnSet):
    """Faces from the front, turned a little, in one of two villages.

    Arguments and errors are those of `DrawnSet`.
    """

    FACTORS: ClassVar = (
        Factor("skin_tone"),  # light to dark
        Factor("hair_colour"),  # black over brown to blond
        Factor("hair_length"),  # above the ears to the shoulders
        Factor("glasses", is_binary=True),
        Factor("beard", is_binary=True),
        Factor("mouth_opening"),  # closed to wide
        Factor("smile"),  # corners down to up
        Factor("eye_size"),
        Factor("eyebrow_thickness"),
        Factor("nose_width"),
        Factor("face_width"),
        Factor("hat", is_binary=True),
        Factor("background"),  # blue over green to rose
        Factor("shirt"),  # dark blue to light yellow
        Factor("pose"),  # turned to the left to turned to the right
    )
    CLASSES: ClassVar = ("Alder", "Birch")

    def paint(self, given: Given, size: int) -> Canvas:
        """Paints faces back to front: what hides comes later."""
        skin, hair = _skin(given["skin_tone"]), _hair(given["hair_colour"])
        background = mix(
            given["background"], (0.55, 0.72, 0.90), (0.62, 0.84, 0.62), (0.95, 0.70, 0.72)
        )
        canvas = Canvas(background, size)
        turn = (given["pose"] - 0.5) * 0.2  # of the features; the head itself moves less
        width = 0.46 + 0.16 * given["face_width"]
        head = canvas.ellipse(0.3 * turn, 0.08, width, 0.66)
        _paint_body(canvas, given, skin)
        _paint_hair_behind(canvas, given, hair, width, turn)
        for side in (-1.0, 1.0):
            canvas.paint(canvas.ellipse(0.3 * turn + side * width, 0.08, 0.09, 0.13), skin * 0.92)
        canvas.paint(head, skin)
        _paint_beard(canvas, given, hair, head, turn)
        _paint_fringe(canvas, hair, head, turn)
        _paint_mouth(canvas, given, turn)
        _paint_nose(canvas, given, skin, turn)
        _paint_eyes(canvas, given, hair, turn)
        _paint_hat(canvas, given, width, turn)
        return canvas

    def seen(self, values: Values) -> Bool[Tensor, "n f"]:
        """Beard and eyebrows need contrast with the skin, hair colour hair outside a hat."""
        given = self.named(values)
        contrast = (_dark(_hair(given["hair_colour"])) - _skin(given["skin_tone"])).abs()
        stands_out = contrast.amax(dim=1) > _LEAST_CONTRAST
        seen = {name: torch.ones(len(values), dtype=torch.bool) for name in given}
        seen["beard"] = seen["eyebrow_thickness"] = stands_out
        seen["hair_colour"] = (given["hat"] < 0.5) | (given["hair_length"] > 0.15)
        return torch.stack(list(seen.values()), dim=1)


def _skin(tone: Tensor) -> Colour:
    return mix(tone, (0.99, 0.86, 0.76), (0.80, 0.58, 0.42), (0.45, 0.29, 0.21))


def _hair(colour: Tensor) -> Colour:
    return mix(colour, (0.12, 0.10, 0.11), (0.48, 0.27, 0.14), (0.95, 0.80, 0.42))


def _dark(hair: Colour) -> Colour:
    """Hair's colour in brows and beard."""
    return 0.62 * hair


def _paint_body(canvas: Canvas, given: Given, skin: Colour) -> None:
    canvas.paint(canvas.box(0.0, 0.75, 0.17, 0.3, 0.05), skin * 0.85)  # neck
    shirt = mix(given["shirt"], (0.16, 0.22, 0.42), (0.93, 0.88, 0.60))
    canvas.paint(canvas.ellipse(0.0, 1.22, 0.80, 0.40), shirt)


def _paint_hair_behind(
    canvas: Canvas, given: Given, hair: Colour, width: Tensor, turn: Tensor
) -> None:
    top = canvas.ellipse(0.3 * turn, -0.08, width + 0.13, 0.72)
    bottom = 0.0 + 0.95 * given["hair_length"]
    sides = canvas.box(0.3 * turn, bottom / 2 - 0.1, width + 0.13, bottom / 2 + 0.1, 0.12)
    canvas.paint(either(both(top, canvas.above(0.0)), sides), hair)


def _paint_fringe(canvas: Canvas, hair: Colour, head: Tensor, turn: Tensor) -> None:
    forehead = canvas.ellipse(0.8 * turn, 0.26, 0.62, 0.66)
    canvas.paint(both(head - 0.04, -forehead, canvas.above(0.0)), hair)


def _paint_beard(canvas: Canvas, given: Given, hair: Colour, head: Tensor, turn: Tensor) -> None:
    cheeks = canvas.ellipse(0.8 * turn, 0.06, 0.40, 0.30)
    beard = both(head, -cheeks, canvas.below(0.18))
    canvas.paint(beard, _dark(hair), given["beard"])


def _paint_mouth(canvas: Canvas, given: Given, turn: Tensor) -> None:
    bend = -0.07 + 0.22 * given["smile"]
    opening = 0.01 + 0.12 * given["mouth_opening"]
    y = 0.46 - bend / 2
    ends = (turn - 0.19, y, turn + 0.19, y)
    canvas.paint(canvas.stroke(ends, opening + 0.035, bend), (0.80, 0.32, 0.33))
    canvas.paint(canvas.stroke(ends, opening, bend), (0.25, 0.05, 0.08))


def _paint_nose(canvas: Canvas, given: Given, skin: Colour, turn: Tensor) -> None:
    width = 0.05 + 0.15 * given["nose_width"]
    canvas.paint(canvas.ellipse(1.2 * turn, 0.20, width, 0.075), skin * 0.72)
    canvas.paint(canvas.stroke((turn, -0.02, 1.2 * turn, 0.16), 0.02), skin * 0.86)


def _paint_eyes(canvas: Canvas, given: Given, hair: Colour, turn: Tensor) -> None:
    size, thick = 0.075 + 0.085 * given["eye_size"], 0.015 + 0.06 * given["eyebrow_thickness"]
    for side in (-1.0, 1.0):
        x = turn + side * 0.235
        canvas.paint(canvas.ellipse(x, -0.06, size * 1.15, size), (0.98, 0.98, 0.97))
        canvas.paint(
            canvas.ellipse(x + 0.15 * turn, -0.06, size * 0.55, size * 0.6), (0.13, 0.12, 0.16)
        )
        brow = canvas.stroke((x - 0.13, -0.29, x + 0.13, -0.29), thick, -0.05)
        canvas.paint(brow, _dark(hair))
        lens = canvas.box(x, -0.05, 0.19, 0.165, 0.07)
        canvas.paint(lens, (0.85, 0.93, 1.0), 0.25 * given["glasses"])
        canvas.paint(ring(lens, 0.035), _FRAME, given["glasses"])
    bridge = canvas.stroke((turn - 0.06, -0.08, turn + 0.06, -0.08), 0.035)
    canvas.paint(bridge, _FRAME, given["glasses"])


def _paint_hat(canvas: Canvas, given: Given, width: Tensor, turn: Tensor) -> None:
    x = 0.3 * turn
    crown = canvas.box(x, -0.80, width + 0.06, 0.36, 0.18)
    canvas.paint(crown, (0.58, 0.16, 0.24), given["hat"])
    canvas.paint(canvas.box(x, -0.50, width + 0.08, 0.055), (0.93, 0.86, 0.72), given["hat"])
    canvas.paint(canvas.box(x, -0.43, width + 0.26, 0.055, 0.05), (0.46, 0.11, 0.18), given["hat"])

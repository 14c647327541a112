"""Drawn leaves: eighteen independent factors, from the blade's green to a ladybird."""

from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.data.drawing import Canvas, Plane, Shape, both, column, either, mix
from stylex.data.drawn import DrawnSet, Factor, Given, Values

_BASE = 0.45  # height at which the stem meets the blade


class Leaves(DrawnSet):
    """One leaf with its stem, tip upwards, on soil, paper or sky.

    Arguments and errors are those of `DrawnSet`.
    """

    FACTORS: ClassVar = (
        Factor("green"),  # dark and bluish to fresh and light
        Factor("width"),
        Factor("length"),
        Factor("tip"),  # round to sharp
        Factor("lobes"),  # smooth margin to deep lobes
        Factor("bend"),  # of the midrib: to the left to to the right
        Factor("veins"),  # hardly there to bright
        Factor("stem"),  # short to long
        Factor("tilt"),  # of the whole leaf: to the left to to the right
        Factor("background"),  # brown soil over paper to blue sky
        Factor("shadow"),  # lies flat to floats high
        Factor("yellowing"),  # none to half of the blade, from the tip
        Factor("brown_edge"),  # none to wide
        Factor("spots"),  # none to eight, dark
        Factor("mildew", is_binary=True),  # white film
        Factor("bite", is_binary=True),  # an insect's, out of the right margin
        Factor("dew", is_binary=True),  # three drops
        Factor("ladybird", is_binary=True),
    )
    CLASSES: ClassVar = ("healthy", "sick")

    def paint(self, given: Given, size: int) -> Canvas:
        """Paints leaves back to front: what hides comes later."""
        background = mix(
            given["background"], (0.46, 0.38, 0.31), (0.95, 0.92, 0.85), (0.60, 0.80, 0.97)
        )
        canvas = Canvas(background, size)
        high = 0.03 + 0.25 * given["shadow"]
        shade = _Leaf(canvas.moved(0.7 * high, high), given)
        canvas.paint(either(shade.blade, shade.stem), (0.05, 0.05, 0.10), 0.55, blur=0.06)
        leaf = _Leaf(canvas, given)
        green = mix(given["green"], (0.07, 0.34, 0.29), (0.22, 0.50, 0.20), (0.55, 0.76, 0.26))
        canvas.paint(leaf.stem, (0.52, 0.08, 0.20))
        canvas.paint(leaf.blade, green)
        _paint_yellowing(canvas, leaf, given)
        _paint_brown_edge(canvas, leaf, given)
        canvas.paint(both(leaf.blade, -leaf.along.x), (0.0, 0.05, 0.08), 0.13)  # the half in shade
        _paint_veins(canvas, leaf, given)
        _paint_mildew(canvas, leaf, given)
        _paint_spots(canvas, leaf, given)
        _paint_dew(canvas, leaf, given)
        _paint_ladybird(canvas, leaf, given)
        return canvas

    def seen(self, values: Values) -> Bool[Tensor, "n f"]:
        """Green and yellow need blade that a wide brown edge leaves, and each a part of it."""
        given = self.named(values)
        seen = {name: torch.ones(len(values), dtype=torch.bool) for name in given}
        narrow = given["brown_edge"] > 0.6
        seen["green"] = ~(narrow & (given["yellowing"] > 0.6))
        seen["yellowing"] = ~(narrow & (given["tip"] > 0.6))  # a sharp tip is all edge
        return torch.stack(list(seen.values()), dim=1)


class _Leaf:
    """The shapes of leaves and the plane along their midribs.

    Attributes:
        along: x across the midrib, y up from the base; what grows on a blade is measured here.
        whole: The blade before an insect came.
        blade: What is left of it.
        stem: From the base downwards.
    """

    def __init__(self, plane: Plane, given: Given) -> None:
        self.length = 0.95 + 0.42 * given["length"]
        self.width = 0.34 + 0.36 * given["width"]  # half of it, where it is widest
        self._sharp = 0.45 + 0.95 * given["tip"]
        self._lobes = 0.42 * given["lobes"]
        turned = plane.turned(1.1 * (given["tilt"] - 0.5)).moved(0.0, _BASE)
        self.along = self._bent(turned, 0.44 * (given["bend"] - 0.5))
        self.whole = self._outline()
        bites = [
            self.disc(across, height, size)
            for across, height, size in ((1.02, 0.29, 0.40), (0.92, 0.43, 0.48), (1.02, 0.57, 0.40))
        ]
        gone = either(*bites) + 9 * column(1 - given["bite"])
        self.blade = both(self.whole, -gone)
        self.stem = self.along.stroke((0.0, 0.05, 0.0, -0.07 - 0.43 * given["stem"]), 0.042)

    def half_width(self, height: Tensor) -> Tensor:
        """Half width without lobes at a height in (0, 1), which is 1 at the tip."""
        low, sharp = 0.62, column(self._sharp)
        top = low / (low + sharp)  # where it is widest
        most = top**low * (1 - top) ** sharp
        return column(self.width) * height**low * (1 - height) ** sharp / most

    def place(self, across: float, height: float) -> tuple[Tensor, Tensor]:
        """A point by its shares of the half width, to the right, and of the length."""
        width = self.half_width(torch.tensor(height).reshape(1, 1, 1)).flatten()
        return across * width, height * self.length

    def disc(self, across: float, height: float, size: float) -> Shape:
        """A round shape at a place, its radius a share of the blade's half width."""
        return self.along.ellipse(*self.place(across, height), size * self.width, size * self.width)

    def _bent(self, plane: Plane, bend: Tensor) -> Plane:
        """The plane along a bow from base to tip; the stem stays straight."""
        up, length, bend = -plane.y, column(self.length), column(bend)
        height = (up / length).clamp(min=0)
        bow = bend * (4 * height * (1 - height) - 0.5)
        slope = 4 * bend * (1 - 2 * height) / length * (up > 0)
        return Plane((plane.x - bow) / (1 + slope.square()).sqrt(), up)

    def _outline(self) -> Shape:
        length, lobes = column(self.length), column(self._lobes)
        height = (self.along.y / length).clamp(1e-3, 1 - 1e-3)
        phase = 2 * torch.pi * 3 * height
        cut = 1 - lobes * (0.5 - 0.5 * phase.cos())
        plain = self.half_width(height)
        slope = plain * (
            cut * (0.62 / height - column(self._sharp) / (1 - height))
            - lobes * torch.pi * 3 * phase.sin()
        )
        sides = (self.along.x.abs() - plain * cut) / (
            1 + (slope / length).clamp(-4, 4).square()
        ).sqrt()
        return both(sides, -self.along.y, self.along.y - length)


def _paint_yellowing(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    reach = column(leaf.length * (1.08 - 0.66 * given["yellowing"]))
    line = reach - leaf.along.y - 0.35 * leaf.along.x.abs()
    canvas.paint(_within(leaf.blade, line, 0.22, canvas), (0.98, 0.84, 0.22))


def _paint_brown_edge(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    width = (0.06 + 0.32 * given["brown_edge"]) * leaf.width
    edge = both(leaf.blade, -leaf.whole - column(width))
    canvas.paint(edge, (0.60, 0.27, 0.08), (8 * given["brown_edge"]).clamp(max=1))


def _paint_veins(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    x, y = leaf.along.x, leaf.along.y
    apart = 0.23
    place = (y - 0.75 * x.abs()) / apart
    side = (place - place.round()).abs() * apart / 1.25 - 0.014
    rib = x.abs() - 0.012 - 0.022 * (1 - y / column(leaf.length))
    inner = leaf.whole + 0.04
    colour = (0.94, 0.97, 0.74)
    canvas.paint(both(leaf.blade, side, inner), colour, 0.9 * given["veins"])
    canvas.paint(both(leaf.blade, rib), colour, 0.35 + 0.6 * given["veins"])


def _paint_mildew(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    white = (0.96, 0.97, 0.98)
    for place in ((-0.50, 0.33, 0.36), (-0.28, 0.55, 0.26), (0.45, 0.20, 0.24), (0.30, 0.70, 0.24)):
        film = _within(leaf.blade, leaf.disc(*place), 0.09, canvas)
        canvas.paint(film, white, 0.85 * given["mildew"])


def _paint_spots(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    places = (
        (-0.55, 0.26),
        (0.22, 0.68),
        (0.50, 0.17),
        (-0.32, 0.64),
        (0.20, 0.42),
        (-0.62, 0.45),
        (0.0, 0.84),
    )
    for i, (across, height) in enumerate(places):
        grown = (len(places) * given["spots"] - i).clamp(0, 1)  # one after the other
        x, y = leaf.place(across, height)
        radius = (0.02 + 0.05 * grown) * (leaf.width / 0.5).sqrt()
        spot = both(leaf.blade, leaf.along.ellipse(x, y, radius, radius))
        halo = both(leaf.blade, spot - 0.028)
        canvas.paint(halo, (0.93, 0.84, 0.52), 0.75 * grown)
        canvas.paint(spot, (0.20, 0.05, 0.09), grown)


def _paint_dew(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    for across, height, size in ((-0.30, 0.50, 1.0), (0.36, 0.56, 0.85), (-0.22, 0.32, 0.8)):
        x, y = leaf.place(across, height)
        radius = 0.11 * size * (leaf.width / 0.5).sqrt()
        for shift, share, colour in (
            (0.0, 1.0, (0.16, 0.42, 0.62)),
            (0.15, 0.80, (0.62, 0.86, 0.98)),
            (0.40, 0.35, (1.0, 1.0, 1.0)),
        ):
            drop = leaf.along.ellipse(
                x - shift * radius, y + shift * radius, share * radius, share * radius
            )
            canvas.paint(drop, colour, 0.95 * given["dew"])


def _paint_ladybird(canvas: Canvas, leaf: _Leaf, given: Given) -> None:
    x, y = leaf.place(0.0, 0.16)
    there, black = given["ladybird"], (0.08, 0.06, 0.07)
    plane = leaf.along.moved(x, y)
    canvas.paint(plane.ellipse(0.0, 0.11, 0.06, 0.05), black, there)
    canvas.paint(plane.ellipse(0.0, 0.0, 0.115, 0.125), (0.86, 0.10, 0.10), there)
    canvas.paint(plane.stroke((0.0, -0.11, 0.0, 0.11), 0.012), black, there)
    for side in (-1.0, 1.0):
        for height in (-0.045, 0.045):
            canvas.paint(plane.ellipse(0.055 * side, height, 0.022, 0.022), black, there)


def _within(blade: Shape, shape: Shape, blur: float, canvas: Canvas) -> Shape:
    """A shape with a soft edge inside the blade with a sharp one."""
    return both(blade, shape * canvas.pixel / max(canvas.pixel, blur))

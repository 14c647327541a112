"""Anti-aliased drawing of a batch of pictures by signed distances, in plain torch.

A picture spans [-1, 1] in x (to the right) and y (downwards). A shape is the signed distance of
every pixel's centre to its edge, negative inside, [b s s]; parameters are numbers or one value a
picture, [b]. Source of the idea: distance fields as coverage; the formulas are elementary geometry.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.types import Images

Shape = Float[Tensor, "#b s s"]  # one for all pictures, or one each
Colour = Float[Tensor, "b 3"]
Number = Tensor | float


class Plane:
    """Where every pixel's centre lies, from which shapes are measured.

    Attributes:
        x: To the right, [1 1 s] or [b s s].
        y: Downwards, [1 s 1] or [b s s].
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x, self.y = x, y

    def moved(self, x: Number, y: Number) -> "Plane":
        """A plane whose shapes are moved by (x, y)."""
        return Plane(self.x - column(x), self.y - column(y))

    def turned(self, angle: Number) -> "Plane":
        """A plane whose shapes are turned clockwise about its centre, in radians."""
        cos, sin = column(angle).cos(), column(angle).sin()
        return Plane(self.x * cos + self.y * sin, self.y * cos - self.x * sin)

    def ellipse(self, x: Number, y: Number, width: Number, height: Number) -> Shape:
        """An ellipse by its centre and half axes; the distance is exact to first order."""
        dx, dy = self.x - column(x), self.y - column(y)
        a, b = column(width), column(height)
        inner = ((dx / a).square() + (dy / b).square()).sqrt()
        slope = ((dx / a**2).square() + (dy / b**2).square()).sqrt()
        return inner * (inner - 1) / slope.clamp(min=1e-6)

    def box(
        self, x: Number, y: Number, width: Number, height: Number, corner: Number = 0.0
    ) -> Shape:
        """A rounded box by its centre, half sides and corner radius."""
        dx = (self.x - column(x)).abs() - column(width) + column(corner)
        dy = (self.y - column(y)).abs() - column(height) + column(corner)
        outside = (dx.clamp(min=0).square() + dy.clamp(min=0).square()).sqrt()
        return outside + torch.maximum(dx, dy).clamp(max=0) - column(corner)

    def stroke(
        self, ends: tuple[Number, Number, Number, Number], radius: Number, bend: Number = 0.0
    ) -> Shape:
        """A line from (x0, y0) to (x1, y1) with round ends; `bend` lowers its middle."""
        x0, y0, x1, y1 = (column(end) for end in ends)
        along = ((self.x - x0) * (x1 - x0) + (self.y - y0) * (y1 - y0)) / (
            (x1 - x0).square() + (y1 - y0).square()
        )
        along = along.clamp(0, 1)
        dx = self.x - (x0 + along * (x1 - x0))
        dy = self.y - (y0 + along * (y1 - y0)) - column(bend) * 4 * along * (1 - along)
        return (dx.square() + dy.square()).sqrt() - column(radius)

    def below(self, y: Number) -> Shape:
        """The half plane under a height."""
        return (column(y) - self.y).expand(-1, -1, self.x.shape[2])

    def above(self, y: Number) -> Shape:
        """The half plane over a height."""
        return -self.below(y)


class Canvas(Plane):
    """Pictures that are painted back to front.

    Attributes:
        pixels: Red, green and blue in [0, 1], [b 3 s s].
        pixel: Side of a pixel.
    """

    def __init__(self, background: Colour, size: int) -> None:
        centres = (torch.arange(size) + 0.5) * (2 / size) - 1
        super().__init__(centres.view(1, 1, size), centres.view(1, size, 1))
        self.pixels = background[:, :, None, None].expand(-1, 3, size, size)
        self.pixel = 2 / size

    def paint(
        self,
        shape: Shape,
        colour: Float[Tensor, "m 3"] | Sequence[float],
        opacity: Number = 1.0,
        blur: float = 0.0,
    ) -> None:
        """Paints a shape over what is there; its edge covers a pixel in part.

        Args:
            shape: What is painted.
            colour: Red, green and blue in [0, 1].
            opacity: 1 hides what is there, 0 nothing.
            blur: Width of the edge where it is more than a pixel.
        """
        over = torch.as_tensor(colour, dtype=torch.float32).reshape(-1, 3, 1, 1)
        share = (0.5 - shape / max(self.pixel, blur)).clamp(0, 1) * column(opacity)
        self.pixels = self.pixels + share[:, None] * (over - self.pixels)

    def images(self) -> Images:
        """The pictures in [-1, 1]."""
        return (self.pixels * 2 - 1).clamp(-1, 1)


def column(value: Number) -> Float[Tensor, "b 1 1"]:
    """One value a picture, as it meets pixels."""
    return torch.as_tensor(value, dtype=torch.float32).reshape(-1, 1, 1)


def both(*shapes: Shape) -> Shape:
    """What lies in all shapes."""
    result = shapes[0]
    for shape in shapes[1:]:
        result = torch.maximum(result, shape)
    return result


def either(*shapes: Shape) -> Shape:
    """What lies in any shape."""
    return -both(*(-shape for shape in shapes))


def ring(shape: Shape, radius: Number) -> Shape:
    """A shape's outline, twice the radius thick."""
    return shape.abs() - column(radius)


def mix(share: Float[Tensor, " b"], *colours: Sequence[float]) -> Colour:
    """Colours between some, evenly spaced: share 0 is the first, share 1 the last."""
    stops = torch.tensor(colours)
    place = share.clamp(0, 1) * (len(colours) - 1)
    lower = place.floor().clamp(max=len(colours) - 2).long()
    return stops[lower].lerp(stops[lower + 1], (place - lower)[:, None])

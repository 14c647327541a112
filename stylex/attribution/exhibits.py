"""What the methods of the wing give: maps, pictures, tables.

A method is a function `(classifier, images, targets) -> Maps | Pictures | Table`, or a tuple of
several of these; all its other arguments are bound by its configuration.
"""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from stylex.types import Images

Maps = Float[Tensor, "b h w"]  # one value per pixel of each image, in the image's own resolution
Cell = str | int | float | None  # None: not measurable


@dataclass(frozen=True)
class Pictures:
    """Images with what is written below each.

    Attributes:
        images: In [-1, 1], all of one size.
        captions: One per image; may be empty strings.
        columns: How many stand side by side.
    """

    images: Images
    captions: tuple[str, ...]
    columns: int


@dataclass(frozen=True)
class Table:
    """Numbers side by side.

    Attributes:
        columns: Headings, the first of the rows' names.
        rows: As many cells as headings; shares in [0, 1].
        reading: One sentence on how to read it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    reading: str


Exhibit = Maps | Pictures | Table

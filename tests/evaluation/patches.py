"""A drawn family of three squares, whose factors anyone can read from three pixels."""

from typing import Any, ClassVar

import torch
from torch import Tensor

from stylex.data.drawing import Canvas
from stylex.data.drawn import DrawnSet, Factor, Given, Values
from stylex.types import Images


class Patches(DrawnSet):
    """One square of the picture a factor; its brightness is the factor's value."""

    FACTORS: ClassVar = (Factor("left"), Factor("right"), Factor("lamp", is_binary=True))
    CLASSES: ClassVar = ("dark", "bright")

    def paint(self, given: Given, size: int) -> Canvas:
        canvas = Canvas(torch.full((len(given["left"]), 3), 0.5), size)
        for name, (x, y) in zip(given, ((-0.5, -0.5), (0.5, -0.5), (0.5, 0.5)), strict=True):
            canvas.paint(canvas.box(x, y, 0.5, 0.5), given[name][:, None].expand(-1, 3))
        return canvas

    def seen(self, values: Values) -> Tensor:
        return torch.ones(len(values), len(self.factors), dtype=torch.bool)


def patches(**changed: Any) -> Patches:
    settings = {
        "split": "test",
        "resolution": 32,
        "channels": 3,
        "rule": {"left": 1.0},
        "noise": 0.0,
        "planted": None,
        "num_images": {"test": 10},
        "seed": 0,
    }
    return Patches(**{**settings, **changed})


def read_patches(images: Images) -> Tensor:
    """The values of the three factors, from the pixels."""
    return (images[:, 0, [0, 0, -1], [0, -1, -1]] + 1) / 2


def linear(weights: list[float]) -> Any:
    """A classifier of two classes whose log odds are a weighted sum of the factors."""

    def classify(images: Images) -> Tensor:
        score = read_patches(images) @ torch.tensor(weights)
        return torch.stack((-score / 2, score / 2), dim=1)

    return classify

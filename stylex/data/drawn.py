"""Drawn image sets, whose factors are all known, with labels by a stated rule over some of them.

What a classifier trained on such labels decides by can be measured by drawing the same picture
with one factor changed; see `stylex.evaluation.reliance`.
"""

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.data.datasets import ImageSet, check_form
from stylex.data.drawing import Canvas, ring
from stylex.errors import InputError
from stylex.imaging import from_uint8, to_uint8
from stylex.types import Images, Labels

Values = Float[Tensor, "n f"]
Given = dict[str, Float[Tensor, " n"]]  # the same by the factors' names
MARK = "watermark"  # the factor that a shortcut plants
_SPLITS = {"train": 0, "validation": 1, "test": 2}


@dataclass(frozen=True)
class Factor:
    """One thing that differs between drawings.

    Attributes:
        name: As rules and tables call it.
        is_binary: Whether it is there or not; else its value is uniform in [0, 1].
    """

    name: str
    is_binary: bool = False

    @property
    def spread(self) -> float:
        """Standard deviation of its values: of a fair coin, or of the uniform distribution."""
        return 0.5 if self.is_binary else 12**-0.5


class DrawnSet(ImageSet):
    """Drawings with independent factors, two classes, and a stated rule with noise.

    A drawing's score is Σ weight · (value − ½) / spread over the rule's factors, plus normal
    noise; above 0 it belongs to the second class. Everything follows from the seed, the split and
    the position, so that a smaller set is the beginning of a larger one.

    Attributes:
        factors: All factors, in the order of `values`.
        values: Of every image: 0 or 1 for binary factors, in [0, 1] for others.
    """

    FACTORS: ClassVar[tuple[Factor, ...]]
    CLASSES: ClassVar[tuple[str, str]]

    def __init__(
        self,
        *,
        split: str,
        resolution: int,
        channels: int,
        rule: Mapping[str, float],
        noise: float,
        planted: float | None,
        num_images: Mapping[str, int],
        seed: int,
    ) -> None:
        """Draws the factors of a split.

        Args:
            split: "train", "validation" or "test".
            resolution: Height and width of the images, a power of two from 32 to 1024, in pixels.
            channels: 3; 1 gives grey drawings.
            rule: Weight of each factor that decides the class.
            noise: Standard deviation of the noise in the rule, in the unit of the score.
            planted: Share of the second class, and of the first 1 less it, that carries a
                watermark; none for no watermark at all.
            num_images: Of every split.
            seed: Another seed gives other drawings.

        Raises:
            InputError: If an argument is out of range or the rule names no factor.
        """
        check_form(split, resolution, channels)
        self.factors = self.factors_with(planted is not None)
        known = [factor.name for factor in self.FACTORS]
        for name in rule:
            if name not in known:
                raise InputError(f"a rule's factors must be among {', '.join(known)}, got '{name}'")
        if not rule or noise < 0 or (planted is not None and not 0.5 <= planted <= 1):
            raise InputError(
                "a rule needs factors, noise of at least 0 and planted in [0.5, 1] or null, got "
                f"{len(rule)} factors, {noise} and {planted}"
            )
        self.rule, self.noise, self.planted, self.seed = dict(rule), noise, planted, seed
        random = torch.Generator().manual_seed(seed * 3 + _SPLITS[split])
        count = num_images[split]
        drawn = torch.rand(count, len(self.FACTORS) + 2, generator=random)
        self.values = self.spread_out(drawn[:, : len(self.FACTORS)])
        # Normal by the quantile function, so that an image's noise does not depend on the others.
        errors = torch.special.ndtri(drawn[:, -2].double().clamp(1e-7, 1 - 1e-7)).float()
        labels = (self.scores(self.values) + noise * errors > 0).long()
        if planted is not None:
            carries = torch.where(labels == 1, planted, 1 - planted) > drawn[:, -1]
            self.values = torch.cat((self.values, carries[:, None].float()), dim=1)
        super().__init__(
            class_names=self.CLASSES,
            labels=labels,
            split=split,
            resolution=resolution,
            channels=channels,
        )

    @classmethod
    def factors_with(cls, watermark: bool) -> tuple[Factor, ...]:
        """All factors of a family, the watermark last if there is one."""
        return (*cls.FACTORS, Factor(MARK, is_binary=True)) if watermark else cls.FACTORS

    @classmethod
    def spread_out(cls, uniform: Values) -> Values:
        """Values from uniform numbers in [0, 1): binary factors are 1 above one half."""
        binary = torch.tensor([factor.is_binary for factor in cls.FACTORS])
        return torch.where(binary, (uniform >= 0.5).float(), uniform)

    def scores(self, values: Values) -> Float[Tensor, " n"]:
        """The rule without its noise; the watermark has no part in it."""
        total = torch.zeros(len(values))
        for i, factor in enumerate(self.FACTORS):
            total += self.rule.get(factor.name, 0.0) * (values[:, i] - 0.5) / factor.spread
        return total

    def sample(self, count: int, seed: int) -> Values:
        """Values of new drawings, all factors independent, the watermark too.

        Args:
            count: Number of drawings.
            seed: Of the values; they are none of any split.
        """
        random = torch.Generator().manual_seed(2**40 + seed)
        values = self.spread_out(torch.rand(count, len(self.FACTORS), generator=random))
        if self.planted is not None:
            mark = torch.randint(2, (count, 1), generator=random).float()
            values = torch.cat((values, mark), dim=1)
        return values

    def draw(self, values: Values) -> Images:
        """Drawings of some values, in [-1, 1], at the set's resolution and channels."""
        given = self.named(values)
        canvas = self.paint(given, self.resolution)
        if MARK in given:
            _paint_watermark(canvas, given[MARK])
        images = canvas.images()
        if self.channels == 1:
            weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)  # ITU-R BT.601
            images = (images * weights).sum(dim=1, keepdim=True)
        return from_uint8(to_uint8(images))  # as a file would give them

    def named(self, values: Values) -> Given:
        """The columns of some values by their factors' names."""
        return {f.name: column for f, column in zip(self.factors, values.T, strict=True)}

    @abstractmethod
    def paint(self, given: Given, size: int) -> Canvas:
        """Paints some values in colour, all but the watermark."""

    @abstractmethod
    def seen(self, values: Values) -> Bool[Tensor, "n f"]:
        """Which factors can be seen in drawings of some values."""

    def _images(self, positions: Labels) -> Images:
        return self.draw(self.values[positions])

    def _content(self) -> bytes:
        facts = [type(self).__name__, self.rule, self.noise, self.planted, self.seed, len(self)]
        drawn = self.draw(self.values[:8])  # another way to draw is another set
        return (
            json.dumps(facts).encode() + hashlib.sha256(to_uint8(drawn).numpy().tobytes()).digest()
        )


def _paint_watermark(canvas: Canvas, there: Float[Tensor, " n"]) -> None:
    """A white badge with a blue ring in the corner, as a photographer might print."""
    badge = canvas.ellipse(0.78, 0.78, 0.17, 0.17)
    canvas.paint(badge, (0.98, 0.98, 0.98), there)
    canvas.paint(ring(badge + 0.07, 0.03), (0.10, 0.25, 0.65), there)

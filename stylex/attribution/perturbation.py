"""How images are attacked: by the gradient, within a budget, in whole levels of 8-bit pixels.

Written here, and not taken from captum, because its random start draws for a whole batch at once:
an image's result would depend on the others. Without a random start the two agree.
Sources: Goodfellow et al. 2014 (arXiv:1412.6572), Madry et al. 2017 (arXiv:1706.06083).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attribution.layers import check_at_least
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.imaging import from_uint8, to_uint8
from stylex.types import Images, Labels, Logits

NORMS = ("linf", "l2")
HALVINGS = 20  # of a change that rounding has made too large
Levels = Float[Tensor, "b c h w"]  # in [0, 255]


@dataclass(frozen=True)
class Budget:
    """How far an image may be moved, in levels of an 8-bit channel, which has 0 to 255.

    Attributes:
        norm: "linf", the largest change of any value, or "l2", the root of all squares' sum.
        epsilon_px: The limit.
    """

    norm: str
    epsilon_px: float

    def __post_init__(self) -> None:
        """Checks both."""
        if self.norm not in NORMS:
            raise InputError(f"norm must be one of {', '.join(NORMS)}, got '{self.norm}'")
        check_at_least("epsilon_px", self.epsilon_px, 0)

    def size(self, change: Levels) -> Float[Tensor, "b 1 1 1"]:
        """How large changes are."""
        order = math.inf if self.norm == "linf" else 2
        return torch.linalg.vector_norm(change.flatten(1), order, dim=1)[:, None, None, None]

    def projected(self, change: Levels) -> Levels:
        """The nearest change within the limit."""
        if self.norm == "linf":
            return change.clamp(-self.epsilon_px, self.epsilon_px)
        return change * (self.epsilon_px / self.size(change).clamp(min=1e-12)).clamp(max=1)

    def step(self, direction: Levels, length: float) -> Levels:
        """The step of that length which gains most in a direction."""
        if self.norm == "linf":
            return length * direction.sign()
        return length * direction / self.size(direction).clamp(min=1e-30)

    def rounded(self, change: Levels) -> Levels:
        """Whole levels within the limit: shrunk first where rounding alone would leave it."""
        low, high = torch.zeros_like(self.size(change)), torch.ones_like(self.size(change))
        fits = self.size(change.round()) <= self.epsilon_px
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            within = self.size((middle * change).round()) <= self.epsilon_px
            low, high = torch.where(within, middle, low), torch.where(within, high, middle)
        return torch.where(fits, change, low * change).round()


@dataclass(frozen=True)
class Attack:
    """How images are attacked.

    Attributes:
        name: As people read it.
        budget: How far.
        step_px: Length of a step.
        num_steps: How many.
        random_start: Whether the first is taken from a random place within the budget.
        seed: Of all that is random.
    """

    name: str
    budget: Budget
    step_px: float
    num_steps: int
    random_start: bool
    seed: int

    def attacked(
        self, classifier: FrozenClassifier, images: Images, classes: Labels, *, closer: bool
    ) -> Images:
        """Moves images towards their classes, or away from them.

        Args:
            classifier: To be fooled.
            images: Of whole levels.
            classes: One for each image.
            closer: Towards or away.

        Returns:
            Images of whole levels in [-1, 1], within the budget.
        """
        origin = _levels(images)
        current = origin
        if self.random_start:
            current = (origin + self._noise(origin)).clamp(0, 255)
        for _ in range(self.num_steps):
            gradient = _gradient(classifier, current, classes)
            step = self.budget.step(gradient if closer else -gradient, self.step_px)
            change = self.budget.projected(current + step - origin)
            current = (origin + change).clamp(0, 255)
        return from_uint8((origin + self.budget.rounded(current - origin)).to(torch.uint8))

    def at_random(self, images: Images) -> Images:
        """Moves images by the whole budget in a random direction, the same for all."""
        origin = _levels(images)
        change = self.budget.step(self._draw(origin, torch.randn), self.budget.epsilon_px)
        change = (origin + change).clamp(0, 255) - origin
        return from_uint8((origin + self.budget.rounded(change)).to(torch.uint8))

    def _noise(self, origin: Levels) -> Levels:
        """A place within the budget, uniform."""
        if self.budget.norm == "linf":
            return self.budget.epsilon_px * (2 * self._draw(origin, torch.rand) - 1)
        direction = self._draw(origin, torch.randn)
        # The radius of a uniform draw from a ball; in so many dimensions next to the limit.
        radius = float(torch.rand(1, generator=self._generator())) ** (1 / origin[0].numel())
        return self.budget.step(direction, radius * self.budget.epsilon_px)

    def _generator(self) -> torch.Generator:
        return torch.Generator().manual_seed(self.seed)

    def _draw(self, like: Levels, kind: Callable[..., Tensor]) -> Levels:
        values = kind(like.shape[1:], generator=self._generator())
        return values.to(like)[None].expand_as(like)


def margins(logits: Logits, classes: Labels) -> Float[Tensor, " b"]:
    """The class's logit over the soft maximum of all others: its log odds.

    Cross-entropy's gradient has the same direction, but vanishes in float32 when the classifier is
    sure of itself.
    """
    own = torch.zeros_like(logits, dtype=torch.bool).scatter(1, classes[:, None], True)
    return logits[own] - logits.masked_fill(own, -math.inf).logsumexp(dim=1)


def _levels(images: Images) -> Levels:
    return to_uint8(images).float()


def _gradient(classifier: FrozenClassifier, levels: Levels, classes: Labels) -> Levels:
    """Gradient of each image's margin; what it is multiplied by changes no step."""
    images = (levels / 127.5 - 1).requires_grad_(True)
    with torch.enable_grad():
        total = margins(classifier(images), classes).sum()
    return torch.autograd.grad(total, images)[0]

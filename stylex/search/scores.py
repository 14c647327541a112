"""What an edit is to raise: one number per image, of the classifier's logits."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

SomeLogits = Float[Tensor, "*#e k"]
Values = Float[Tensor, "*e"]


@runtime_checkable
class Score(Protocol):
    """A number per image, and how an edit changes it."""

    def __call__(self, logits: SomeLogits) -> Values:
        """The score of logits; differentiable."""

    def change(self, logits: SomeLogits, effects: SomeLogits) -> Values:
        """What is to be raised: the gain when the logits change by the effects."""

    def possible(self, logits: SomeLogits, change: Values) -> Values:
        """A first-order estimate of a gain, brought within what a gain can be."""


@dataclass(frozen=True)
class Logit:
    """The target's logit (the paper).

    Attributes:
        target: The class to move to.
    """

    target: int

    def __call__(self, logits: SomeLogits) -> Values:
        """The target's logit."""
        return logits[..., self.target]

    def change(self, logits: SomeLogits, effects: SomeLogits) -> Values:
        """Its change."""
        return effects[..., self.target]

    def possible(self, logits: SomeLogits, change: Values) -> Values:
        """Any change is."""
        return change


@dataclass(frozen=True)
class Rise(Logit):
    """The target's logit, of which only rises count (the official notebook)."""

    def change(self, logits: SomeLogits, effects: SomeLogits) -> Values:
        """Its change, 0 where it falls."""
        return effects[..., self.target].clamp(min=0)

    def possible(self, logits: SomeLogits, change: Values) -> Values:
        """No gain is below 0."""
        return change.clamp(min=0)


@dataclass(frozen=True)
class LogProbability:
    """The logarithm of the target's probability, which sees the other classes, too.

    Attributes:
        target: The class to move to.
    """

    target: int

    def __call__(self, logits: SomeLogits) -> Values:
        """The target's log-probability."""
        return logits.log_softmax(dim=-1)[..., self.target]

    def change(self, logits: SomeLogits, effects: SomeLogits) -> Values:
        """Its change."""
        return self(logits + effects) - self(logits)

    def possible(self, logits: SomeLogits, change: Values) -> Values:
        """A probability does not rise above 1."""
        return torch.minimum(change, -self(logits))

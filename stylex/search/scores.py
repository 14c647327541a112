"""What an edit is to raise: one number per image, of the classifier's logits."""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

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


@dataclass(frozen=True)
class Rise(Logit):
    """The target's logit, of which only rises count (the official notebook)."""

    def change(self, logits: SomeLogits, effects: SomeLogits) -> Values:
        """Its change, 0 where it falls."""
        return effects[..., self.target].clamp(min=0)


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

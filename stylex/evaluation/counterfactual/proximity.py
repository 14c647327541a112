"""How much changed between an image and its counterfactual?

All figures are of saved pixels as values in [0, 1]; in [-1, 1] L1 and L2 would be twice as large.
The image compared with is the caller's choice, the original or its reconstruction: name it.
"""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from stylex.evaluation.counterfactual.metric import PerImageMetric
from stylex.evaluation.counterfactual.networks import Distance
from stylex.imaging import from_uint8
from stylex.types import Images, Pixels


class L1(PerImageMetric):
    """Mean over pixels and channels of |x - x'|, images in [0, 1].

    Range 0 to 1, lower is closer; doing nothing gives 0. Denominator: images.
    """

    higher_is_better = False

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        self.keep(_difference(before, after).abs().mean(dim=(1, 2, 3)), valid)


class L2(PerImageMetric):
    """Root of the mean over pixels and channels of (x - x')^2, images in [0, 1].

    It is the Euclidean norm over the root of the number of values, so that sizes compare. Range 0
    to 1, never below L1, lower is closer. Denominator: images.
    """

    higher_is_better = False

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        self.keep(_difference(before, after).square().mean(dim=(1, 2, 3)).sqrt(), valid)


class Sparsity(PerImageMetric):
    """Share of an image's pixels that change by more than a threshold, in any channel.

    Range 0 to 1, lower is sparser. Denominator: images.
    """

    higher_is_better = False

    def __init__(self, *, threshold: float, **settings: Any) -> None:
        """Sets the threshold.

        Args:
            threshold: Largest change that does not count, images in [0, 1].
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.threshold = threshold

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        largest = _difference(before, after).abs().amax(dim=1)
        self.keep((largest > self.threshold).double().mean(dim=(1, 2)), valid)


class LPIPS(PerImageMetric):
    """Mean perceptual distance, by a network that the caller gives and names.

    d(x, x') = sum over layers of the mean over places of the squared, weighted difference of
    channel-normalised features. Range from 0 up, lower is closer. Denominator: images. Source:
    Zhang et al. 2018. Without their calibrated weights call it uncalibrated.
    """

    higher_is_better = False

    def __init__(self, distance: Distance, **settings: Any) -> None:
        """Sets the distance.

        Args:
            distance: Of images in [-1, 1], one value a pair.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.distance = distance

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        self.keep(self.distance(from_uint8(before), from_uint8(after)), valid)


def mean_difference(before: Images, after: Images) -> Float[Tensor, " b"]:
    """L1 of images in [-1, 1], in units of [0, 1]: the distance that needs no network."""
    return (before - after).abs().mean(dim=(1, 2, 3)) / 2


def _difference(before: Pixels, after: Pixels) -> Float[Tensor, "b c h w"]:
    return (after.double() - before.double()) / 255

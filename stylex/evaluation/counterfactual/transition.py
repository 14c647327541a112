"""Does the path from the image to its counterfactual, pixel by pixel, do it?"""

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from stylex.evaluation.counterfactual.metric import PerImageMetric
from stylex.evaluation.counterfactual.networks import Classifier, judge
from stylex.types import Labels, Pixels


class COUT(PerImageMetric):
    """Counterfactual transition: does pasting the most changed pixels first win the target soon?

    Pixels are sorted by the sum over channels of |x' - x|. At step t of T the first t/T of them
    are pasted from x' into x. COUT = area under p(target) - area under p(source), over the share
    of pixels really pasted, by the trapezoid rule; source is what the classifier calls x. Range -1
    to 1, higher is better. An image without any change gives 0 by definition. It rewards
    adversarial edits. Denominator: images. Source: Khorram & Fuxin 2022 (C3LT); the shares and the
    identity's 0 are set right here.
    """

    higher_is_better = True

    def __init__(
        self,
        classifier: Classifier,
        *,
        num_steps: int,
        batch_size: int,
        **settings: Any,
    ) -> None:
        """Sets the classifier.

        Args:
            classifier: Images in [-1, 1] to logits, of two or more classes.
            num_steps: T; 50 in publications.
            batch_size: Largest number of images that the classifier is given at once.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.classifier, self.num_steps, self.batch_size = classifier, num_steps, batch_size

    def update(
        self, before: Pixels, after: Pixels, targets: Labels, valid: Bool[Tensor, " b"]
    ) -> None:
        """Adds a batch.

        Args:
            before: Images.
            after: Their counterfactuals.
            targets: Classes moved to.
            valid: Whether the classifier calls the counterfactual the target.
        """
        places = _by_change(before, after)
        num_pixels = places.shape[1]
        steps = torch.arange(self.num_steps + 1, device=before.device)
        counts = (steps * num_pixels / self.num_steps).round().long()
        source = judge(self.classifier, before, self.batch_size).argmax(dim=1)
        scores = []
        for part in counts.split(max(1, self.batch_size // len(before))):
            pasted = (places < part[:, None, None]).unflatten(2, before.shape[2:])  # [t b h w]
            path = torch.where(pasted[:, :, None], after, before)  # [t b c h w]
            logits = judge(self.classifier, path.flatten(0, 1), self.batch_size)
            p = logits.double().softmax(dim=1).unflatten(0, path.shape[:2])  # [t b k]
            rows = torch.arange(len(before), device=p.device)
            scores.append(p[:, rows, targets] - p[:, rows, source])
        area = torch.trapezoid(torch.cat(scores).T, counts.double() / num_pixels, dim=1)
        unchanged = (before == after).flatten(1).all(dim=1)
        self.keep(area.where(~unchanged, 0), valid)


def _by_change(before: Pixels, after: Pixels) -> Int64[Tensor, "b p"]:
    """Place of each pixel in the order of change, 0 the largest; equal ones as they are read."""
    change = (after.int() - before.int()).abs().sum(dim=1).flatten(1)
    return change.argsort(dim=1, descending=True, stable=True).argsort(dim=1)

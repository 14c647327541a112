"""Did the decision change, and how many edits did it take?"""

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from stylex.estimates import Estimate, mean
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, PerImageMetric, joined
from stylex.types import Labels, Logits, Probabilities


class FlipRate(PerImageMetric):
    """Share of images whose counterfactual the classifier calls the target (validity, FR).

    FR = mean over images of 1[argmax f(x') = c']. Untargeted: 1[argmax f(x') differs from c], c
    the class that the original was called. Range 0 to 1, higher is better; an adversarial image
    reaches 1 too. Denominator: all images given, none left out. Source: Jeanneret et al. 2023
    (ACE), with the untargeted form of earlier work.
    """

    is_share = True
    higher_is_better = True

    def __init__(self, *, targeted: bool, **settings: Any) -> None:
        """Chooses what counts as a flip.

        Args:
            targeted: Whether only the target counts; otherwise any class but the original's.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.targeted = targeted

    def update(self, logits: Logits, classes: Labels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch.

        Args:
            logits: Of the counterfactuals. An oracle's give the share that the oracle confirms.
            classes: Targets; if untargeted, what the originals were called.
            valid: Whether the explained classifier calls the counterfactual the target.
        """
        said = logits.argmax(dim=1)
        self.keep(said == classes if self.targeted else said != classes, valid)


class MeanScoreChange(PerImageMetric):
    """Mean absolute change of the target's probability (MAD).

    MAD = mean over images of |p(x') - p(x)|, p the probability of the target. Range 0 to 1, higher
    is a larger change. Denominator: images. Source: Weng et al. 2024 (FastDiME).
    """

    higher_is_better = True

    def update(
        self,
        before: Probabilities,
        after: Probabilities,
        targets: Labels,
        valid: Bool[Tensor, " b"],
    ) -> None:
        """Adds a batch.

        Args:
            before: Of the originals.
            after: Of the counterfactuals.
            targets: Classes moved to.
            valid: Whether the classifier calls the counterfactual the target.
        """
        column = targets[:, None]
        self.keep((after.gather(1, column) - before.gather(1, column)).abs()[:, 0], valid)


class EditsToFlip(CounterfactualMetric):
    """Number of edits moved together at which an image first flips (sparsity in edits).

    k_i = smallest k for which the first k edits together give the target; 0 if the unedited
    reconstruction already is. `all` and `valid` are means of k_i over the images that flip at some
    k, and over those that still do with all edits. Images that never flip have no k: they are
    counted as `never`, a share of all images, and are no part of mean and `median`. Range 0 to the
    number of edits, lower is better.
    """

    higher_is_better = False
    first: list[Tensor] | Tensor

    def __init__(self, **settings: Any) -> None:
        """Adds the state.

        Args:
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.add_state("first", default=[], dist_reduce_fx="cat")

    def update(self, flips: Bool[Tensor, "k b"]) -> None:
        """Adds a batch.

        Args:
            flips: Whether the first k edits together give the target; row 0 is without any edit.
        """
        assert isinstance(self.first, list)
        assert isinstance(self.valid, list)
        first = flips.int().argmax(dim=0)  # of equal values, the first
        self.first.append(first.where(flips.any(dim=0), -1))
        self.valid.append(flips[-1])

    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Gives the mean over those of the images that flip at some k."""
        return mean(_flipping(joined(self.first).long()[rows]).float())

    def compute(self) -> dict[str, Tensor]:
        """Gives the means, the `median` over images that flip, and the share that `never` do."""
        first = joined(self.first).long()
        flipping = _flipping(first).double()
        nothing = torch.tensor(torch.nan, dtype=torch.float64)
        return {
            **super().compute(),
            "median": flipping.quantile(0.5) if len(flipping) else nothing,
            "never": (first < 0).double().mean() if len(first) else nothing,
        }

    def median(self) -> Estimate:
        """Gives the median over the images that flip at some k; it has no interval."""
        numbers = self.compute()
        count = int(numbers["all_count"])
        return Estimate(float(numbers["median"]) if count else None, count, None)


def _flipping(first: Int64[Tensor, " n"]) -> Int64[Tensor, " m"]:
    return first[first >= 0]

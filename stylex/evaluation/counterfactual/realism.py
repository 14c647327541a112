"""Do the counterfactuals look like images? By a feature network that the caller gives and names."""

from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.estimates import Estimate
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, joined
from stylex.evaluation.counterfactual.networks import Embedding
from stylex.evaluation.distances import frechet
from stylex.imaging import from_uint8
from stylex.types import Pixels


class FidSplit(CounterfactualMetric):
    """Fréchet distance of counterfactuals from originals that they were not made from (fid_split).

    An image and its own counterfactual share their content, so that a plain distance is near 0 for
    free. Here images are split at random into halves A and B; the figure is the mean, over the
    splits, of FID(x_A, x'_B) and FID(x_B, x'_A). Over valid ones both sides have valid ones only.
    Range from 0 up, lower is better. It is biased upwards for few images, and means FID only with
    Inception's features. Denominator: images, at least 4; no interval. Splits go by the order of
    the images. Source: Jeanneret et al. 2023 (ACE), where it is called sFID.
    """

    higher_is_better = False
    before_features: list[Tensor] | Tensor
    after_features: list[Tensor] | Tensor

    def __init__(
        self,
        features: Embedding,
        *,
        num_splits: int,
        seed: int,
        **settings: Any,
    ) -> None:
        """Sets the feature network.

        Args:
            features: Images in [-1, 1] to one vector each.
            num_splits: Random splits; 10 in publications.
            seed: Of the splits.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.features, self.num_splits, self.seed = features, num_splits, seed
        self.add_state("before_features", default=[], dist_reduce_fx="cat")
        self.add_state("after_features", default=[], dist_reduce_fx="cat")

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        assert isinstance(self.before_features, list)
        assert isinstance(self.after_features, list)
        assert isinstance(self.valid, list)
        self.before_features.append(self.features(from_uint8(before)).double())
        self.after_features.append(self.features(from_uint8(after)).double())
        self.valid.append(valid)

    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Gives the mean distance over some images; none for fewer than 4."""
        count = int(rows.sum())
        if count < 4:  # a half of one image has no covariance
            return Estimate(None, count, None)
        before, after = joined(self.before_features)[rows], joined(self.after_features)[rows]
        generator = torch.Generator().manual_seed(self.seed)
        found = 0.0
        for _ in range(self.num_splits):
            order = torch.randperm(count, generator=generator)
            a, b = order[: count // 2], order[count // 2 :]
            found += frechet(before[a], after[b]) + frechet(before[b], after[a])
        return Estimate(found / (2 * self.num_splits), count, None)

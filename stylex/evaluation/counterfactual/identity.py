"""Is it still the same person, or the same scene? By an embedding that the caller gives.

The embedding takes images in [-1, 1] and does its own resizing, channel order and normalisation.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.evaluation.counterfactual.metric import PerImageMetric
from stylex.evaluation.counterfactual.networks import Embedding
from stylex.imaging import from_uint8
from stylex.types import Pixels

SAME_PERSON = 0.5  # smallest cosine, as published


class _Similarity(PerImageMetric):
    """Compares the embeddings of an image and its counterfactual by their cosine."""

    higher_is_better = True

    def __init__(self, embedding: Embedding, **settings: Any) -> None:
        """Sets the embedding.

        Args:
            embedding: Of images in [-1, 1].
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.embedding = embedding

    def cosine(self, before: Pixels, after: Pixels) -> Float[Tensor, " b"]:
        first, second = (self.embedding(from_uint8(p)).double() for p in (before, after))
        return torch.nn.functional.cosine_similarity(first, second, dim=1)


class FS(_Similarity):
    """Face similarity: mean cosine of face embeddings.

    FS = mean of cos(e(x), e(x')), e a face network (VGGFace2 in publications). Range -1 to 1,
    higher is more alike; doing nothing gives 1. Denominator: images. Source: Jeanneret et al. 2023
    (ACE).
    """

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        self.keep(self.cosine(before, after), valid)


class FVA(_Similarity):
    """Face verification accuracy: share of pairs that a face network takes for one person.

    FVA = mean of 1[cos(e(x), e(x')) > 0.5], or above the threshold of another embedding, which then
    says whether it is still the same thing. Range 0 to 1, higher is better; doing nothing gives 1.
    Denominator: images. Source: as in Jeanneret et al. 2022 (DiME).
    """

    is_share = True

    def __init__(
        self, embedding: Embedding, *, same_cosine: float = SAME_PERSON, **settings: Any
    ) -> None:
        """Sets the embedding and its threshold.

        Args:
            embedding: Of images in [-1, 1].
            same_cosine: Two images are of one person if their cosine is above this.
            settings: torchmetrics' own.
        """
        super().__init__(embedding, **settings)
        self.same_cosine = same_cosine

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        self.keep(self.cosine(before, after) > self.same_cosine, valid)


class S3(FS):
    """SimSiam similarity: mean cosine of self-supervised embeddings, for images without faces.

    S3 = mean of cos(e(x), e(x')), e the encoder and projector of SimSiam, without its predictor.
    Range -1 to 1, higher is more alike; doing nothing gives 1. Denominator: images. Source:
    Jeanneret et al. 2023 (ACE).
    """

"""Which attributes did the counterfactual change? By an attribute reader that the caller gives."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.estimates import Estimate
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, PerImageMetric, joined
from stylex.evaluation.counterfactual.networks import AttributeReader
from stylex.imaging import from_uint8
from stylex.types import Pixels


class MNAC(PerImageMetric):
    """Mean number of attributes changed, as an attribute reader sees them.

    MNAC = mean of the number of attributes a with (o_a(x) > 1/2) unlike (o_a(x') > 1/2). The
    attribute asked for counts too, so the ideal is about 1, not 0. Range 0 to the number of
    attributes, lower is better. Denominator: images. Source: as in Jeanneret et al. 2022 (DiME).
    """

    higher_is_better = False

    def __init__(self, reader: AttributeReader, **settings: Any) -> None:
        """Sets the reader.

        Args:
            reader: Images in [-1, 1] to the probability of each attribute.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.reader = reader

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        first, second = _has(self.reader, before), _has(self.reader, after)
        self.keep((first != second).sum(dim=1).double(), valid)


class CD(CounterfactualMetric):
    """Correlation difference: do attributes change together as they occur together in the data?

    CD = sum over attributes a of |corr_train(y_q, y_a) - corr(d_q, d_a)|, with Pearson's
    correlation (0 where undefined), q the attribute asked for, and d = 1[o(x') > 1/2] - 1[o(x) >
    1/2]. Range 0 to twice the number of attributes. Low is called better, but low rewards repeating
    the data's bias: report it, never optimise it. Denominator: images; no interval. Doing nothing
    gives the sum of |corr_train|. Source: Jeanneret et al. 2022 (DiME).
    """

    higher_is_better = False
    changes: list[Tensor] | Tensor

    def __init__(
        self,
        reader: AttributeReader,
        *,
        queried: int,
        train_correlations: Float[Tensor, " a"],
        **settings: Any,
    ) -> None:
        """Sets reader and reference.

        Args:
            reader: Images in [-1, 1] to the probability of each attribute.
            queried: Index of the attribute asked for.
            train_correlations: Of the queried attribute with each, from `correlations` of the
                training labels.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.reader, self.queried = reader, queried
        self.train_correlations = train_correlations.double().cpu()
        self.add_state("changes", default=[], dist_reduce_fx="cat")

    def update(self, before: Pixels, after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch of images, their counterfactuals, and whether those are valid."""
        assert isinstance(self.changes, list)
        assert isinstance(self.valid, list)
        change = _has(self.reader, after).double() - _has(self.reader, before).double()
        self.changes.append(change)
        self.valid.append(valid)

    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Gives the difference over some images."""
        count = int(rows.sum())
        if not count:
            return Estimate(None, 0, None)
        found = correlations(joined(self.changes)[rows], self.queried).cpu()
        return Estimate(float((self.train_correlations - found).abs().sum()), count, None)


def correlations(values: Float[Tensor, "n a"], queried: int) -> Float[Tensor, " a"]:
    """Pearson's correlation of one column with each; 0 where a column is constant.

    Args:
        values: One row an image.
        queried: Index of the column.
    """
    centred = values.double() - values.double().mean(dim=0)
    norm = centred.norm(dim=0)
    norm = norm.where(values.amax(dim=0) > values.amin(dim=0), 0)
    scale = norm[queried] * norm
    inner = centred[:, queried] @ centred
    return torch.where(scale > 0, inner / scale.where(scale > 0, 1), 0)


def _has(reader: AttributeReader, pixels: Pixels) -> Bool[Tensor, "b a"]:
    return reader(from_uint8(pixels)) > 0.5

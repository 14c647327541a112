"""How unlike each other are the counterfactuals of one image?"""

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from stylex.estimates import Estimate, mean
from stylex.evaluation.counterfactual.metric import CounterfactualMetric, joined
from stylex.evaluation.counterfactual.networks import Distance
from stylex.imaging import from_uint8
from stylex.types import Pixels


class Diversity(CounterfactualMetric):
    """Mean over images of the mean distance between all pairs of an image's counterfactuals.

    Counterfactuals belong together by the image's id, never by where they lie. `valid` takes pairs
    of which both are valid. `all_pairs` and `valid_pairs` say how many there were. Denominator:
    images with at least one pair. Range and unit are the distance's; higher is more diverse, but
    unlike noise is diverse too. Source: Jeanneret et al. 2022 (DiME), with LPIPS.
    """

    higher_is_better = True
    ids: list[Tensor] | Tensor
    pixels: list[Tensor] | Tensor

    def __init__(
        self,
        distance: Distance,
        *,
        batch_size: int,
        **settings: Any,
    ) -> None:
        """Sets the distance.

        Args:
            distance: Of images in [-1, 1], one value a pair.
            batch_size: Largest number of pairs at once.
            settings: torchmetrics' own.
        """
        super().__init__(**settings)
        self.distance, self.batch_size = distance, batch_size
        self.add_state("ids", default=[], dist_reduce_fx="cat")
        self.add_state("pixels", default=[], dist_reduce_fx="cat")

    def update(self, ids: Int64[Tensor, " b"], after: Pixels, valid: Bool[Tensor, " b"]) -> None:
        """Adds a batch.

        Args:
            ids: Of the images that the counterfactuals were made from.
            after: Counterfactuals.
            valid: Whether the classifier calls them the target.
        """
        for state, values in ((self.ids, ids), (self.pixels, after), (self.valid, valid)):
            assert isinstance(state, list)
            state.append(values)

    def estimate(self, rows: Bool[Tensor, " n"]) -> Estimate:
        """Gives the mean over the images that have a pair among some counterfactuals."""
        first, second = self._pairs(rows)
        if not len(first):
            return Estimate(None, 0, None)
        pixels = joined(self.pixels)
        found = torch.cat(
            [
                self.distance(from_uint8(pixels[a]), from_uint8(pixels[b])).double().cpu()
                for a, b in zip(
                    first.split(self.batch_size), second.split(self.batch_size), strict=True
                )
            ]
        )
        _, image, num_pairs = (
            joined(self.ids)[first].cpu().unique(return_inverse=True, return_counts=True)
        )
        sums = torch.zeros(len(num_pairs), dtype=torch.float64).index_add(0, image, found)
        return mean((sums / num_pairs).float())

    def compute(self) -> dict[str, Tensor]:
        """Gives the figures, and of how many pairs they are."""
        valid = joined(self.valid).bool()
        pairs = {"all_pairs": torch.ones_like(valid), "valid_pairs": valid}
        counts = {name: torch.tensor(len(self._pairs(rows)[0])) for name, rows in pairs.items()}
        return {**super().compute(), **counts}

    def _pairs(self, rows: Bool[Tensor, " n"]) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
        """Positions of both counterfactuals of every pair of one image."""
        ids = joined(self.ids)
        among = rows.nonzero()[:, 0]
        same = (ids[among][:, None] == ids[among][None]).triu(diagonal=1)
        first, second = same.nonzero(as_tuple=True)
        return among[first], among[second]

"""The discriminator as a filter: a coordinate whose edits stop looking real is no attribute.

Source: the official AttFind notebook (google/explaining-in-style, Apache-2.0), whose filter this
is.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.search.counterfactuals import move
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Probabilities, Styles

BATCH_SIZE = 64  # reconstructions judged at once


class DiscriminatorFilter:
    """Says of a pick whether its coordinate may be an attribute; the selection asks it.

    A coordinate is moved both ways. In each, the first images whose target's logit rises enough
    are judged before and after: D(reconstruction, the original's probabilities) against D(edited
    image, the classifier's probabilities of the edited image). One judgement that changes too
    much rejects the coordinate; with no such image it passes. Changes are differences of D's raw
    outputs, which are logits, as in the notebook.

    Attributes:
        rejected: Coordinates rejected so far, in the order asked.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: StylEx,
        discriminator: Discriminator,
        statistics: Statistics,
        rows: Sequence[int],
        effects: Callable[[Pick], Float[Tensor, " n"]],
        *,
        most_change: float,
        least_effect: float,
        num_images: int,
        strength: float,
    ) -> None:
        """Judges the reconstructions.

        Args:
            model: The model under explanation.
            discriminator: Its discriminator, as `load_discriminator` gives it, on its device.
            statistics: Of the reference images.
            rows: Rows of `statistics` whose images may be judged.
            effects: A pick's effects on the target of these images, in logits, at the search's
                strength.
            most_change: Largest change of the discriminator's output that passes, in logits of
                being real; the notebook's 0.2.
            least_effect: Images with an effect above this are judged; the notebook's 0.2.
            num_images: Most images judged per direction; the notebook's 10.
            strength: Of the judged edits; the notebook's 2, twice as far as the extreme.

        Raises:
            InputError: If the filter could reject nothing, or let nothing pass.
        """
        if num_images < 1:
            raise InputError(
                f"the discriminator filter must judge at least 1 image, got {num_images}; raise it "
                "or switch the filter off"
            )
        if not most_change > 0:
            raise InputError(
                "the discriminator filter's largest change must be above 0, got "
                f"{most_change}; raise it or switch the filter off"
            )
        self.model, self.discriminator, self.effects = model, discriminator, effects
        self.extremes, self.strength = statistics.extremes, strength
        self.most_change, self.least_effect = most_change, least_effect
        self.num_images = num_images
        self.styles = statistics.styles[list(rows)]
        believed = statistics.logits[list(rows)].softmax(dim=1)
        parts = zip(self.styles.split(BATCH_SIZE), believed.split(BATCH_SIZE), strict=True)
        self.judged = torch.cat([self._judgement(*part) for part in parts])
        self.rejected: list[int] = []
        self._verdicts: dict[int, bool] = {}

    def __call__(self, pick: Pick) -> bool:
        """Whether the pick's coordinate passes; each coordinate is judged once."""
        coordinate = pick.coordinate
        if coordinate not in self._verdicts:
            self._verdicts[coordinate] = all(
                self._keeps_looking_real(Pick(coordinate, direction)) for direction in (0, 1)
            )
            if not self._verdicts[coordinate]:
                self.rejected.append(coordinate)
        return self._verdicts[coordinate]

    @torch.no_grad()
    def _keeps_looking_real(self, pick: Pick) -> bool:
        chosen = (self.effects(pick) > self.least_effect).nonzero()[: self.num_images, 0].cpu()
        if not len(chosen):
            return True
        edited = move(self.styles[chosen], [pick], self.extremes, self.strength)
        change = self._judgement(edited, None) - self.judged[chosen]
        return bool((change.abs() <= self.most_change).all())

    def _judgement(self, styles: Styles, believed: Probabilities | None) -> Float[Tensor, " b"]:
        """D of the generator's own images, unclamped as in training, and of what it is told.

        Without probabilities given, D is told the classifier's.
        """
        images = self.model.generator.synthesis(styles.to(self.model.generator.const.device))
        if believed is None:
            believed = self.model.classifier.probabilities(images)
        return self.discriminator(images, believed.to(images.device)).cpu()

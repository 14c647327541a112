"""Images whose single style coordinates come from two others: what the edits of a search are like.

A search moves one coordinate and leaves the others. A generator that saw only whole encodings need
not make anything sensible of that, nor need one coordinate mean anything by itself. Here some
coordinates of an image are another's; the result must look real, and the encoder must find the
coordinates again, so that each shows, and shows something else than the others. A departure: the
paper mixes styles by layers, in samples alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stylex.processes import Share
from stylex.training import losses
from stylex.types import Images, Probabilities, Styles

Terms = dict[str, tuple[float, Tensor]]  # weight and value


@dataclass(frozen=True)
class Crossing:
    """The networks that make and judge crossed images.

    Attributes:
        synthesis: Styles to images.
        styles_of: Images to their styles.
        probabilities_of: Images to what the discriminator is told of their class.
        judge: The discriminator.
        sizes: Coordinates of every layer.
        weights: Of the terms `crossed` and `style_cycle`.
        share: Which images are this process's.
    """

    synthesis: Callable[[Styles], Images]
    styles_of: Callable[[Images], Styles]
    probabilities_of: Callable[[Images], Probabilities]
    judge: Callable[[Images, Probabilities], Tensor]
    sizes: Sequence[int]
    weights: Mapping[str, float]
    share: Share

    def terms(self, styles: Styles, random: torch.Generator) -> tuple[Images, Probabilities, Terms]:
        """Crossed images, what the discriminator is told of them, and their losses.

        Args:
            styles: Of the images of all processes; this one makes and judges its own share.
            random: Stands alike on all processes.
        """
        goals = crossed(styles, random)
        images = self.synthesis(self.share.own(goals))
        with torch.no_grad():
            told = self.probabilities_of(images)
        real = losses.generator_adversarial(self.judge(images, told))
        found = self.share.gather(self.styles_of(images))
        cycle = losses.style_distance(found, goals.detach(), self.sizes)
        return (
            images,
            told,
            {
                "crossed": (self.weights["crossed"], real),
                "style_cycle": (self.weights["style_cycle"], cycle),
            },
        )


def crossed(styles: Styles, random: torch.Generator) -> Styles:
    """Some coordinates of every image are its neighbour's; what share, each image draws."""
    rate = torch.rand(len(styles), 1, generator=random, device=styles.device)
    taken = torch.rand(styles.shape, generator=random, device=styles.device) < rate
    return torch.where(taken, styles.roll(1, dims=0), styles)

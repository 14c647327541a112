"""The random numbers of a training step, for this process's images."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.gan.generator import Generator, NoiseMaps
from stylex.gan.mapping import Mapping
from stylex.processes import Share
from stylex.training.augment import Augment, flip
from stylex.types import Images, Probabilities


@dataclass(frozen=True)
class Draws:
    """Draws for the images of all processes, and gives those of this process's.

    So a number belongs to an image of the batch, whichever process holds it.

    Attributes:
        random: Stands alike on all processes.
        share: Which images are this process's.
    """

    random: torch.Generator
    share: Share

    def normal(self, count: int, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return self.share.drawn(
            lambda n: torch.randn(n, *shape, generator=self.random, device=self.random.device),
            count,
        )

    def uniform(self, count: int, *shape: int) -> Tensor:
        """Numbers from [0, 1)."""
        return self.share.drawn(
            lambda n: torch.rand(n, *shape, generator=self.random, device=self.random.device), count
        )

    def integers(self, low: int, high: int, count: int, *shape: int) -> Tensor:
        """Integers from `low` to below `high`."""
        return self.share.drawn(
            lambda n: torch.randint(
                low, high, (n, *shape), generator=self.random, device=self.random.device
            ),
            count,
        )

    def noise_maps(self, generator: Generator, count: int) -> NoiseMaps:
        """Fresh noise for every convolution of a generator."""
        maps = generator.noise_maps(count * self.share.size, self.random)
        return [self.share.own(each) for each in maps]

    def flipped(self, images: Images, chance: float) -> Images:
        """Images, some of them mirrored left to right."""
        return flip(images, self.uniform(len(images)), chance) if chance else images

    def augmented(self, images: Images, augment: Augment | None) -> Images:
        """Images as the discriminator sees them; each call draws anew."""
        if augment is None:
            return images
        drawn = augment.draw(len(images) * self.share.size, self.random)
        return augment(images, {name: self.share.own(value) for name, value in drawn.items()})

    def latents(
        self, mapping: Mapping, probabilities: Probabilities, num_layers: int, mixing: float
    ) -> Float[Tensor, "b l d"]:
        """Random latents, one per layer, with the probabilities appended.

        Args:
            mapping: Makes latents of normal numbers.
            probabilities: What is appended to each.
            num_layers: Latents of an image.
            mixing: Share of the images whose latent becomes another one at a random layer.

        Source: Karras et al. 2019 (arXiv:1812.04948), section 3.1, style mixing.
        """
        count = len(probabilities)
        halves = (2 * count * self.share.size, mapping.latent_dim)
        deviates = torch.randn(halves, generator=self.random, device=self.random.device)
        pair = [self.share.own(half) for half in deviates.chunk(2)]
        first, second = mapping(torch.cat(pair)).chunk(2)
        cutoff = self.integers(1, num_layers, count, 1)
        mixed = self.uniform(count, 1) < mixing
        layers = torch.arange(num_layers, device=cutoff.device)
        from_second = mixed & (layers >= cutoff)  # [b l]
        chosen = torch.where(from_second[:, :, None], second[:, None], first[:, None])
        return torch.cat((chosen, probabilities[:, None].expand(-1, num_layers, -1)), dim=2)

"""Mapping network: a normal deviate z becomes a latent.

Source: Karras et al. 2019 (arXiv:1812.04948): normalised input, learning rate multiplier 0.01. It
    has no label input:
StylEx appends the class probabilities to its output (Lang et al. 2021).
"""

import torch
from torch import nn

from stylex.gan.layers import EPSILON, FullyConnected
from stylex.types import Latents

LR_MULTIPLIER = 0.01


class Mapping(nn.Module):
    """Fully connected network from z to the latent that the encoder, too, gives."""

    def __init__(self, latent_dim: int, num_layers: int) -> None:
        super().__init__()
        self.latent_dim = latent_dim
        self.layers = nn.Sequential(
            *(
                FullyConnected(latent_dim, latent_dim, lr_multiplier=LR_MULTIPLIER, activate=True)
                for _ in range(num_layers)
            )
        )

    def forward(self, z: Latents) -> Latents:
        """Maps normal deviates to latents.

        Args:
            z: Independent N(0, 1) values; each row is normalised to mean square 1.
        """
        return self.layers(z * torch.rsqrt(z.square().mean(dim=1, keepdim=True) + EPSILON))

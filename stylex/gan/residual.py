"""The residual image network: discriminator with, encoder without minibatch deviation.

Source: Karras et al. 2020 (arXiv:1912.04958), section 4.1; Lang et al. 2021: the encoder has the
    discriminator's
architecture, the discriminator one output per class.
"""

import math
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.gan.compute import Precision
from stylex.gan.layers import EPSILON, GAIN, Convolution, Features, FullyConnected, channels_at
from stylex.types import Images, Latents, Probabilities


def minibatch_deviation(x: Features, group_size: int) -> Float[Tensor, "b 1 h w"]:
    """One map per sample: standard deviation in its group, averaged over channels and pixels.

    Sample i belongs to the group i modulo (b / group size).

    Args:
        x: Features of a batch.
        group_size: Samples per group; it must divide the batch.

    Raises:
        ValueError: If the group size does not divide the batch.

    Source: Karras et al. 2018 (arXiv:1710.10196), section 3, with one feature channel.
    """
    batch_size, channels, height, width = x.shape
    if batch_size % group_size:
        raise ValueError(
            f"the batch must be a multiple of the group size {group_size}, got {batch_size}"
        )
    groups = x.reshape(group_size, batch_size // group_size, channels, height, width)
    deviation = (groups.var(dim=0, unbiased=False) + EPSILON).sqrt().mean(dim=(1, 2, 3))
    return deviation.repeat(group_size)[:, None, None, None].expand(-1, 1, height, width)


class ResidualBlock(nn.Module):
    """Two convolutions and a skip, halving the resolution; each branch is scaled by sqrt(1/2)."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv0 = Convolution(in_channels, in_channels, 3, down=False, activate=True)
        self.conv1 = Convolution(in_channels, out_channels, 3, down=True, activate=True)
        self.skip = Convolution(in_channels, out_channels, 1, down=True, activate=False)

    def forward(self, x: Features) -> Float[Tensor, "b o h2 w2"]:
        """Halves the resolution."""
        return self.conv1(self.conv0(x), gain=GAIN * math.sqrt(0.5)) + self.skip(
            x, gain=math.sqrt(0.5)
        )


class ResidualNetwork(nn.Module):
    """Image → FromRGB → residual blocks down to 4×4 → convolution → two linear layers → vector."""

    def __init__(
        self,
        resolution_px: int,
        image_channels: int,
        channel_base: int,
        channel_max: int,
        num_outputs: int,
        minibatch_group: int | None,
    ) -> None:
        super().__init__()
        self.minibatch_group = minibatch_group
        resolutions = [2**i for i in range(int(math.log2(resolution_px)), 1, -1)]
        widths = [channels_at(r, channel_base, channel_max) for r in resolutions]
        self.from_rgb = Convolution(image_channels, widths[0], 1, down=False, activate=True)
        self.blocks = nn.Sequential(
            *(ResidualBlock(a, b) for a, b in zip(widths[:-1], widths[1:], strict=True))
        )
        width = widths[-1]
        extra = 0 if minibatch_group is None else 1
        self.conv = Convolution(width + extra, width, 3, down=False, activate=True)
        self.fc = FullyConnected(width * 16, width, activate=True)
        self.out = FullyConnected(width, num_outputs)

    def set_precision(self, precision: Precision) -> None:
        """Says how each block computes; what follows the blocks stays float32."""
        finest = 4 * 2 ** len(self.blocks)
        self.from_rgb.compute = precision.at(finest, finest)
        for j, block in enumerate(self.blocks):
            for layer in cast(list[Convolution], list(block.children())):
                layer.compute = precision.at(finest // 2**j, finest)
        self.conv.compute = precision.coarse

    def forward(self, images: Images) -> Float[Tensor, "b o"]:
        """Returns one vector per image."""
        x = self.blocks(self.from_rgb(images)).to(self.conv.weight.dtype)
        if self.minibatch_group is not None:
            x = torch.cat(
                (x, minibatch_deviation(x, math.gcd(self.minibatch_group, len(x)))), dim=1
            )
        return self.out(self.fc(self.conv(x).flatten(1)))


class Encoder(ResidualNetwork):
    """Gives the part of the latent that the classifier's probabilities are appended to."""

    def __init__(
        self,
        resolution_px: int,
        image_channels: int,
        channel_base: int,
        channel_max: int,
        latent_dim: int,
    ) -> None:
        super().__init__(resolution_px, image_channels, channel_base, channel_max, latent_dim, None)

    def forward(self, images: Images) -> Latents:
        """Encodes images."""
        return super().forward(images)


class Discriminator(ResidualNetwork):
    """Judges an image as one of its class: K outputs weighted by the class probabilities."""

    def __init__(
        self,
        resolution_px: int,
        image_channels: int,
        channel_base: int,
        channel_max: int,
        num_classes: int,
        minibatch_group: int,
    ) -> None:
        super().__init__(
            resolution_px, image_channels, channel_base, channel_max, num_classes, minibatch_group
        )

    def forward(  # type: ignore[override]  # a judge needs the probabilities, too
        self, images: Images, probabilities: Probabilities
    ) -> Float[Tensor, " b"]:
        """Returns D(x, p) = Σ_k p_k d_k(x), a logit of being real.

        Args:
            images: Real or generated images.
            probabilities: The classifier's, of the real image that each belongs to.
        """
        return (super().forward(images) * probabilities).sum(dim=1)

"""StyleGAN2's generator, with its styles as an argument of synthesis.

An edit is arithmetic on a tensor and a batch of edits is one forward pass; nothing is changed
inside the network. A coordinate of layer l leaves all earlier layers as they were, so synthesis
can start at l from a stored state.
Source: Karras et al. 2020 (arXiv:1912.04958), skip architecture.
"""

from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.gan.compute import Precision
from stylex.gan.layers import Features, SynthesisLayer, ToRGB, channels_at
from stylex.gan.styles import StyleLayout
from stylex.types import Images, Latents, Styles

LayerLatents = Float[Tensor, "b l d"]
NoiseMaps = list[Float[Tensor, "_ 1 _h _w"]]
ImageBelow = Float[Tensor, "b o h2 w2"]


@dataclass(frozen=True)
class SynthesisState:
    """Where synthesis stands before a convolution.

    Attributes:
        layer: The convolution that comes next, counted from 0.
        features: Its input, before modulation.
        image: The sum of the ToRGB layers passed so far, at their resolution; none before the
            first.
    """

    layer: int
    features: Features
    image: ImageBelow | None

    def select(self, rows: Tensor) -> "SynthesisState":
        """The states of some images, in the order of `rows`; a row may be taken many times."""
        image = None if self.image is None else self.image[rows]
        return SynthesisState(self.layer, self.features[rows], image)


class Generator(nn.Module):
    """Latents → styles → images.

    Attributes:
        layout: Which flat style coordinate is which channel of which layer.
        num_latents: Number of latents that the layers take, one each, when styles are mixed.
    """

    def __init__(
        self,
        resolution_px: int,
        image_channels: int,
        latent_dim: int,
        channel_base: int,
        channel_max: int,
        noise: bool,
        styled_channels: int | None = None,
    ) -> None:
        """Builds an untrained generator.

        Args:
            resolution_px: Height and width of the images.
            image_channels: 1 or 3.
            latent_dim: Length of a latent.
            channel_base: Channels times resolution, up to
            channel_max: Most channels.
            noise: Whether convolutions add noise.
            styled_channels: Most input channels of a convolution that have a style; ToRGB layers
                then have none, so that all of an image is said by these few coordinates. None
                styles every channel of both (StyleGAN2).
        """
        super().__init__()
        self.layout = StyleLayout.of_generator(
            resolution_px, channel_base, channel_max, styled_channels
        )
        first = channels_at(4, channel_base, channel_max)
        self.const = nn.Parameter(torch.randn(first, 4, 4))
        self.convolutions, self.torgbs = nn.ModuleList(), nn.ModuleList()
        below, resolution = 0, 4
        while resolution <= resolution_px:
            here = channels_at(resolution, channel_base, channel_max)
            for in_channels, up in ((below, True), (here, False)):
                if in_channels:
                    num_styles = self.layout.layers[len(self.convolutions)].num_channels
                    self.convolutions.append(
                        SynthesisLayer(
                            in_channels,
                            here,
                            latent_dim,
                            resolution,
                            up=up,
                            noise=noise,
                            num_styles=num_styles,
                        )
                    )
            self.torgbs.append(ToRGB(here, image_channels, latent_dim, styled_channels is None))
            below, resolution = here, resolution * 2
        self.num_latents = len(self.convolutions) + 1

    def styles(self, latents: Latents | LayerLatents) -> Styles:
        """Style coordinates of latents, in the order of `layout`.

        Args:
            latents: One latent per image, or one per layer: convolution j takes the j-th, and a
                block's ToRGB takes that of the next block's first convolution (the last block: the
                last).
        """
        if latents.ndim == 2:
            latents = latents[:, None].expand(-1, self.num_latents, -1)
        convolutions = [
            layer.affine(latents[:, j])
            for j, layer in enumerate(cast(list[SynthesisLayer], self.convolutions))
        ]
        torgbs = [
            layer.affine(latents[:, 2 * j + 1])
            for j, layer in enumerate(cast(list[ToRGB], self.torgbs))
            if hasattr(layer, "affine")
        ]
        return torch.cat((*convolutions, *torgbs), dim=1)  # [b s]

    def synthesis(
        self,
        styles: Styles,
        start: SynthesisState | None = None,
        noise: NoiseMaps | None = None,
    ) -> Images:
        """Images of styles.

        Args:
            styles: All coordinates, whatever `start` is; those of layers before it are not read.
            start: State from which to go on, with one row per row of `styles`; none begins at the
                constant.
            noise: One map per convolution, as `noise_maps` draws them; none takes the stored noise,
                and the result is deterministic.
        """
        parts = styles.split(self.layout.sizes, dim=1)
        state = self._begin(len(styles)) if start is None else start
        features, image = state.features, state.image
        for j in range(state.layer, len(self.convolutions)):
            features = self.convolutions[j](features, parts[j], noise[j] if noise else None)
            if j % 2 == 0:
                image = self._add_image(j // 2, features, parts, image)
        assert image is not None
        return image

    def states(self, styles: Styles) -> list[SynthesisState]:
        """The state before every convolution, with stored noise, for `synthesis(start=...)`."""
        parts = styles.split(self.layout.sizes, dim=1)
        state = self._begin(len(styles))
        found = [state]
        for j, layer in enumerate(self.convolutions[:-1]):
            features, image = layer(state.features, parts[j], None), state.image
            if j % 2 == 0:
                image = self._add_image(j // 2, features, parts, image)
            state = SynthesisState(j + 1, features, image)
            found.append(state)
        return found

    def noise_maps(self, batch_size: int, random: torch.Generator) -> NoiseMaps:
        """Fresh noise for every convolution; none for a generator without noise."""
        layers = cast(list[SynthesisLayer], self.convolutions)
        shapes = [(batch_size, 1, m.resolution_px, m.resolution_px) for m in layers if m.noise]
        return [torch.randn(s, generator=random, device=random.device) for s in shapes]

    def forward(self, latents: Latents | LayerLatents, noise: NoiseMaps | None = None) -> Images:
        """Images of latents."""
        return self.synthesis(self.styles(latents), noise=noise)

    def set_precision(self, precision: Precision) -> None:
        """Says how each block computes."""
        finest = self.layout.layers[-1].resolution_px
        layers = [*self.convolutions, *self.torgbs]
        for layer, place in zip(layers, self.layout.layers, strict=True):
            layer.compute = precision.at(place.resolution_px, finest)

    def _begin(self, batch_size: int) -> SynthesisState:
        return SynthesisState(0, self.const.expand(batch_size, -1, -1, -1), None)

    def _add_image(
        self, block: int, features: Features, parts: tuple[Tensor, ...], image: ImageBelow | None
    ) -> Float[Tensor, "b o h w"]:
        return self.torgbs[block](features, parts[len(self.convolutions) + block], image)

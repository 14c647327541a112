"""StyleSpace: which flat coordinate is which channel of which layer.

The flat vector holds the convolutions' styles from coarse to fine, then the ToRGB layers' styles
from coarse to fine; a convolution coordinate therefore has the number that the official AttFind
notebook gives it.
Source: Wu et al. 2021, "StyleSpace Analysis" (arXiv:2011.12799); Lang et al. 2021
    (arXiv:2104.13369).
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, NamedTuple

from stylex.gan.layers import channels_at


class StyleLayer(NamedTuple):
    """One affine layer: its readable name, its kind, its resolution, its coordinates."""

    name: str
    kind: Literal["convolution", "torgb"]
    resolution_px: int
    num_channels: int


class Coordinate(NamedTuple):
    """A style coordinate as (layer, channel)."""

    layer: int
    channel: int


@dataclass(frozen=True)
class StyleLayout:
    """Maps a flat style coordinate to (layer, channel) and back.

    Attributes:
        layers: All style layers in flat order: the convolutions first, then the ToRGB layers.
    """

    layers: tuple[StyleLayer, ...]

    @classmethod
    def of_generator(
        cls,
        resolution_px: int,
        channel_base: int,
        channel_max: int,
        styled_channels: int | None = None,
    ) -> "StyleLayout":
        """Layout of a StyleGAN2 generator with skip architecture; see `Generator`."""
        convolutions, torgbs = [], []
        below = 0
        resolution = 4
        while resolution <= resolution_px:
            here = channels_at(resolution, channel_base, channel_max)
            if below:
                convolutions.append(
                    StyleLayer(f"{resolution}px conv0", "convolution", resolution, below)
                )
            convolutions.append(
                StyleLayer(f"{resolution}px conv1", "convolution", resolution, here)
            )
            torgbs.append(StyleLayer(f"{resolution}px torgb", "torgb", resolution, here))
            below, resolution = here, resolution * 2
        if styled_channels is not None:
            convolutions = [
                layer._replace(num_channels=min(layer.num_channels, styled_channels))
                for layer in convolutions
            ]
            torgbs = [layer._replace(num_channels=0) for layer in torgbs]
        return cls((*convolutions, *torgbs))

    @property
    def sizes(self) -> list[int]:
        """Coordinates of every layer, in flat order."""
        return [layer.num_channels for layer in self.layers]

    @property
    def offsets(self) -> list[int]:
        """Flat coordinate of every layer's channel 0."""
        return [0, *accumulate(self.sizes)][:-1]

    @property
    def num_coordinates(self) -> int:
        """Length of the flat style vector."""
        return sum(self.sizes)

    def locate(self, index: int) -> Coordinate:
        """Layer and channel of a flat coordinate.

        Raises:
            ValueError: If `index` is no coordinate.
        """
        if not 0 <= index < self.num_coordinates:
            raise ValueError(f"index must be in [0, {self.num_coordinates}), got {index}")
        layer = max(i for i, offset in enumerate(self.offsets) if offset <= index)
        return Coordinate(layer, index - self.offsets[layer])

    def index(self, layer: int, channel: int) -> int:
        """Flat coordinate of a channel of a layer.

        Raises:
            ValueError: If there is no such layer or channel.
        """
        if not 0 <= layer < len(self.layers):
            raise ValueError(f"layer must be in [0, {len(self.layers)}), got {layer}")
        if not 0 <= channel < self.sizes[layer]:
            raise ValueError(f"channel must be in [0, {self.sizes[layer]}), got {channel}")
        return self.offsets[layer] + channel

    def name(self, index: int) -> str:
        """A coordinate as people read it, such as `16px conv1 #12`."""
        layer, channel = self.locate(index)
        return f"{self.layers[layer].name} #{channel}"

    def searched(self, torgb: bool = False) -> list[int]:
        """Coordinates that a search moves: the convolutions', and ToRGB's only if asked for."""
        return [
            offset + channel
            for layer, offset in zip(self.layers, self.offsets, strict=True)
            if torgb or layer.kind == "convolution"
            for channel in range(layer.num_channels)
        ]

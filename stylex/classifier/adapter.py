"""What a network takes: size, channels, range and normalisation of its images."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.imaging import resize
from stylex.types import Images

DECLARED = ("input_resolution_px", "input_channels", "input_range", "mean", "std")


class Adapter(nn.Module):
    """Brings images in [-1, 1] into the form that a network was trained with."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        input_resolution_px: int,
        input_channels: int,
        input_range: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        """Declares a network's input.

        Args:
            input_resolution_px: Height and width that the network expects; images are resized to
                it.
            input_channels: 1 or 3; images are repeated or averaged over channels to it.
            input_range: Values that black and white have before normalisation, such as (0, 1).
            mean: Subtracted per channel, in units of `input_range`.
            std: Divided by, per channel.

        Raises:
            InputError: If the declaration contradicts itself.
        """
        super().__init__()
        low, high = (float(v) for v in input_range)
        if not low < high:
            raise InputError(
                f"classifier.input_range must be (low, high), got ({low}, {high}); swap them"
            )
        if input_channels not in (1, 3):
            raise InputError(f"classifier.input_channels must be 1 or 3, got {input_channels}")
        if not all(0 < float(v) < math.inf for v in std):
            raise InputError(f"classifier.std must be above 0, got {list(std)}")
        for name, values in (("mean", mean), ("std", std)):
            if len(values) not in (1, input_channels):
                raise InputError(
                    f"classifier.{name} must have one value per input channel ({input_channels}), "
                    f"got {len(values)}"
                )
            column = torch.tensor([float(v) for v in values])[:, None, None]
            self.register_buffer(name, column, persistent=False)
        self.input_resolution_px, self.input_channels = input_resolution_px, input_channels
        self.low, self.high = low, high

    def forward(self, images: Images) -> Float[Tensor, "b c2 h2 w2"]:
        """Adapts images; differentiable."""
        return self.normalise(resize(images, self.input_resolution_px))

    def normalise(self, images: Images) -> Float[Tensor, "b c2 h w"]:
        """Adapts channels and values of images of any size, which stays; differentiable."""
        if self.input_channels == 3 and images.shape[1] == 1:
            images = images.expand(-1, 3, -1, -1)
        elif self.input_channels == 1 and images.shape[1] == 3:
            images = images.mean(dim=1, keepdim=True)
        images = (images + 1) / 2 * (self.high - self.low) + self.low
        return (images - self.mean) / self.std

    def declaration(self) -> str:
        """All settings in one text."""
        fixed = (self.input_resolution_px, self.input_channels, self.low, self.high)
        return repr((fixed, self.mean.tolist(), self.std.tolist()))


def build_adapter(spec: Mapping[str, Any], network: nn.Module | None = None) -> Adapter:
    """The adapter that a configuration declares.

    Args:
        spec: The declaration; what is none in it is what the network says of itself.
        network: Says it in its attribute `declared_input`, if it has one.

    Raises:
        InputError: If neither says it, or a value is of another kind.
    """
    declared = declared_input(spec, network)
    try:
        return Adapter(**declared)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(
            "a classifier's input must be declared by numbers (input_resolution_px, "
            "input_channels) and lists of numbers (input_range, mean, std), got "
            f"{declared}; correct the configuration"
        ) from error


def declared_input(spec: Mapping[str, Any], network: nn.Module | None) -> dict[str, Any]:
    """The declaration with every none filled in by the network.

    Raises:
        InputError: If the network does not say it.
    """
    own = getattr(network, "declared_input", None) or {}
    found = {key: own.get(key) if spec[key] is None else spec[key] for key in DECLARED}
    for key, value in found.items():
        if value is None:
            raise InputError(
                f"classifier.{key} must be given, got null, and the network does not say it of "
                f"itself; give classifier.{key}=VALUE"
            )
    return found

"""Pictures as numbers that an optimiser moves: pixels, or the spectrum of natural-looking colours.

Steps along pixels favour fine noise. Steps along a spectrum whose amplitudes fall with frequency,
in colours that are uncorrelated in photographs, favour what photographs look like.
Source: Olah et al. 2017, "Feature Visualization" (doi:10.23915/distill.00007), Preconditioning;
    the colour axes are Ohta et al. 1980, "Color information for region segmentation".
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.errors import InputError
from stylex.types import Images

# Lightness, orange against blue, magenta against green: rows of red, green, blue.
AXES = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))
SPREADS = (0.86, 0.37, 0.12)  # standard deviations along them in scikit-image's photographs


@dataclass(frozen=True)
class Canvas:
    """How a picture is written as numbers; all zeros are grey.

    Attributes:
        size_px: Height and width of the picture.
        fourier: Whether the numbers are a spectrum, or else pixels.
        decay: Power of the frequency by which amplitudes fall; 0 is flat, photographs have 1.
            Pixels ignore it.
        spread: Standard deviation of the random start, before the values are bent into [-1, 1].
    """

    size_px: int
    fourier: bool
    decay: float
    spread: float

    def start(self, channels: int, seed: int, device: torch.device) -> Float[Tensor, "1 ..."]:
        """Numbers of one random picture, the same on every device.

        Raises:
            InputError: If the size is not positive.
        """
        size = self.size_px
        if size < 1:
            raise InputError(f"canvas.size_px must be at least 1, got {size}; give the pixels")
        shape = (1, channels, size, size // 2 + 1, 2) if self.fourier else (1, channels, size, size)
        random = torch.Generator().manual_seed(seed)
        return (torch.randn(shape, generator=random) * self.spread).to(device)

    def images(self, numbers: Float[Tensor, "b c ..."]) -> Images:
        """Pictures that the numbers stand for, in (-1, 1); differentiable."""
        if not self.fourier:
            return numbers.tanh()
        amplitudes = self._amplitudes(numbers.device)
        spectrum = torch.view_as_complex(numbers.contiguous()) * amplitudes
        size = (self.size_px, self.size_px)
        return _coloured(torch.fft.irfft2(spectrum, size, norm="ortho")).tanh()

    def _amplitudes(self, device: torch.device) -> Float[Tensor, "h w2"]:
        """Such that independent numbers of variance 1 give values of variance 1."""
        size = self.size_px
        rows, columns = torch.fft.fftfreq(size)[:, None], torch.fft.fftfreq(size)[None]
        frequencies = (rows.square() + columns.square()).sqrt().clamp(min=1 / size)  # [h w]
        amplitudes = frequencies**-self.decay
        # Real and imaginary part have variance 1 each; of waves that no column
        # changes, half is lost, for the spectrum of real values mirrors itself.
        variances = 2 * amplitudes.square()
        variances[:, columns[0].abs() == 0] /= 2
        variances[:, columns[0].abs() == 0.5] /= 2
        amplitudes = amplitudes / variances.mean().sqrt()
        return amplitudes[:, : size // 2 + 1].to(device)


def _coloured(components: Images) -> Images:
    """Turns uncorrelated components into red, green and blue; a single channel stays."""
    if components.shape[1] != 3:
        return components
    axes = components.new_tensor(AXES)
    spreads = components.new_tensor(SPREADS)
    axes = axes / axes.norm(dim=1, keepdim=True) * spreads[:, None]
    axes = axes / axes.square().sum(dim=0).mean().sqrt()
    return torch.einsum("bkhw,kc->bchw", components, axes)


def total_variation(images: Images) -> Float[Tensor, " b"]:
    """Sum of the absolute differences of neighbouring pixels, divided by the number of values."""
    across = images.diff(dim=3).abs().sum(dim=(1, 2, 3))
    down = images.diff(dim=2).abs().sum(dim=(1, 2, 3))
    return (across + down) / images[0].numel()

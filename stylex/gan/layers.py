"""Layers of StyleGAN2: fully connected, convolution, modulated synthesis layer, ToRGB.

Weights are stored at unit variance and scaled when used (equalised learning rate). The conventions
are those of the released StyleGAN2 weights, so that these can be read without arithmetic beyond
renaming.
Source: Karras et al. 2020, "Analyzing and Improving the Image Quality of StyleGAN"
    (arXiv:1912.04958).
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.gan.compute import PLAIN, Compute
from stylex.ops.convolution import conv2d, conv_transpose2d
from stylex.ops.epilogue import GAIN, SLOPE, epilogue
from stylex.ops.modulate import modulate
from stylex.ops.upfirdn2d import downsample2d, upfirdn2d, upsample2d

EPSILON = 1e-8  # of demodulation, of the second moment, of the minibatch deviation
Features = Float[Tensor, "b c h w"]


def channels_at(resolution_px: int, channel_base: int, channel_max: int) -> int:
    """Feature channels of a block: min(channel_base / resolution, channel_max)."""
    return min(channel_base // resolution_px, channel_max)


def resampling_taps() -> Float[Tensor, " t"]:
    """The filter [1, 3, 3, 1] of one axis, with sum 1."""
    return torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8


class FullyConnected(nn.Module):
    """Linear layer with equalised learning rate, optionally followed by leaky ReLU · sqrt(2)."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias_init: float = 0.0,
        lr_multiplier: float = 1.0,
        activate: bool = False,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_features, in_features) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((out_features,), bias_init / lr_multiplier))
        self.weight_gain = lr_multiplier / math.sqrt(in_features)
        self.bias_gain = lr_multiplier
        self.activate = activate

    def forward(self, x: Float[Tensor, "b i"]) -> Float[Tensor, "b o"]:
        """Returns W·x + b, activated if so built."""
        x = F.linear(x, self.weight * self.weight_gain, self.bias * self.bias_gain)
        return F.leaky_relu(x, SLOPE) * GAIN if self.activate else x


class Convolution(nn.Module):
    """Convolution of discriminator and encoder; optionally halves the resolution.

    A 3×3 kernel filters with padding 2 and convolves with stride 2; a 1×1 kernel filters,
    decimates, convolves.
    """

    taps: Tensor
    compute: Compute

    def __init__(
        self, in_channels: int, out_channels: int, kernel_px: int, *, down: bool, activate: bool
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, kernel_px, kernel_px))
        self.bias = nn.Parameter(torch.zeros(out_channels)) if activate else None
        self.weight_gain = 1 / math.sqrt(in_channels * kernel_px**2)
        self.kernel_px, self.down = kernel_px, down
        self.compute = PLAIN
        self.register_buffer("taps", resampling_taps(), persistent=False)

    def forward(self, x: Features, gain: float = GAIN) -> Float[Tensor, "b o h2 w2"]:
        """Convolves and multiplies the activated, or the linear, result by `gain`.

        Args:
            x: Features.
            gain: Factor on the result; sqrt(2) after a leaky ReLU keeps the variance.
        """
        compute, padding, stride = self.compute, self.kernel_px // 2, 1
        dtype = compute.dtype(self.weight)
        x = compute.arrange(x.to(dtype))
        if self.down and self.kernel_px == 1:
            x = downsample2d(x, self.taps, impl=compute.impl)
        elif self.down:
            # 1 pixel for the filter's half length after decimation, 1 for the kernel's.
            x = upfirdn2d(x, self.taps, padding=(2, 2), impl=compute.impl)
            padding, stride = 0, 2
        scale = self.weight_gain * (gain if self.bias is None else 1.0)
        weight = compute.arrange((self.weight * scale).to(dtype))
        x = conv2d(x, weight, stride, padding, impl=compute.impl)
        if self.bias is None:
            return _clamped(x, compute.clamp * gain)
        clamp = compute.clamp * gain / GAIN
        return epilogue(x, self.bias, gain=gain, clamp=clamp, impl=compute.impl)


def _clamped(x: Features, limit: float) -> Features:
    return x if math.isinf(limit) else x.clamp(-limit, limit)


def demodulation(
    weight: Float[Tensor, "o i k k"], styles: Float[Tensor, "b i"]
) -> Float[Tensor, "b o"]:
    """One over the norm of each output filter after modulation, as one matrix product.

    The norm needs only the squared styles and the kernel's squares summed over its window (eq. 3
    of the paper), so the modulated kernels are never formed.
    """
    return torch.rsqrt(styles.square() @ weight.square().sum(dim=(2, 3)).t() + EPSILON)


class SynthesisLayer(nn.Module):
    """Modulated 3×3 convolution, noise, bias, leaky ReLU; optionally doubles the resolution.

    Modulation scales the input and demodulation the output, outside one ordinary convolution.
    With fewer styles than input channels, the other channels are scaled by 1.
    """

    taps: Tensor
    noise_const: Tensor
    compute: Compute

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        latent_dim: int,
        resolution_px: int,
        *,
        up: bool,
        noise: bool,
        num_styles: int | None = None,
    ) -> None:
        super().__init__()
        styled = in_channels if num_styles is None else num_styles
        self.affine = FullyConnected(latent_dim, styled, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        self.resolution_px, self.up, self.noise = resolution_px, up, noise
        self.compute = PLAIN
        self.register_buffer("taps", resampling_taps(), persistent=False)
        if noise:
            self.noise_strength = nn.Parameter(torch.zeros(()))
            self.register_buffer("noise_const", torch.randn(resolution_px, resolution_px))

    def forward(
        self, x: Features, styles: Float[Tensor, "b s"], noise: Float[Tensor, "_ 1 h2 w2"] | None
    ) -> Float[Tensor, "b o h2 w2"]:
        """Convolves with the modulated kernel.

        Args:
            x: Features of the layer before.
            styles: Factor on every input channel, or on the first of them.
            noise: One map per sample; none takes the layer's stored noise. Not read by a layer
                without noise.

        Returns:
            Features of this layer.
        """
        compute, taps = self.compute, None
        weight: Tensor = self.weight
        styles = F.pad(styles, (0, weight.shape[1] - styles.shape[1]), value=1.0)
        if compute.low == torch.float16:
            weight, styles = _normalised(weight, styles)
        factors = demodulation(weight, styles)
        dtype = compute.dtype(weight)
        x = modulate(compute.arrange(x), styles, dtype, compute.impl)
        weight = weight.to(dtype)
        if self.up:
            kernel = compute.arrange(weight.transpose(0, 1))
            x = conv_transpose2d(x, kernel, stride=2, impl=compute.impl)
            taps = self.taps
        else:
            x = conv2d(x, compute.arrange(weight), padding=1, impl=compute.impl)
        if self.noise and noise is None:
            noise = self.noise_const[None, None]
        return epilogue(
            x,
            self.bias,
            factors,
            noise if self.noise else None,
            self.noise_strength if self.noise else None,
            taps,
            blur_gain=4.0,
            clamp=compute.clamp,
            impl=compute.impl,
        )


def _normalised(
    weight: Float[Tensor, "o i k k"], styles: Float[Tensor, "b i"]
) -> tuple[Float[Tensor, "o i k k"], Float[Tensor, "b i"]]:
    """Weight and styles in a range that float16 holds; demodulation undoes the factors."""
    fan_in = weight[0].numel()
    weight = weight / (math.sqrt(fan_in) * weight.abs().amax(dim=(1, 2, 3), keepdim=True))
    return weight, styles / styles.abs().amax(dim=1, keepdim=True)


class ToRGB(nn.Module):
    """Modulated 1×1 convolution to image channels, added to the upsampled image so far.

    It has no demodulation.

    The style coordinate is the affine layer's output, before the gain 1/sqrt(channels). Without
    styles every channel is scaled by the gain alone.
    """

    taps: Tensor
    compute: Compute

    def __init__(
        self, in_channels: int, image_channels: int, latent_dim: int, styled: bool = True
    ) -> None:
        super().__init__()
        if styled:
            self.affine = FullyConnected(latent_dim, in_channels, bias_init=1.0)
        self.weight = nn.Parameter(torch.randn(image_channels, in_channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(image_channels))
        self.style_gain = 1 / math.sqrt(in_channels)
        self.compute = PLAIN
        self.register_buffer("taps", resampling_taps(), persistent=False)

    def forward(
        self, x: Features, styles: Float[Tensor, "b s"], image: Float[Tensor, "b o h2 w2"] | None
    ) -> Float[Tensor, "b o h w"]:
        """Adds this block's image to `image`, the sum of the blocks below at half the size."""
        compute, dtype = self.compute, self.compute.dtype(self.weight)
        styles = F.pad(styles, (0, self.weight.shape[1] - styles.shape[1]), value=1.0)
        x = modulate(compute.arrange(x), styles * self.style_gain, dtype, compute.impl)
        x = conv2d(x, self.weight.to(dtype), impl=compute.impl).to(self.bias.dtype)
        x = _clamped(x + self.bias[:, None, None], compute.clamp)
        return x if image is None else x + upsample2d(image, self.taps, impl=compute.impl)

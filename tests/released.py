"""The released age model as TensorFlow computes it, written out in float64 from its own variables.

Nothing of the package is used here: names, shapes, paddings and arithmetic are spelled out again.
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

Shapes = dict[str, tuple[int, ...]]
Arrays = dict[str, np.ndarray]
SLOPE, ROOT_HALF = 0.2, math.sqrt(0.5)
MOBILENET = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)]
MOBILENET += [(512, 1)] * 5 + [(1024, 2), (1024, 1)]

# Names and shapes --------------------------------------------------------------------------------


def sizes_up_to(resolution: int) -> list[int]:
    return [2**i for i in range(2, int(math.log2(resolution)) + 1)]


def generator_shapes(resolution: int, base: int, most: int, latent: int, layers: int) -> Shapes:
    """Variables of generator and mapping; two classes lengthen the latent."""
    width = {r: min(base // r, most) for r in sizes_up_to(resolution)}
    wide, styled, drawn = latent + 2, "generator_style_calculator", "generator_synthesis"
    shapes: Shapes = {"dlatent_avg": (latent,)}
    for i in range(layers):
        shapes[f"generator/generator_mapping/Dense{i}/MappingDense_{i}"] = (latent, latent)
        shapes[f"generator/generator_mapping/DenseBiasAct{i}/MappingBias_{i}"] = (1, latent)
    for j, r in enumerate(sizes_up_to(resolution)):
        styles, noises = {}, {}
        if r == 4:
            shapes[f"{drawn}/ConstBlock4x4/Const4x4"] = (1, width[4], 4, 4)
            convolutions = [("ConstBlock4x4/GeneratorLayer4x4", "Const", 4, 0)]
        else:
            block = f"GeneratorBlock{r}x{r}"
            convolutions = [
                (f"{block}/Conv0Up", f"{j - 1}_0", r // 2, 2 * j - 1),
                (f"{block}/Conv1", f"{j - 1}_1", r, 2 * j),
            ]
        for layer, style, below, number in convolutions:
            shapes[f"{drawn}/{layer}/ModulatedConv2D/weight"] = (3, 3, width[below], width[r])
            shapes[f"{drawn}/{layer}/FusedBiasAct/BiasAct"] = (1, width[r], 1, 1)
            shapes[f"{drawn}/{layer}/NoiseStrength"] = ()
            noises[f"Noise{number}"] = (1, 1, r, r)
            styles[style] = width[below]
        shapes[f"{drawn}/ToRGB{r}x{r}/ModulatedConv2D/weight"] = (1, 1, width[r], 3)
        shapes[f"{drawn}/ToRGB{r}x{r}/FusedBiasActivation/ToRGBBiasAct"] = (1, 3, 1, 1)
        styles["ConstRGB" if r == 4 else f"RGB{j - 1}"] = width[r]
        for style, channels in styles.items():
            scope = f"{styled}/StyleVector{style}"
            shapes[f"{scope}/StyleGAN2Dense/weight"] = (wide, channels)
            shapes[f"{scope}/FusedBiasActivation/bias"] = (1, channels)
        shapes |= noises
    return {f"generator/{name}": shape for name, shape in shapes.items()}


def residual_shapes(
    model: str, resolution: int, base: int, most: int, outputs: int, deviation: bool
) -> Shapes:
    """Variables of encoder or discriminator."""
    width = {r: min(base // r, most) for r in sizes_up_to(resolution)}
    mine = "Encoder" if model == "encoder" else ""
    last = "style_gan2_dense" if model == "encoder" else "style_gan2_dense_4"
    rgb, wide = f"{mine}FromRGB{resolution}x{resolution}", width[resolution]
    shapes: Shapes = {
        f"{rgb}/StyleGAN2Conv2D/weight": (1, 1, 3, wide),
        f"{rgb}/FusedBiasActivation/FromRGBBias": (1, wide, 1, 1),
    }
    for r in sizes_up_to(resolution)[1:]:
        block = f"EncoderBlock{r}x{r}" if mine else f"DiscriminatorBlock{r}x{r}"
        shapes[f"{block}/Conv0/weight"] = (3, 3, width[r], width[r])
        shapes[f"{block}/Conv0Bias/BiasAct0"] = (1, width[r], 1, 1)
        shapes[f"{block}/Conv1Down/weight"] = (3, 3, width[r], width[r // 2])
        shapes[f"{block}/Conv1DownBiasAct/BiasAct1"] = (1, width[r // 2], 1, 1)
        shapes[f"{block}/Skip/weight"] = (1, 1, width[r], width[r // 2])
    shapes |= {
        "Conv4x4/weight": (3, 3, width[4] + deviation, width[4]),
        f"{mine}ConvBiasAct4x4/ConvBiasAct4x4": (1, width[4], 1, 1),
        f"{mine}Dense4x4/weight": (16 * width[4], width[4]),
        f"{mine}DenseBiasAct4x4/DenseBiasAct4x4": (1, width[4]),
        f"{last}/weight": (width[4], outputs),
        f"{mine}OutputBiasAct/OutputBiasAct": (1, outputs),
    }
    return {
        f"{model}/{'encoder' if mine else 'discriminator_1'}/{name}": shape
        for name, shape in shapes.items()
    }


def mobilenet_shapes() -> Shapes:
    """Variables of Keras' MobileNet with two classes."""
    shapes: Shapes = {"conv1/kernel": (3, 3, 3, 32), **_norm("conv1", 32)}
    below = 32
    for i, (here, _) in enumerate(MOBILENET, start=1):
        shapes[f"conv_dw_{i}/depthwise_kernel"] = (3, 3, below, 1)
        shapes |= _norm(f"conv_dw_{i}", below)
        shapes[f"conv_pw_{i}/kernel"] = (1, 1, below, here)
        shapes |= _norm(f"conv_pw_{i}", here)
        below = here
    shapes |= {"conv_preds/kernel": (1, 1, 1024, 2), "conv_preds/bias": (2,)}
    return {f"mobilenet/{name}": shape for name, shape in shapes.items()}


def _norm(name: str, channels: int) -> Shapes:
    parts = ("gamma", "beta", "moving_mean", "moving_variance")
    return {f"{name}_bn/{part}": (channels,) for part in parts}


def random_arrays(shapes: Shapes, seed: int) -> Arrays:
    """Values of a likely size; nothing is 0 or 1 that could hide a mistake."""
    random = np.random.default_rng(seed)
    arrays = {}
    for name, shape in shapes.items():
        value = random.standard_normal(shape)
        last = name.rsplit("/", 1)[-1]
        if last.startswith("Mapping"):
            value = value / 0.01  # a learning rate multiplier of 0.01 is undone on use
        elif "kernel" in last:  # keeps the variance through a ReLU
            inputs = shape[0] * shape[1] * (1 if last.startswith("depth") else shape[2])
            value = value * math.sqrt(2 / inputs)
        elif last == "gamma":
            value = 1.5 + 0.2 * value
        elif last == "moving_variance":
            value = 1 + 0.3 * np.abs(value)
        elif "ias" in last or last in ("NoiseStrength", "beta", "moving_mean"):
            value = 0.2 * value
        arrays[name] = np.asarray(value, np.float32)
    return arrays


# Arithmetic --------------------------------------------------------------------------------------


class Variables:
    """Arrays of one model, by the end of their names, as float64 tensors."""

    def __init__(self, arrays: Arrays, model: str) -> None:
        self.arrays = {k: v for k, v in arrays.items() if k.startswith(f"{model}/")}

    def __call__(self, ending: str) -> Tensor:
        """The only array whose name ends so."""
        (found,) = (v for k, v in self.arrays.items() if k.endswith(f"/{ending}"))
        return torch.from_numpy(np.array(found, np.float64))


def correlate(x: Tensor, kernel: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
    """TensorFlow's conv2d without padding; the kernel's axes are h w i o."""
    return functional.conv2d(x, kernel.permute(3, 2, 0, 1), stride=stride, groups=groups)


def leaky(x: Tensor) -> Tensor:
    return torch.where(x > 0, x, SLOPE * x) * math.sqrt(2)


def zeros_between(x: Tensor) -> Tensor:
    """A zero after every sample."""
    batch, channels, height, width = x.shape
    stuffed = torch.zeros(batch, channels, 2 * height, 2 * width, dtype=x.dtype)
    stuffed[:, :, ::2, ::2] = x
    return stuffed


def smooth(x: Tensor, before: int, after: int, gain: float) -> Tensor:
    """Pads and filters with [1, 3, 3, 1] on both axes."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=x.dtype) / 8
    x = functional.pad(x, (before, after, before, after))
    x = sum(taps[i] * x[:, :, i : i + x.shape[2] - 3] for i in range(4))
    return gain * sum(taps[i] * x[..., i : i + x.shape[3] - 3] for i in range(4))


def map_to_latent(v: Variables, z: Tensor) -> Tensor:
    """Mapping network with a learning rate multiplier of 0.01."""
    x = z / (z.square().mean(dim=1, keepdim=True) + 1e-8).sqrt()
    i = 0
    while any(name.endswith(f"MappingDense_{i}") for name in v.arrays):
        weight = v(f"Dense{i}/MappingDense_{i}") * 0.01 / math.sqrt(x.shape[1])
        x = leaky(x @ weight + 0.01 * v(f"MappingBias_{i}"))
        i += 1
    return x


def style_of(v: Variables, latent: Tensor, name: str) -> Tensor:
    weight = v(f"StyleVector{name}/StyleGAN2Dense/weight") / math.sqrt(latent.shape[1])
    return latent @ weight + v(f"StyleVector{name}/FusedBiasActivation/bias") + 1


def modulated(x: Tensor, kernel: Tensor, style: Tensor, up: bool, demodulate: bool) -> Tensor:
    """Every image with a kernel of its own, formed in full."""
    images, margin = [], (len(kernel) // 2,) * 4
    for row, factors in zip(x, style, strict=True):
        own = kernel / math.sqrt(kernel[..., 0].numel()) * factors[None, None, :, None]
        if demodulate:
            own = own / (own.square().sum(dim=(0, 1, 2)) + 1e-8).sqrt()
        if up:  # 2n + 1 samples, then the filter's 2n
            stuffed = functional.pad(zeros_between(row[None]), (2, 1, 2, 1))
            images.append(smooth(correlate(stuffed, own), 1, 1, gain=4))
        else:
            images.append(correlate(functional.pad(row[None], margin), own))
    return torch.cat(images)


def generate(v: Variables, latent: Tensor, resolution: int) -> Tensor:
    """Images, which are not limited to [-1, 1]."""
    x = v("Const4x4").expand(len(latent), -1, -1, -1)
    image = None

    def layer(x: Tensor, scope: str, style: str, number: int, up: bool) -> Tensor:
        kernel = v(f"{scope}/ModulatedConv2D/weight")
        x = modulated(x, kernel, style_of(v, latent, style), up=up, demodulate=True)
        x = x + v(f"Noise{number}") * v(f"{scope}/NoiseStrength")
        return leaky(x + v(f"{scope}/FusedBiasAct/BiasAct"))

    for j, r in enumerate(sizes_up_to(resolution)):
        if r == 4:
            x = layer(x, "ConstBlock4x4/GeneratorLayer4x4", "Const", 0, up=False)
        else:
            x = layer(x, f"GeneratorBlock{r}x{r}/Conv0Up", f"{j - 1}_0", 2 * j - 1, up=True)
            x = layer(x, f"GeneratorBlock{r}x{r}/Conv1", f"{j - 1}_1", 2 * j, up=False)
        style = style_of(v, latent, "ConstRGB" if r == 4 else f"RGB{j - 1}")
        kernel = v(f"ToRGB{r}x{r}/ModulatedConv2D/weight")
        here = modulated(x, kernel, style, up=False, demodulate=False)
        here = here + v(f"ToRGB{r}x{r}/FusedBiasActivation/ToRGBBiasAct")
        image = here if image is None else here + smooth(zeros_between(image), 2, 1, gain=4)
    return image


def residual(v: Variables, images: Tensor, prefix: str, block: str, group: int | None) -> Tensor:
    """Outputs of encoder or discriminator; `group` is the minibatch deviation's."""

    def convolve(x: Tensor, name: str) -> Tensor:
        kernel = v(f"{name}/weight")
        kernel, margin = kernel / math.sqrt(kernel[..., 0].numel()), len(kernel) // 2
        if name.endswith(("Conv1Down", "Skip")):
            return correlate(smooth(x, margin + 1, margin + 1, gain=1), kernel, stride=2)
        return correlate(functional.pad(x, (margin,) * 4), kernel)

    def multiply(x: Tensor, name: str, bias: str) -> Tensor:
        return x @ (v(f"{name}/weight") / math.sqrt(x.shape[1])) + v(bias)

    r = images.shape[-1]
    rgb = f"{prefix}FromRGB{r}x{r}"
    x = convolve(images, f"{rgb}/StyleGAN2Conv2D")
    x = leaky(x + v(f"{rgb}/FusedBiasActivation/FromRGBBias"))
    for r in reversed(sizes_up_to(images.shape[-1])[1:]):
        scope = f"{block}{r}x{r}"
        side = convolve(x, f"{scope}/Skip")
        x = leaky(convolve(x, f"{scope}/Conv0") + v(f"{scope}/Conv0Bias/BiasAct0"))
        x = leaky(convolve(x, f"{scope}/Conv1Down") + v(f"{scope}/Conv1DownBiasAct/BiasAct1"))
        x = (x + side) * ROOT_HALF
    if group is not None:
        x = torch.cat((x, deviations(x, group)), dim=1)
    x = leaky(convolve(x, "Conv4x4") + v(f"{prefix}ConvBiasAct4x4/ConvBiasAct4x4"))
    bias = f"{prefix}DenseBiasAct4x4/DenseBiasAct4x4"
    x = leaky(multiply(x.flatten(1), f"{prefix}Dense4x4", bias))
    last = "style_gan2_dense" if prefix else "style_gan2_dense_4"
    return multiply(x, last, f"{prefix}OutputBiasAct/OutputBiasAct")


def deviations(x: Tensor, group: int) -> Tensor:
    """One map per image: images i, i + b / group, i + 2 b / group ... are one group."""
    found = torch.empty(len(x), 1, *x.shape[2:], dtype=x.dtype)
    for i in range(len(x)):
        members = x[i % (len(x) // group) :: len(x) // group]
        variance = (members - members.mean(dim=0)).square().mean(dim=0)
        found[i] = (variance + 1e-8).sqrt().mean()
    return found


def mobilenet(v: Variables, images: Tensor, relu_max: float) -> Tensor:
    """Logits of images, in evaluation."""

    def unit(x: Tensor, kernel: Tensor, name: str, stride: int, groups: int) -> Tensor:
        x = correlate(same(x, len(kernel), stride), kernel, stride, groups)
        parts = ("moving_mean", "moving_variance", "gamma", "beta")
        mean, variance, gamma, beta = (v(f"{name}_bn/{part}")[:, None, None] for part in parts)
        x = (x - mean) / (variance + 1e-3).sqrt() * gamma + beta
        return x.clamp(min=0, max=relu_max)

    x = unit(images, v("conv1/kernel"), "conv1", 2, 1)
    for i, (_, stride) in enumerate(MOBILENET, start=1):
        kernel = v(f"conv_dw_{i}/depthwise_kernel").permute(0, 1, 3, 2)  # h w 1 c
        x = unit(x, kernel, f"conv_dw_{i}", stride, groups=x.shape[1])
        x = unit(x, v(f"conv_pw_{i}/kernel"), f"conv_pw_{i}", 1, 1)
    x = correlate(x.mean(dim=(2, 3), keepdim=True), v("conv_preds/kernel"))
    return x.flatten(1) + v("conv_preds/bias")


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same" padding: as little as gives ceil(n / stride) outputs, more at the end."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return functional.pad(x, pads)

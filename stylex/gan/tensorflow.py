"""The networks of the released StylEx age model, from their TensorFlow variables.

Kernels change their axes; those of the up-sampling convolutions are also mirrored on both, since
TensorFlow's are correlated with the upsampled features and ours spread every pixel; the bias of
a style is stored there without its 1. All else is renaming. `dlatent_avg` is not read: nothing
here truncates latents.

The names are those that a public conversion of the released files reads; the files themselves were
not at hand. Scopes before them, such as `discriminator_1/`, may differ.
Source: names and axes: Re_StylEx (github.com/irenepap2/Re_StylEx, 1a37fb0 and its history);
    networks: Karras et al. 2020 (arXiv:1912.04958); Lang et al. 2021 (arXiv:2104.13369).
"""

from typing import Any

import numpy as np

from stylex.variables import (
    Entry,
    Table,
    Variables,
    convolution,
    dense,
    highest_number,
    size_of,
    vector,
)

MINIBATCH_GROUP = 4  # assumed, StyleGAN2's: no variable depends on it


def upsampling(weight: np.ndarray) -> np.ndarray:
    """[h w i o] → [o i h w], mirrored on both spatial axes."""
    return convolution(weight)[:, :, ::-1, ::-1]


def style_bias(values: np.ndarray) -> np.ndarray:
    """Styles are stored as their distance from 1."""
    return vector(values) + 1


def scalar(values: np.ndarray) -> np.ndarray:
    """The only value."""
    return values.reshape(())


def first(values: np.ndarray) -> np.ndarray:
    """[1 c h w] → [c h w]."""
    return values.squeeze(0)


def plane(values: np.ndarray) -> np.ndarray:
    """[1 1 h w] → [h w]."""
    return values.squeeze((0, 1))


def released_spec(variables: Variables) -> dict[str, Any]:
    """What the variables' shapes tell about the model, as `build_model` takes it.

    Raises:
        InputError: If a variable is missing or has other axes than the released one.
    """
    resolution = highest_number(variables, "generator", r"/ToRGB(\d+)x\1/")
    to_rgb = f"ToRGB{resolution}x{resolution}/ModulatedConv2D/weight"
    return {
        "resolution_px": resolution,
        "channels": size_of(variables, "generator", to_rgb, "hwio", "o"),
        "latent_dim": size_of(variables, "encoder", "style_gan2_dense*/weight", "io", "o"),
        "mapping_layers": 1 + highest_number(variables, "generator", r"/MappingDense_(\d+)$"),
        "appended": "softmax",
        "generator": {
            "channel_base": resolution * size_of(variables, "generator", to_rgb, "hwio", "i"),
            "channel_max": size_of(variables, "generator", "Const4x4", "bchw", "c"),
            "noise": True,
        },
        "encoder": _residual_widths(variables, "encoder", "Encoder", resolution),
        "discriminator": {
            **_residual_widths(variables, "discriminator", "", resolution),
            "minibatch_group": MINIBATCH_GROUP,
        },
    }


def _residual_widths(
    variables: Variables, model: str, prefix: str, resolution: int
) -> dict[str, int]:
    from_rgb = f"{prefix}FromRGB{resolution}x{resolution}/StyleGAN2Conv2D/weight"
    return {
        "channel_base": resolution * size_of(variables, model, from_rgb, "hwio", "o"),
        "channel_max": size_of(variables, model, f"{prefix}Dense4x4/weight", "io", "o"),
    }


def mapping_table(num_layers: int) -> Table:
    """Where a `Mapping` comes from; its variables are among the generator's."""
    table = {}
    for i in range(num_layers):
        table[f"layers.{i}.weight"] = Entry(f"Dense{i}/MappingDense_{i}", dense)
        table[f"layers.{i}.bias"] = Entry(f"DenseBiasAct{i}/MappingBias_{i}", vector)
    return table


def generator_table(resolution_px: int) -> Table:
    """Where a `Generator` with noise comes from."""
    table = {"const": Entry("Const4x4", first)}
    for block, resolution in enumerate(_resolutions(resolution_px)):
        size = f"{resolution}x{resolution}"
        if block == 0:
            table |= _synthesis_layer(0, f"ConstBlock{size}/GeneratorLayer{size}", "Const")
        else:
            scope = f"GeneratorBlock{size}"
            table |= _synthesis_layer(2 * block - 1, f"{scope}/Conv0Up", f"{block - 1}_0")
            table |= _synthesis_layer(2 * block, f"{scope}/Conv1", f"{block - 1}_1")
        ours, theirs = f"torgbs.{block}", f"ToRGB{size}"
        table[f"{ours}.weight"] = Entry(f"{theirs}/ModulatedConv2D/weight", convolution)
        table[f"{ours}.bias"] = Entry(f"{theirs}/FusedBiasActivation/ToRGBBiasAct", vector)
        table |= _style(ours, f"RGB{block - 1}" if block else "ConstRGB")
    return table


def _synthesis_layer(index: int, scope: str, style: str) -> dict[str, Entry]:
    ours = f"convolutions.{index}"
    return {
        f"{ours}.weight": Entry(
            f"{scope}/ModulatedConv2D/weight", upsampling if index % 2 else convolution
        ),
        f"{ours}.bias": Entry(f"{scope}/FusedBiasAct/BiasAct", vector),
        f"{ours}.noise_strength": Entry(f"{scope}/NoiseStrength", scalar),
        f"{ours}.noise_const": Entry(f"Noise{index}", plane),
        **_style(ours, style),
    }


def _style(ours: str, style: str) -> dict[str, Entry]:
    return {
        f"{ours}.affine.weight": Entry(f"StyleVector{style}/StyleGAN2Dense/weight", dense),
        f"{ours}.affine.bias": Entry(f"StyleVector{style}/FusedBiasActivation/bias", style_bias),
    }


def encoder_table(resolution_px: int) -> Table:
    """Where an `Encoder` comes from."""
    return _residual_table("Encoder", "EncoderBlock", resolution_px)


def discriminator_table(resolution_px: int) -> Table:
    """Where a `Discriminator` comes from."""
    return _residual_table("", "DiscriminatorBlock", resolution_px)


def _residual_table(prefix: str, block: str, resolution_px: int) -> Table:
    """Names of a residual network, whose layers but not all bear a prefix."""
    scope = f"{prefix}FromRGB{resolution_px}x{resolution_px}"
    table = {
        "from_rgb.weight": Entry(f"{scope}/StyleGAN2Conv2D/weight", convolution),
        "from_rgb.bias": Entry(f"{scope}/FusedBiasActivation/FromRGBBias", vector),
    }
    for i, resolution in enumerate(reversed(_resolutions(resolution_px)[1:])):
        ours, scope = f"blocks.{i}", f"{block}{resolution}x{resolution}"
        table |= {
            f"{ours}.conv0.weight": Entry(f"{scope}/Conv0/weight", convolution),
            f"{ours}.conv0.bias": Entry(f"{scope}/Conv0Bias/BiasAct0", vector),
            f"{ours}.conv1.weight": Entry(f"{scope}/Conv1Down/weight", convolution),
            f"{ours}.conv1.bias": Entry(f"{scope}/Conv1DownBiasAct/BiasAct1", vector),
            f"{ours}.skip.weight": Entry(f"{scope}/Skip/weight", convolution),
        }
    return table | {
        "conv.weight": Entry("Conv4x4/weight", convolution),
        "conv.bias": Entry(f"{prefix}ConvBiasAct4x4/ConvBiasAct4x4", vector),
        "fc.weight": Entry(f"{prefix}Dense4x4/weight", dense),
        "fc.bias": Entry(f"{prefix}DenseBiasAct4x4/DenseBiasAct4x4", vector),
        "out.weight": Entry("style_gan2_dense*/weight", dense),
        "out.bias": Entry(f"{prefix}OutputBiasAct/OutputBiasAct", vector),
    }


def _resolutions(resolution_px: int) -> list[int]:
    return [4 * 2**i for i in range((resolution_px // 4).bit_length())]

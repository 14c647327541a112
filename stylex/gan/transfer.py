"""Published weights into StylEx networks, and StylEx networks as weights to publish.

StylEx differs from StyleGAN2 in two places: its generator's latents end with K class probabilities,
which imported affine layers ignore at first, and its discriminator has K outputs, which begin as
copies of an imported one.
Source: Lang et al. 2021 (arXiv:2104.13369).
"""

import math
from pathlib import Path
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.errors import InputError
from stylex.gan.convert import Tensors, Weights, read
from stylex.gan.generator import Generator
from stylex.gan.layers import SynthesisLayer
from stylex.gan.mapping import Mapping
from stylex.gan.residual import Discriminator


def start(path: Path, generator: Generator, mapping: Mapping, discriminator: Discriminator) -> str:
    """Gives networks the published weights of a file.

    The images are the published ones, whatever class probabilities a latent ends with; a
    discriminator of one output gives its logit for every class.

    Returns:
        Which networks got weights, and the file's layout, for people.

    Raises:
        InputError: If the file cannot be read or does not fit the networks.
    """
    weights, layout = read(path)
    first = cast(SynthesisLayer, generator.convolutions[0])
    num_classes = first.affine.weight.shape[1] - mapping.latent_dim
    given = {
        "mapping": weights.mapping,
        "generator": _appended(_noise_as(weights.generator, first.noise), num_classes),
        "discriminator": _per_class(weights.discriminator, len(discriminator.out.bias)),
    }
    networks: dict[str, nn.Module] = {
        "mapping": mapping,
        "generator": generator,
        "discriminator": discriminator,
    }
    taken = [name for name, state in given.items() if state]
    for name in taken:
        _check(name, given[name], networks[name].state_dict())
    for name in taken:
        networks[name].load_state_dict(given[name])
    return f"{', '.join(taken)} (layout {layout})"


def collect(
    generator: Generator,
    mapping: Mapping,
    discriminator: Discriminator | None,
    probabilities: Float[Tensor, " k"],
) -> Weights:
    """The weights of StylEx networks as a StyleGAN2 of one mixture of classes, for an export.

    Args:
        generator: Its latents end with K class probabilities.
        mapping: Gives what comes before these.
        discriminator: Has K outputs.
        probabilities: The class probabilities that all images of the export get; as many as the
            latents end with.
    """
    num_classes, state = len(probabilities), dict(generator.state_dict())
    for name in [name for name in state if name.endswith("affine.weight")]:
        weight, bias = state[name], name.replace("weight", "bias")
        total = weight.shape[1]
        of_latent, of_classes = weight.split((total - num_classes, num_classes), dim=1)
        state[name] = of_latent * math.sqrt((total - num_classes) / total)
        state[bias] = state[bias] + of_classes @ probabilities / math.sqrt(total)
    judge = {} if discriminator is None else dict(discriminator.state_dict())
    if judge and num_classes:
        for name in ("out.weight", "out.bias"):
            judge[name] = (probabilities @ judge[name])[None]
    return Weights(state, dict(mapping.state_dict()), judge, None)


def _appended(generator: Tensors, num_classes: int) -> Tensors:
    """A generator of latents that end with class probabilities, which change nothing.

    An affine layer divides by sqrt(inputs), which have become more.
    """
    state = dict(generator)
    for name, weight in generator.items():
        if name.endswith("affine.weight") and weight.ndim == 2:
            width = weight.shape[1]
            gain = math.sqrt((width + num_classes) / width)
            state[name] = torch.cat((weight * gain, weight.new_zeros(len(weight), num_classes)), 1)
    return state


def _per_class(discriminator: Tensors, num_classes: int) -> Tensors:
    """A discriminator whose one output is that of every class."""
    state = dict(discriminator)
    for name in ("out.weight", "out.bias"):
        if name in state and state[name].shape[:1] == (1,):
            state[name] = state[name].expand(num_classes, *state[name].shape[1:])
    return state


def _noise_as(generator: Tensors, takes: bool) -> Tensors:
    """The generator, without its noise if that has no effect and the network takes none.

    Raises:
        InputError: If it has an effect, or the network takes noise and there is none.
    """
    strengths = [v for name, v in generator.items() if name.endswith("noise_strength")]
    if generator and takes and not strengths:
        raise InputError(
            "published weights without noise need a generator without, got "
            "model.generator.noise=true; give model.generator.noise=false"
        )
    if takes:
        return generator
    if any(strength.any() for strength in strengths):
        raise InputError(
            "published weights with noise need a generator with noise, got "
            "model.generator.noise=false; give model.generator.noise=true"
        )
    return {name: v for name, v in generator.items() if "noise" not in name}


def _check(network: str, given: Tensors, own: Tensors) -> None:
    """Raises InputError at the first tensor that is not in both, or not of one shape."""
    names = [name for name in (*own, *given) if (name in own) != (name in given)]
    names += [name for name in own if name in given and own[name].shape != given[name].shape]
    if names:
        there, ours = (_shape(state, names[0]) for state in (given, own))
        raise InputError(
            f"model.init_from must fit the configured networks, got {network}.{names[0]} of shape "
            f"{there} where the model has {ours}; change {_key(network, names[0], there, ours)}"
        )


def _shape(state: Tensors, name: str) -> tuple[int, ...] | None:
    return tuple(state[name].shape) if name in state else None


def _key(
    network: str, name: str, given: tuple[int, ...] | None, own: tuple[int, ...] | None
) -> str:
    """What in the configuration decides on a tensor's shape."""
    if given is None or own is None:
        return "model.mapping_layers" if network == "mapping" else "data.resolution"
    if network == "mapping" or (name.endswith("affine.weight") and given[:1] == own[:1]):
        return "model.latent_dim"
    if name.startswith("torgbs") or (name == "from_rgb.weight" and given[:1] == own[:1]):
        return "data.channels"
    if name.startswith("out."):
        return "the data's classes"
    return f"model.{network}.channel_base or model.{network}.channel_max"

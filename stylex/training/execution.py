"""How the networks run in training: compiled in the first-order phases, plain in the penalties.

A gradient of a gradient does not pass through a compiled network, and some versions of PyTorch lose
it without an error; so penalties always run plain networks, and a run begins by proving that each
penalty reaches the weights.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.errors import InputError
from stylex.gan.residual import Discriminator
from stylex.model import StylEx
from stylex.training import losses


def compiled(
    model: StylEx, discriminator: Discriminator, mode: str
) -> dict[str, Callable[..., Tensor]]:
    """Compiled forms, by name, of what the first-order phases run.

    Raises:
        InputError: If `torch.compile` has no such mode.
    """
    known = torch._inductor.list_mode_options()
    if mode not in known:
        raise InputError(f"ops.compile must be null or one of {', '.join(known)}, got '{mode}'")
    return {
        "synthesis": torch.compile(model.generator.synthesis, mode=mode),
        "encoder": torch.compile(model.encoder, mode=mode),
        "discriminator": torch.compile(discriminator, mode=mode),
    }


def check_penalties(
    model: StylEx, discriminator: Discriminator, settings: Mapping[str, Any], device: torch.device
) -> None:
    """Proves on two random images that each penalty in use reaches the weights.

    Raises:
        InputError: If one does not: training would go on without it.
    """
    random = torch.Generator(device).manual_seed(0)
    generator, classes = model.generator, model.classifier.num_classes
    shares = torch.full((2, classes), 1 / classes, device=device)
    size = (2, model.channels, model.resolution_px, model.resolution_px)
    images, noise = torch.randn((2, *size), generator=random, device=device)
    found = {}
    if settings["weights"]["r1_gamma"]:
        images.requires_grad_()
        penalty = losses.r1_penalty(discriminator(images, shares), images)
        found["R1"] = reaches(penalty, discriminator.from_rgb.weight)
    if settings["weights"]["path_length"] and settings["noise_path"]:
        deviates = torch.randn(2, model.mapping.latent_dim, generator=random, device=device)
        latents = torch.cat((model.mapping(deviates), shares), dim=1)
        layers = latents[:, None].expand(-1, generator.num_latents, -1)
        made = generator(layers, generator.noise_maps(2, random))
        penalty = losses.path_lengths(made, layers, noise).square().mean()
        found["path length"] = reaches(penalty, generator.const)
    for name, works in found.items():
        if not works:
            raise InputError(
                f"the {name} penalty must reach the network's weights, got no second-order "
                "gradient; set ops.impl=reference and report it"
            )


def reaches(penalty: Float[Tensor, ""], weight: Tensor) -> bool:
    """Whether a penalty on a gradient has a second-order gradient for a weight.

    An op or a compiler that loses it trains on without an error and without the penalty.
    """
    if not penalty.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(penalty, weight, allow_unused=True)
    return gradient is not None and bool(gradient.isfinite().all() and gradient.abs().max() > 0)

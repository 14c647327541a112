"""Networks made random: weights permuted within each layer, or the last layers untrained.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps" (arXiv:1810.03292).
"""

import torch
from torch import nn

from stylex.errors import InputError


@torch.no_grad()
def permute_weights(network: nn.Module, seed: int) -> None:
    """Permutes every floating weight of two or more dimensions within itself, in place.

    Raises:
        InputError: If the network has no such weight.
    """
    weights = [p for p in network.parameters() if p.ndim >= 2 and p.is_floating_point()]
    if not weights:
        raise InputError(
            "a random-weight classifier needs weights of two or more dimensions to permute, "
            f"got none in {type(network).__name__}; save the network without freezing it"
        )
    generator = torch.Generator().manual_seed(seed)
    for weight in weights:
        order = torch.randperm(weight.numel(), generator=generator).to(weight.device)
        weight.copy_(weight.flatten()[order].view(weight.shape))


def reinitialise(network: nn.Module, num_layers: int, seed: int) -> None:
    """Gives a network's last layers new weights, in place, the last one first.

    Args:
        network: Whose modules with a weight of two or more dimensions and a `reset_parameters` of
            their own, in the order of registration, are the layers.
        num_layers: How many, from the last one back.
        seed: Of the new weights, which are drawn on the CPU.

    Raises:
        InputError: If the network has fewer such layers.
    """
    layers = initialised_layers(network)
    if num_layers not in range(len(layers) + 1):
        raise InputError(
            f"randomised_layers must be from 0 to {len(layers)}, the layers of "
            f"{type(network).__name__} that can be initialised, got {num_layers}; give another "
            "number"
        )
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for layer in layers[::-1][:num_layers]:
            device = next(layer.parameters()).device
            layer.cpu().reset_parameters()  # type: ignore[operator]
            layer.to(device)


def initialised_layers(network: nn.Module) -> list[nn.Module]:
    """Modules that have a weight of two or more dimensions and can draw it anew."""
    return [module for module in network.modules() if _initialises_itself(module)]


def _initialises_itself(module: nn.Module) -> bool:
    weight = getattr(module, "weight", None)
    is_layer = isinstance(weight, nn.Parameter) and weight.ndim >= 2
    return is_layer and callable(getattr(module, "reset_parameters", None))

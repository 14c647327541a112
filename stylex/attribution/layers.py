"""Layers whose outputs have rows and columns: which there are, and what they give."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import check_layer, layer_names, layer_outputs, recorded
from stylex.errors import InputError
from stylex.types import Images

RECTIFIERS = (
    *(nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.RReLU, nn.ELU, nn.CELU, nn.SELU),
    *(nn.GELU, nn.SiLU, nn.Mish, nn.Softplus, nn.Hardswish),
)
Places = Float[Tensor, "b f y x"]  # of every filter, its value at every place


def layer_places(network: nn.Module, inputs: Float[Tensor, "b c h w"], layer: str) -> Places:
    """Output of one layer, as it stands before what follows can change it in place.

    Args:
        network: In eval mode.
        inputs: Adapted images.
        layer: A name of the network's.

    Raises:
        InputError: If there is no such layer, or its output has no rows and columns.
    """
    check_layer(network, layer, "layer")
    output = layer_outputs(network, inputs, [layer]).get(layer)
    if not isinstance(output, Tensor) or output.ndim != 4:
        form = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        raise InputError(
            f"layer must name one whose output has filters, rows and columns, got '{layer}' "
            f"({form}); choose an earlier one"
        )
    return output


def filter_layers(
    network: nn.Module, inputs: Float[Tensor, "b c h w"]
) -> dict[str, Float[Tensor, "..."]]:
    """Rectified layers with more than one place, in the order in which they run.

    Where the network has no rectifier as a module of its own, its convolutions stand in.

    Args:
        network: In eval mode.
        inputs: Adapted images, few: all outputs are held at once.

    Returns:
        Their outputs by name.

    Raises:
        InputError: If there is no such layer.
    """
    if isinstance(network, torch.jit.ScriptModule):
        check_layer(network, "", "layer")  # says what is wrong
    for kinds in (RECTIFIERS, (nn.Conv2d,)):
        names = [name for kind in kinds for name in layer_names(network, kind)]
        with torch.no_grad(), recorded(network, names) as outputs:
            network(inputs)
        found = {name: output for name, output in outputs.items() if _has_places(output, inputs)}
        if found:
            return found
    raise InputError(
        "the method needs a network with convolutions whose outputs have rows and columns, got "
        "none; name a layer"
    )


def _has_places(output: Tensor, inputs: Float[Tensor, "b c h w"]) -> bool:
    """Whether an output has filters first, then rows and columns in the image's proportions."""
    if output.ndim != 4 or output.shape[2] * output.shape[3] == 1:
        return False
    (height, width), (rows, columns) = inputs.shape[2:], output.shape[2:]
    return abs(rows * width - columns * height) <= max(height, width)  # else channels come last


def chosen_layers(
    classifier: FrozenClassifier, images: Images, given: Sequence[str | float], setting: str
) -> list[str]:
    """Names of layers that a configuration names or places by their depth.

    Args:
        classifier: Whose layers they are.
        images: At least one that the classifier takes.
        given: Names, or shares of the network's depth: 0 is the first link of its chain, 1 the last
            (see `chain`).
        setting: What they were given for.

    Raises:
        InputError: If a layer does not exist, or a share is not in [0, 1].
    """
    found = []
    side = min(images.shape[2:])
    inputs = classifier.adapter(images[:1, :, :side, :side])  # a network takes squares
    for layer in given:
        if isinstance(layer, str):
            check_layer(classifier.network, layer, setting)
            found.append(layer)
            continue
        if not 0 <= layer <= 1:
            raise InputError(
                f"{setting} must be a layer's name or a share of the network's depth in [0, 1], "
                f"got {layer}"
            )
        known = chain(classifier.network, inputs)
        found.append(known[round(layer * (len(known) - 1))])
    for name in found:
        layer_places(classifier.network, inputs, name)  # refuses one without places
    return list(dict.fromkeys(found))


def chain(network: nn.Module, inputs: Float[Tensor, "b c h w"]) -> list[str]:
    """Names of the links that a network is a chain of, in the order in which they run.

    A link is a block of a residual network or a layer of a plain one: a part of the network itself
    or of a sequence in it, whose output has more than one place.

    Raises:
        InputError: If there is none.
    """
    if isinstance(network, torch.jit.ScriptModule):
        check_layer(network, "", "layer")  # says what is wrong
    lists = (nn.Sequential, nn.ModuleList)
    names = [
        name
        for name, module in network.named_modules()
        if name
        and not isinstance(module, lists)
        and ("." not in name or isinstance(network.get_submodule(name.rpartition(".")[0]), lists))
    ]
    with torch.no_grad(), recorded(network, names) as outputs:
        network(inputs)
    found = [name for name, output in outputs.items() if _has_places(output, inputs)]
    if not found:
        raise InputError(
            "the method needs a network with convolutions whose outputs have rows and columns, got "
            "none; name a layer"
        )
    return found


def check_at_least(setting: str, value: float, least: float) -> None:
    """Checks a number of a method's configuration.

    Raises:
        InputError: If it is smaller.
    """
    if value < least:
        raise InputError(f"{setting} must be at least {least}, got {value}; give a larger one")

"""Layers whose outputs have rows and columns: which there are, and what they give."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from stylex.classifier.recording import check_layer, layer_names, layer_outputs, recorded
from stylex.errors import InputError

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
        found = {
            name: output
            for name, output in outputs.items()
            if output.ndim == 4 and output.shape[2] * output.shape[3] > 1
        }
        if found:
            return found
    raise InputError(
        "the method needs a network with convolutions whose outputs have rows and columns, got "
        "none; name a layer"
    )


def check_at_least(setting: str, value: float, least: float) -> None:
    """Checks a number of a method's configuration.

    Raises:
        InputError: If it is smaller.
    """
    if value < least:
        raise InputError(f"{setting} must be at least {least}, got {value}; give a larger one")

"""Networks from ONNX files, through onnx2torch: the same numbers, with gradients."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from stylex.classifier.libraries import first_line, imported, saying
from stylex.errors import InputError

KNOWN_OPSET = 17  # the last of which onnx2torch knows the usual operators


class OneByOne(nn.Module):
    """A network whose graph is made for a batch of one image, given several."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Returns the outputs of all images."""
        return torch.cat([self.network(image) for image in images.split(1)])


def onnx_network(file: str) -> nn.Module:
    """A differentiable network from an ONNX file; its size is the declared one, if it is fixed.

    Raises:
        InputError: If onnx2torch is not installed, or the file is none that it can convert.
    """
    if not Path(file).is_file():
        raise InputError(f"classifier.network must be an existing ONNX file, got '{file}'")
    onnx2torch = imported("onnx2torch", "onnx", "a classifier in an ONNX file")
    onnx = imported("onnx", "onnx", "a classifier in an ONNX file")
    try:
        model = onnx.load(file)
        prepare(model)
        try:
            network = onnx2torch.convert(model)
        except NotImplementedError:  # of newer operators that have older ones
            model = onnx.version_converter.convert_version(model, KNOWN_OPSET)
            prepare(model)
            network = onnx2torch.convert(model)
    except Exception as error:  # both raise many kinds
        raise InputError(
            "classifier.network must be an ONNX file of operators that onnx2torch knows, got "
            f"'{file}' ({first_line(error)}); export it with opset_version={KNOWN_OPSET}, or give "
            "the network's code with classifier=module"
        ) from error
    batch, channels, size = _shape(model)
    if batch not in (None, 1):
        raise InputError(
            f"an ONNX classifier must take any number of images, got a batch of {batch} in "
            f"'{file}'; export it with a dynamic batch axis"
        )
    network = OneByOne(network) if batch == 1 else network
    return saying(network, input_resolution_px=size, input_channels=channels)


def _shape(model: Any) -> tuple[int | None, int | None, int | None]:  # noqa: ANN401  onnx is optional
    """Images, channels and height that a graph is made for; none where any will do."""
    constants = {each.name for each in model.graph.initializer}
    inputs = [each for each in model.graph.input if each.name not in constants]
    sizes = [axis.dim_value or None for axis in inputs[0].type.tensor_type.shape.dim]
    if len(inputs) != 1 or len(sizes) != 4:
        raise InputError(
            "an ONNX classifier must have images [b c h w] as its one input, got "
            f"{len(inputs)} inputs, the first of {len(sizes)} axes; export it again"
        )
    return sizes[0], sizes[1], sizes[2]


def prepare(model: Any) -> None:  # noqa: ANN401  onnx is optional
    """Makes a graph one that onnx2torch takes and that runs no code, in place; it means the same.

    Names of nodes become Python code in the converted network, so they get ours. Copies
    (`Identity`) of weights are unknown to onnx2torch, and so is `allowzero` of a reshaping, which
    matters to images of no pixel alone.
    """
    graph = model.graph
    outputs = {each.name for each in graph.output}
    copies = {
        node.output[0]: node.input[0]
        for node in graph.node
        if node.op_type == "Identity" and node.output[0] not in outputs
    }
    kept = [node for node in graph.node if node.output[0] not in copies]
    for i, node in enumerate(kept):
        node.name = f"node{i}"
        for j, name in enumerate(node.input):
            while name in copies:
                name = copies[name]
            node.input[j] = name
        if node.op_type == "Reshape":
            plain = [each for each in node.attribute if each.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(plain)
    del graph.node[:]
    graph.node.extend(kept)

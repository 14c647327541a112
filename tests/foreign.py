"""Small classifiers as other libraries leave them in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

SIDE = 16  # px
GRAPH = ("convolution", "rectifier", "pooling", "flattening", "linear")


def small_network() -> nn.Sequential:
    """Colour images → three logits that vary."""
    torch.manual_seed(5)
    body = (nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*body, nn.Linear(4, 3)).eval()


def write_onnx(
    path: Path,
    network: nn.Sequential,
    *,
    batch: int | str = "b",
    names: Sequence[str] = GRAPH,
    operator: str = "Relu",
) -> None:
    """Writes `small_network` as ONNX, node by node."""
    from onnx import TensorProto, helper, numpy_helper, save

    def node(i: int, kind: str, inputs: list[str], output: str, **more: Any) -> Any:
        return helper.make_node(kind, inputs, [output], name=names[i], **more)

    nodes = [
        node(0, "Conv", ["x", "0.weight", "0.bias"], "c", pads=[1] * 4, kernel_shape=[3, 3]),
        node(1, operator, ["c"], "r"),
        node(2, "GlobalAveragePool", ["r"], "p"),
        node(3, "Flatten", ["p"], "f"),
        node(4, "Gemm", ["f", "4.weight", "4.bias"], "y", transB=1),
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, *shape])
        for name, shape in (("x", (3, SIDE, SIDE)), ("y", (3,)))
    ]
    weights = [numpy_helper.from_array(x.numpy(), k) for k, x in network.state_dict().items()]
    graph = helper.make_graph(nodes, "small", ends[:1], ends[1:], weights)
    save(
        helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)]),
        str(path),
    )


def write_huggingface(folder: Path, names: Sequence[str], **more: Any) -> nn.Module:
    """Writes a tiny ResNet and its image processor; gives the network."""
    from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessor
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(6)
    labels = dict(enumerate(names))
    numbers = {name: i for i, name in labels.items()}
    sizes = {"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1]}
    config = ResNetConfig(**sizes, id2label=labels, label2id=numbers, **more)
    network = ResNetForImageClassification(config).eval()
    network.save_pretrained(folder)
    form = {"size": {"height": SIDE, "width": SIDE}, "image_mean": [0.4, 0.5, 0.6]}
    ViTImageProcessor(**form, image_std=[0.2, 0.25, 0.3]).save_pretrained(folder)
    return network

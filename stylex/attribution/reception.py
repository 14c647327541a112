"""Receptive fields: which pixels of the input a place in a layer's output can depend on.

They are not derived from kernels and strides but seen: rows or columns of the input are made not a
number, and every value that is computed from one of them becomes not a number, too. So padding of
any kind, pooling, branches and sums need no rule of their own. Convolutions alone are replaced by
what they do to such places, whatever the weights: faster, and exact where an algorithm works in
blocks and would mix neighbours.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from stylex.attribution.layers import filter_layers, layer_places
from stylex.classifier.recording import check_layer
from stylex.errors import InputError

ROWS, COLUMNS = 0, 1


@dataclass(frozen=True)
class Extent:
    """Receptive fields along one axis: place p sees `size` pixels from `start + stride · p` on.

    Attributes:
        start: First pixel of place 0; negative where it lies in the padding.
        stride: Pixels from one place to the next.
        size: From the first pixel to the last, holes of a dilation included.
    """

    start: int
    stride: int
    size: int

    def first(self, place: int) -> int:
        """First pixel that a place sees; may lie before the input."""
        return self.start + self.stride * place


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels; it may reach beyond the image."""

    top: int
    left: int
    height: int
    width: int


@dataclass(frozen=True)
class Field:
    """Receptive fields of a filter's places, in pixels of the network's input."""

    rows: Extent
    columns: Extent

    def box(self, y: int, x: int) -> Box:
        """The field of one place."""
        return Box(self.rows.first(y), self.columns.first(x), self.rows.size, self.columns.size)


@torch.no_grad()
def receptive_fields(
    network: nn.Module, layer: str, filters: Sequence[int], input_shape: tuple[int, int, int]
) -> list[Field]:
    """Finds the receptive fields of filters, for inputs of one size.

    Args:
        network: In eval mode.
        layer: A layer whose output has rows and columns.
        filters: Positions among the layer's channels.
        input_shape: Channels, height and width of the network's input.

    Raises:
        InputError: If there is no such layer or filter, or a field is larger than the input or not
            the same at every place.
    """
    check_layer(network, layer, "layer")
    probe = _Probe(network, layer, input_shape)
    found = []
    for position in filters:
        if not 0 <= position < probe.num_filters:
            raise InputError(
                f"filters must be from 0 to {probe.num_filters - 1} for layer '{layer}', got "
                f"{position}"
            )
        rows = _extent(probe, ROWS, position, None)
        columns = _extent(probe, COLUMNS, position, rows)
        if rows is None or columns is None:
            raise InputError(
                "a receptive field must be the same at every place and fit the network's input "
                f"({input_shape[1]}×{input_shape[2]} px), got filter {position} of '{layer}', "
                "which sees more or sees unevenly; choose an earlier layer"
            )
        found.append(Field(rows, columns))
    return found


@torch.no_grad()
def central_layer(network: nn.Module, input_shape: tuple[int, int, int]) -> str:
    """The last rectified layer whose middle place sees only the middle half of the input.

    So its patches show parts of things, as large as they can be without being the whole image.

    Raises:
        InputError: If there is none.
    """
    inputs = next(network.parameters()).new_full((1, *input_shape), math.nan)
    height, width = input_shape[1:]
    inputs[:, :, height // 4 : height - height // 4, width // 4 : width - width // 4] = 0
    last = None
    with _Patterns():
        outputs = filter_layers(network, inputs)
    for name, output in outputs.items():
        middle = output[0, :, output.shape[2] // 2, output.shape[3] // 2]
        last = name if not bool(middle.isnan().any()) else last
    if last is None:
        raise InputError(
            "patches need a rectified layer that sees less than half of the input, got none; name "
            "one with method.patches.layer"
        )
    return last


def covering(first: int, count: int, input_px: int, image_px: int) -> tuple[int, int]:
    """Pixels of an image that some pixels of the network's input are made of.

    The classifier's adapter resizes bilinearly, with a wider filter where it shrinks.

    Args:
        first: First pixel of the input; may be negative.
        count: How many.
        input_px: Height, or width, of the network's input.
        image_px: The same of the image.

    Returns:
        The first and the last pixel, within the image.
    """
    last = min(first + count - 1, input_px - 1)
    first = max(first, 0)
    if image_px != input_px:
        scale = image_px / input_px
        reach = max(scale, 1.0)
        first = math.floor((first + 0.5) * scale - reach + 0.5)
        last = math.ceil((last + 0.5) * scale + reach - 0.5) - 1
    return max(first, 0), min(last, image_px - 1)


class _Patterns(TorchDispatchMode):
    """Where it is on, a convolution gives not a number exactly where its window holds one."""

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401  the signature is torch's
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is torch.ops.aten.convolution.default and args[1].ndim == 4 and not args[6]:
            image, weight, _, stride, padding, dilation, _, _, groups = args
            lost = image.isnan().unflatten(1, (groups, -1)).any(dim=2).to(image.dtype)
            lost = F.pad(lost, (padding[1], padding[1], padding[0], padding[0]))
            lost = F.max_pool2d(lost, weight.shape[2:], stride, dilation=dilation)
            lost = torch.zeros_like(lost).masked_fill(lost > 0, math.nan)
            return lost.repeat_interleave(weight.shape[0] // groups, dim=1)
        return func(*args, **(kwargs or {}))


class _Probe:
    """What the places of a layer notice when the input is lost from one side on.

    Attributes:
        sizes: Height and width of the input.
        num_filters: Of the layer.
        places: Rows and columns of places.
        looks: For an axis, whether pixels are lost from its end, and how many are: of every filter,
            the places along the axis that notice, counted from the side of the loss.
    """

    def __init__(self, network: nn.Module, layer: str, input_shape: tuple[int, int, int]) -> None:
        self.network, self.layer = network, layer
        self.channels, *self.sizes = input_shape
        self.looks: dict[tuple[int, bool, int], list[list[bool]]] = {}
        _, self.num_filters, *self.places = self._output(self._inputs()).shape

    def _inputs(self) -> Tensor:
        return next(self.network.parameters()).new_zeros(1, self.channels, *self.sizes)

    def _output(self, inputs: Tensor) -> Tensor:
        with _Patterns():
            return layer_places(self.network, inputs, self.layer)

    def look(self, axis: int, from_end: bool, lost: int) -> list[list[bool]]:
        key = (axis, from_end, lost)
        if key not in self.looks:
            inputs = self._inputs()
            first = self.sizes[axis] - lost if from_end else 0
            inputs.narrow(2 + axis, first, lost).fill_(math.nan)
            noticed = self._output(inputs)[0].isnan().any(dim=2 - axis)  # [f p]
            self.looks[key] = (noticed.flip(1) if from_end else noticed).tolist()
        return self.looks[key]


def _extent(probe: _Probe, axis: int, position: int, other: Extent | None) -> Extent | None:
    """The fields of a filter along one axis; none if no extent explains all that was seen.

    Each side is lost until the place farthest from it notices, where the border cuts off the least.

    Args:
        probe: Of the layer.
        axis: Rows or columns.
        position: Of the filter.
        other: Of the other axis, tried first; none is no hint.
    """
    size, places = probe.sizes[axis], probe.places[axis]
    before, after, strides = 0, 0, []
    for from_end in (False, True):
        hint = None
        if other is not None:
            first = other.first(places - 1)
            hint = size - other.start - other.size if from_end else first
        far = _pixels_before(probe, axis, position, from_end, places - 1, hint)
        if far is None:
            return None
        if places > 1:
            guess = far - round(size / places)
            near = _pixels_before(probe, axis, position, from_end, places - 2, guess)
            strides.append(far - (0 if near is None else near))
        before, after = (before, far) if from_end else (far, after)
    stride = strides[0] if strides else size
    extent = Extent(before - stride * (places - 1), stride, 0)
    extent = Extent(extent.start, stride, size - after - extent.start)
    if stride < 1 or not 0 < extent.size <= size:
        return None
    # A look from the middle, too: none so far may have come near it.
    probe.look(axis, False, max(extent.first(places // 2), 0))
    return extent if _explains(extent, probe, axis, position) else None


def _pixels_before(
    probe: _Probe, axis: int, position: int, from_end: bool, place: int, guess: int | None
) -> int | None:
    """How many pixels of a side can be lost before a place notices; none if it never does.

    The place is counted from that side.
    """

    def noticed(lost: int) -> bool:
        return probe.look(axis, from_end, lost)[position][place]

    low, high = 0, probe.sizes[axis]
    if not noticed(high):
        return None
    if guess is not None and 0 <= guess < high and not noticed(guess) and noticed(guess + 1):
        return guess
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if noticed(middle) else (middle, high)
    return low


def _explains(extent: Extent, probe: _Probe, axis: int, position: int) -> bool:
    """Whether all looks at the places whose fields begin within the input are as they must be."""
    size, places = probe.sizes[axis], probe.places[axis]
    for (looked, from_end, lost), noticed in probe.looks.items():
        for place in range(places) if looked == axis else ():
            first = extent.first(places - 1 - place if from_end else place)
            before = size - first - extent.size if from_end else first
            if before >= 0 and noticed[position][place] != (before < lost):
                return False
    return True

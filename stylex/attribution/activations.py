"""What every filter of a layer answers: sheets of maps, and figures over a data set."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from stylex.attribution.exhibits import Exhibit, Pictures, Table
from stylex.attribution.layers import check_at_least, filter_layers, layer_places
from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.imaging import from_uint8, grid
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

SCALINGS = ("filter", "layer")
Filters = Float[Tensor, "f y x"]  # one image's output of a layer


@dataclass(frozen=True)
class Figures:
    """A layer's filters over a data set, each over all places of all images.

    Attributes:
        mean: Of the values.
        largest: The largest value.
        where: Position of the image that it is in, the first of equal ones.
        zeros: Share of values that are exactly 0.
    """

    mean: Float[Tensor, " f"]
    largest: Float[Tensor, " f"]
    where: Int64[Tensor, " f"]
    zeros: Float[Tensor, " f"]


def activations(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    data: ImageSet,
    layers: Sequence[str] | None,
    scaling: str,
    most_filters: int,
    num_strongest: int,
    sheet_px: int,
    chunk_size: int,
    progress: Progress = quiet,
) -> tuple[Exhibit, ...]:
    """Draws every filter's answer to each image, and tabulates a data set's strongest filters.

    Args:
        classifier: Its layers are read.
        images: A sheet each.
        targets: Not looked at: a layer answers the same whatever is asked of it.
        data: What means and largest values are taken over, image by image, nothing kept.
        layers: Names; none takes the first and the last rectified one.
        scaling: What white is: "filter", each filter's largest value on the image, or "layer", that
            of all filters.
        most_filters: Drawn on a sheet, the first ones; the sheet says how many more there are.
        num_strongest: Rows of a table, the largest means.
        sheet_px: About the width of a sheet.
        chunk_size: Images at once.
        progress: Shows how far the data set is read.

    Returns:
        For every layer its sheets and its table.

    Raises:
        InputError: If a layer is not there, or a number or the scaling is none.
    """
    if scaling not in SCALINGS:
        raise InputError(f"scaling must be one of {', '.join(SCALINGS)}, got '{scaling}'")
    for name, value in (("most_filters", most_filters), ("chunk_size", chunk_size)):
        check_at_least(f"method.activations.{name}", value, 1)
    check_at_least("method.activations.num_strongest", num_strongest, 0)
    if layers is not None and (isinstance(layers, str) or not layers):
        raise InputError(
            f"method.activations.layers must be names of layers, got {layers!r}; give [NAME]"
        )
    if layers is None:
        known = list(filter_layers(classifier.network, classifier.adapter(images[:1])))
        layers = (known[0], known[-1]) if len(known) > 1 else known
    exhibits: list[Exhibit] = []
    for layer in layers:
        sheets, captions = [], []
        for output in _outputs(classifier, images, layer, chunk_size):
            sheets.append(_sheet(output[:most_filters], scaling, sheet_px))
            captions.append(_caption(layer, output, scaling, min(most_filters, len(output))))
        exhibits.append(Pictures(torch.stack(sheets), tuple(captions), columns=min(len(sheets), 3)))
        figures = layer_figures(classifier, data, layer, chunk_size, images.device, progress)
        exhibits.append(_table(layer, figures, data, num_strongest))
    return tuple(exhibits)


@torch.no_grad()
def layer_figures(
    classifier: FrozenClassifier,
    data: ImageSet,
    layer: str,
    chunk_size: int,
    device: torch.device,
    progress: Progress = quiet,
) -> Figures:
    """Mean, largest value and share of zeros of every filter over a data set.

    Args:
        classifier: On `device`.
        data: Read once, in order.
        layer: With rows and columns.
        chunk_size: Images at once.
        device: Where to compute.
        progress: Shows how far it is.
    """
    total = zeros = largest = where = torch.empty(0)
    count = 0
    for chunk in progress(torch.arange(len(data)).split(chunk_size), layer):
        images = data.batch(chunk.tolist())[0].to(device)
        values = layer_places(classifier.network, classifier.adapter(images), layer).flatten(2)
        peaks, places = values.amax(dim=2).max(dim=0)
        if count == 0:
            total = zeros = torch.zeros_like(peaks, dtype=torch.float64)
            largest, where = torch.full_like(peaks, -math.inf), torch.zeros_like(places)
        total = total + values.double().mean(dim=2).sum(dim=0)
        zeros = zeros + (values == 0).double().mean(dim=2).sum(dim=0)
        where = torch.where(peaks > largest, int(chunk[0]) + places, where)
        largest = torch.maximum(largest, peaks)
        count += len(chunk)
    return Figures(total / count, largest, where, zeros / count)


@torch.no_grad()
def _outputs(
    classifier: FrozenClassifier, images: Images, layer: str, chunk_size: int
) -> Iterator[Filters]:
    """The layer's answer to each image."""
    for chunk in images.split(chunk_size):
        yield from layer_places(classifier.network, classifier.adapter(chunk), layer)


def _sheet(filters: Filters, scaling: str, sheet_px: int) -> Float[Tensor, "1 rows columns"]:
    """Maps side by side: black to white where nothing is negative, or else around grey."""
    size = filters.abs().amax(dim=(1, 2), keepdim=True)
    if scaling == "layer":
        size = size.amax(dim=0, keepdim=True).expand_as(size)
    scaled = filters / size.clamp(min=torch.finfo(filters.dtype).tiny)
    scaled = scaled if bool((filters < 0).any()) else 2 * scaled - 1
    least = math.ceil(math.sqrt(len(filters)))
    columns = min(range(least, least + least // 2 + 1), key=lambda wide: -len(filters) % wide)
    longest = max(filters.shape[1:])
    factor = max(sheet_px // columns, 1) / longest
    if factor < 1:
        height, width = (max(round(side * factor), 1) for side in filters.shape[1:])
        scaled = F.adaptive_avg_pool2d(scaled, (height, width))
    else:
        scaled = scaled.repeat_interleave(int(factor), 1).repeat_interleave(int(factor), 2)
    return from_uint8(grid(scaled[:, None].float(), columns)[None])[0]


def _caption(layer: str, filters: Filters, scaling: str, drawn: int) -> str:
    """What the sheet shows, how it is scaled, and the share of zeros."""
    count, height, width = filters.shape
    more = f", {count - drawn} more not drawn" if drawn < count else ""
    of = "each filter's" if scaling == "filter" else "the drawn filters'"
    ends = (
        f"grey is 0, white and black are {of} largest absolute value on this image"
        if bool((filters[:drawn] < 0).any())
        else f"black is 0, white is {of} largest value on this image"
    )
    zeros = 100 * float((filters == 0).double().mean())
    return (
        f"{layer}: {drawn} of {count} filters{more}, {height} × {width} places each; {ends}. "
        f"{zeros:.0f} % of all the layer's values are exactly 0."
    )


def _table(layer: str, figures: Figures, data: ImageSet, num_strongest: int) -> Table:
    order = figures.mean.argsort(descending=True, stable=True)[:num_strongest].tolist()
    rows = []
    for position in order:
        image = int(figures.where[position])
        rows.append(
            (
                f"filter {position}",
                float(figures.mean[position]),
                float(figures.largest[position]),
                float(figures.zeros[position]),
                f"{image} ({data.class_names[int(data.labels[image])]})",
            )
        )
    return Table(
        columns=(layer, "mean", "largest", "share of zeros", "largest in image"),
        rows=tuple(rows),
        reading=f"The {len(rows)} of {len(figures.mean)} filters of {layer} with the largest mean "
        f"over all places of {len(data)} images; zeros are what a ReLU has cut off.",
    )

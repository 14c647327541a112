"""The pieces of a data set's images that excite a filter most, cut at its receptive field."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from stylex.attribution.exhibits import Cell, Pictures, Table
from stylex.attribution.layers import check_at_least, layer_places
from stylex.attribution.reception import Box, Field, central_layer, covering, receptive_fields
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import check_layer, recorded
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.imaging import resize
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels


@dataclass(frozen=True)
class Peak:
    """The strongest place of a filter in one image.

    Attributes:
        value: Of the filter there.
        image: Position in the data set.
        y: Row among the layer's places.
        x: Column among them.
    """

    value: float
    image: int
    y: int
    x: int


def patches(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    data: ImageSet,
    layer: str | None,
    filters: Sequence[int] | None,
    num_patches: int,
    chunk_size: int,
    progress: Progress = quiet,
) -> tuple[Pictures, Table]:
    """Shows what excites filters most in a data set, one patch per image.

    Args:
        classifier: Its layer is read.
        images: They choose the filters if none are given.
        targets: The class of each image.
        data: Searched once, in order; only the strongest places are kept.
        layer: A layer with rows and columns; none takes the last rectified one that sees less than
            half of the input.
        filters: Positions; none takes of each image the filter that speaks most for its class.
        num_patches: Of each filter.
        chunk_size: Images at once.
        progress: Shows how far the data set is read.

    Returns:
        A row of patches per filter, strongest first, grey where they reach beyond the image, over a
        row of the images that they are cut from, as the network sees them; and a table of places.

    Raises:
        InputError: If there is no such layer or filter, or the filter sees more than the input.
    """
    for name, value in (("num_patches", num_patches), ("chunk_size", chunk_size)):
        check_at_least(f"method.patches.{name}", value, 1)
    resolution = classifier.adapter.input_resolution_px
    shape = (classifier.adapter.input_channels, resolution, resolution)
    layer = layer or central_layer(classifier.network, shape)
    check_layer(classifier.network, layer, "method.patches.layer")
    if filters is None:
        filters = telling_filters(classifier, images, targets, layer, chunk_size)
    elif not filters:
        raise InputError("method.patches.filters must be at least one filter, got none; give [0]")
    fields = receptive_fields(classifier.network, layer, filters, shape)
    found = strongest_places(
        classifier, data, layer, filters, num_patches, chunk_size, images.device, progress
    )
    pictures, captions, rows = [], [], []
    for position, field, peaks in zip(filters, fields, found, strict=True):
        shown, sources = _row(data, peaks, field, resolution)
        pictures += [*shown, *sources]
        captions += [f"{layer}, filter {position}: {peak.value:.2f}" for peak in peaks]
        captions += [f"image {peak.image} ({_class_name(data, peak.image)})" for peak in peaks]
        rows += [_table_row(position, peak, field, data, resolution) for peak in peaks]
    size = fields[0].rows.size, fields[0].columns.size
    return (
        Pictures(torch.stack(pictures), tuple(captions), columns=min(num_patches, len(data))),
        Table(
            columns=("filter", "value", "image", "class", "rows", "columns"),
            rows=tuple(rows),
            reading=f"The strongest place of each image, of {len(data)} images: filters of {layer} "
            f"see {size[0]} × {size[1]} px of the network's input, which is {resolution} px wide; "
            "rows and columns are those of the image itself, and grey lies beyond its border.",
        ),
    )


def telling_filters(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    layer: str,
    chunk_size: int,
) -> list[int]:
    """Of each image the filter that speaks most for its class, none twice, in order of the images.

    A filter speaks by the sum over places of its value times the gradient of the class's logit.
    """
    chosen: list[int] = []
    for chunk, labels in zip(images.split(chunk_size), targets.split(chunk_size), strict=True):
        with torch.enable_grad(), recorded(classifier.network, [layer]) as outputs:
            logits = classifier(chunk.detach().requires_grad_(True))
            output = outputs[layer]
            score = logits.gather(1, labels[:, None]).sum()
            gradient = torch.autograd.grad(score, output, materialize_grads=True)[0]
        if output.ndim != 4:
            break  # the layer is refused where its field is looked for
        chosen += (gradient * output).sum(dim=(2, 3)).argmax(dim=1).tolist()
    return list(dict.fromkeys(chosen))


@torch.no_grad()
def strongest_places(
    classifier: FrozenClassifier,
    data: ImageSet,
    layer: str,
    filters: Sequence[int],
    num_patches: int,
    chunk_size: int,
    device: torch.device,
    progress: Progress = quiet,
) -> list[list[Peak]]:
    """The images that hold the largest values of filters, and where; of equal ones the first.

    Args:
        classifier: On `device`.
        data: Read once, in order.
        layer: With rows and columns.
        filters: Positions among its channels, checked before.
        num_patches: At most so many of each filter.
        chunk_size: Images at once.
        device: Where to compute.
        progress: Shows how far it is.
    """
    values = torch.empty(0, len(filters), device=device)
    places = torch.empty(0, len(filters), 3, dtype=torch.int64, device=device)
    for chunk in progress(torch.arange(len(data)).split(chunk_size), layer):
        images = data.batch(chunk.tolist())[0].to(device)
        output = layer_places(classifier.network, classifier.adapter(images), layer)
        peaks, here = _peaks(output[:, list(filters)], chunk.to(device))
        values, places = torch.cat((values, peaks)), torch.cat((places, here))
        order = values.argsort(dim=0, descending=True, stable=True)[:num_patches]  # [n f]
        values = values.gather(0, order)
        places = places.gather(0, order[:, :, None].expand(-1, -1, 3))
    return [
        [
            Peak(value, *place)
            for value, place in zip(values[:, i].tolist(), places[:, i].tolist(), strict=True)
        ]
        for i in range(len(filters))
    ]


def cut(image: Float[Tensor, "c h w"], box: Box) -> Float[Tensor, "c y x"]:
    """A rectangle of an image; grey where it reaches beyond it."""
    height, width = image.shape[1:]
    sides = (-box.left, box.left + box.width - width, -box.top, box.top + box.height - height)
    return F.pad(image, sides)  # a negative side is cut off, 0 is grey


def framed(image: Float[Tensor, "c h w"], box: Box) -> Float[Tensor, "c h w"]:
    """The image with a rectangle's outline, as far as it lies within it: white, black inside."""
    image = image.clone()
    height, width = image.shape[1:]
    top, left = max(box.top, 0), max(box.left, 0)
    bottom, right = min(box.top + box.height, height), min(box.left + box.width, width)
    for inset, value in ((0, 1.0), (1, 1.0), (2, -1.0)):
        rows, columns = (top + inset, bottom - 1 - inset), (left + inset, right - 1 - inset)
        if rows[0] > rows[1] or columns[0] > columns[1]:
            break
        image[:, rows, columns[0] : columns[1] + 1] = value
        image[:, rows[0] : rows[1] + 1, columns] = value
    return image


def _peaks(
    output: Float[Tensor, "b f y x"], positions: Labels
) -> tuple[Float[Tensor, "b f"], Tensor]:
    """The largest value of each filter in each image, and its image, row and column."""
    flat = output.flatten(2)
    best = flat.argmax(dim=2)
    width = output.shape[3]
    where = (positions[:, None].expand_as(best), best // width, best % width)
    return flat.gather(2, best[:, :, None])[:, :, 0], torch.stack(where, dim=2)


def _row(
    data: ImageSet, peaks: Sequence[Peak], field: Field, resolution: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Patches, enlarged to the input's size, and the images that they come from."""
    shown, sources = [], []
    for peak in peaks:
        image = resize(data.batch([peak.image])[0], resolution)[0]
        box = field.box(peak.y, peak.x)
        patch = cut(image, box)
        side = max(patch.shape[1:])
        patch = F.pad(patch, (0, side - patch.shape[2], 0, side - patch.shape[1]))
        size = (resolution, resolution)
        shown.append(F.interpolate(patch[None], size, mode="nearest-exact")[0])
        sources.append(framed(image, box))
    return shown, sources


def _table_row(
    position: int, peak: Peak, field: Field, data: ImageSet, resolution: int
) -> tuple[Cell, ...]:
    box = field.box(peak.y, peak.x)
    rows = covering(box.top, box.height, resolution, data.resolution)
    columns = covering(box.left, box.width, resolution, data.resolution)
    return (
        f"filter {position}",
        peak.value,
        peak.image,
        _class_name(data, peak.image),
        f"{rows[0]}–{rows[1]}",
        f"{columns[0]}–{columns[1]}",
    )


def _class_name(data: ImageSet, image: int) -> str:
    return data.class_names[int(data.labels[image])]

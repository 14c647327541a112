"""Pictures that excite a filter, a neuron or a class the most, found by gradient ascent.

Sources: Erhan et al. 2009, "Visualizing Higher-Layer Features of a Deep Network"; for classes
    Simonyan et al. 2013 (arXiv:1312.6034), section 2.
"""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attribution.canvas import Canvas, total_variation
from stylex.attribution.chunks import check_chunk_size
from stylex.attribution.exhibits import Pictures
from stylex.attribution.layers import chosen_layers
from stylex.attribution.transforms import Transforms
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import layer_outputs
from stylex.errors import InputError
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

SPREAD = 6  # filters that are drawn if none is named

Scores = Float[Tensor, " b"]
Measure = Callable[[Images, Labels], Scores]


def ascent(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    layer: str | float | None,
    filters: Sequence[int] | None,
    place: Sequence[int] | None,
    canvas: Canvas,
    transforms: Transforms,
    l2: float,
    total_variation_weight: float,
    steps: int,
    learning_rate: float,
    seed: int,
    chunk_size: int,
    columns: int,
    progress: Progress = quiet,
) -> Pictures:
    """Draws what filters, neurons or classes want to see, from random numbers.

    The pictures do not depend on the images, which give only the number of channels.

    Args:
        classifier: Read at the canvas's own size for a layer, at its input's for a class.
        images: One for each target.
        targets: Classes to draw where no layer is given, one picture per image.
        layer: Layer of the filters, by name or by its share of the depth; none draws classes.
        filters: Channels of the layer, one picture each, unused for classes; none takes six that
            are spread over the layer.
        place: Row and column of one neuron in the layer's output; none takes the filter's mean.
        canvas: How pictures are written as numbers.
        transforms: Moves of the picture before every look at it.
        l2: Weight of the mean squared value of the picture, subtracted from the objective.
        total_variation_weight: Weight of the picture's total variation, likewise.
        steps: Steps of Adam.
        learning_rate: Of Adam, in units of the canvas's numbers.
        seed: Of the start and the moves.
        chunk_size: Pictures that ascend together.
        columns: Pictures side by side.
        progress: Shows the steps.

    Returns:
        The pictures, each with its objective at the start and at the end, unmoved.

    Raises:
        InputError: If the layer, a filter, the place or a class does not exist.
    """
    check_chunk_size(chunk_size)
    if place is not None and len(place) != 2:
        raise InputError(f"place must be a row and a column, got {list(place)}; give [row, column]")
    channels = images.shape[1]
    start = canvas.start(channels, seed, images.device)
    if layer is None:
        wanted, shown = targets.unique(return_inverse=True)
        _check_classes(classifier, wanted)
        measure, names = _class_score(classifier), [classifier.class_names[i] for i in wanted]
    else:
        (name,) = chosen_layers(classifier, images, [layer], "layer")
        measure, chosen = _filter_score(classifier, name, place, filters, canvas.images(start))
        wanted = torch.tensor(chosen, dtype=torch.int64, device=images.device)
        shown = torch.arange(len(wanted), device=images.device)
        spot = "" if place is None else f" at row {place[0]}, column {place[1]}"
        names = [f"{name}, filter {i}{spot}" for i in chosen]

    def penalised(pictures: Images, seen: Images, goals: Labels) -> Scores:
        penalty = l2 * pictures.square().mean(dim=(1, 2, 3))
        return measure(seen, goals) - penalty - total_variation_weight * total_variation(pictures)

    parts: list[Images] = []
    captions: list[str] = []
    for goals in wanted.split(chunk_size):
        numbers = start.expand(len(goals), *start.shape[1:]).clone()
        with torch.no_grad():
            before = measure(canvas.images(numbers), goals)
        numbers = _climb(
            numbers, goals, penalised, canvas, transforms, steps, learning_rate, seed, progress
        )
        with torch.no_grad():
            parts.append(canvas.images(numbers))
            after = measure(parts[-1], goals)
        for first, last in zip(before.tolist(), after.tolist(), strict=True):
            captions.append(f"{names[len(captions)]}: {first:.3g} → {last:.3g}")
    pictures = torch.cat(parts)[shown]
    return Pictures(pictures, tuple(captions[i] for i in shown.tolist()), columns)


def _climb(
    numbers: Tensor,
    goals: Labels,
    objective: Callable[[Images, Images, Labels], Scores],
    canvas: Canvas,
    transforms: Transforms,
    steps: int,
    learning_rate: float,
    seed: int,
    progress: Progress,
) -> Tensor:
    """The numbers after all steps."""
    numbers.requires_grad_()
    random = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam([numbers], learning_rate)
    with torch.enable_grad():
        for step in progress(range(steps), "ascent"):
            pictures = canvas.images(numbers)
            seen = transforms(pictures, random, 1 - (step + 1) / steps)
            (numbers.grad,) = torch.autograd.grad(-objective(pictures, seen, goals).sum(), numbers)
            optimiser.step()
    return numbers.detach()


def _class_score(classifier: FrozenClassifier) -> Measure:
    return lambda images, goals: classifier(images).gather(1, goals[:, None])[:, 0]


def _filter_score(
    classifier: FrozenClassifier,
    layer: str,
    place: Sequence[int] | None,
    filters: Sequence[int] | None,
    example: Images,
) -> tuple[Measure, list[int]]:
    """Mean of a channel of the layer's output, or its value at one place; and the channels."""
    network, adapter = classifier.network, classifier.adapter

    def maps(images: Images) -> Tensor:
        return layer_outputs(network, adapter.normalise(images), [layer])[layer]

    with torch.no_grad():
        shape = tuple(maps(example).shape)
    if filters is None:
        filters = sorted({i * shape[1] // SPREAD for i in range(SPREAD)})
    if (
        not all(isinstance(i, int) for i in filters)
        or not filters
        or not 0 <= min(filters) <= max(filters) < shape[1]
    ):
        raise InputError(
            f"filters must be some of 0 to {shape[1] - 1} for '{layer}', got {list(filters)}"
        )
    if place is not None and not (0 <= place[0] < shape[2] and 0 <= place[1] < shape[3]):
        raise InputError(
            f"place must be a row below {shape[2]} and a column below {shape[3]} of '{layer}' at "
            f"the canvas's size, got {list(place)}"
        )

    def score(images: Images, goals: Labels) -> Scores:
        chosen = maps(images)[torch.arange(len(goals), device=goals.device), goals]  # [b h w]
        return chosen.mean(dim=(1, 2)) if place is None else chosen[:, place[0], place[1]]

    return score, list(filters)


def _check_classes(classifier: FrozenClassifier, wanted: Labels) -> None:
    if not 0 <= int(wanted.min()) <= int(wanted.max()) < classifier.num_classes:
        raise InputError(
            f"targets must be classes from 0 to {classifier.num_classes - 1}, got {wanted.tolist()}"
        )

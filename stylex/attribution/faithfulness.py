"""Whether maps show what the classifier decides by: five checks of every kind of map.

Sources: Petsiuk et al. 2018, "RISE" (arXiv:1806.07421), insertion and deletion; Zhang et al. 2016
    (arXiv:1608.00507), the pointing game; Yeh et al. 2019 (arXiv:1901.09392), sensitivity;
    Adebayo et al. 2018 (arXiv:1810.03292), randomisation of the classifier.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.attribution.chunks import check_chunk_size
from stylex.attribution.exhibits import Cell, Maps, Table
from stylex.attribution.occlusion import Fill, filled
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.randomisation import initialised_layers
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share, spearman
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

MapMethod = Callable[[FrozenClassifier, Images, Labels], Maps]
Regions = Bool[Tensor, "b h w"]
PerImage = Float[Tensor, " b"]
BLUR = 0.1  # standard deviation of a blur that covers an image, as a share of its side


def faithfulness(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    methods: Mapping[str, MapMethod],
    num_images: int,
    num_steps: int,
    deleted: Fill,
    uninserted: Fill,
    radius: float,
    num_moved: int,
    randomised: Sequence[float],
    seed: int,
    chunk_size: int,
    regions: Regions | None = None,
    progress: Progress = quiet,
) -> Table:
    """Puts every kind of map to the same checks.

    Args:
        classifier: Whose decision the maps explain.
        images: In [-1, 1].
        targets: A class for each image.
        methods: By the name that is shown.
        num_images: How many of the images, from the first on, are used.
        num_steps: In which an image is deleted or inserted.
        deleted: What deletion leaves behind: "mean", "blur", a value, or one per channel.
        uninserted: What insertion begins with, likewise.
        radius: Of the noise that must not change a map, in units of [-1, 1].
        num_moved: Noisy copies of each image.
        randomised: Shares of the network's layers, from the last one back, that are initialised
            anew, at least one each.
        seed: Of all that is random.
        chunk_size: Images that run together, beside what the methods say.
        regions: Where the reasons are known to lie; none leaves the pointing game out.
        progress: Shows the loop over methods.

    A method that cannot explain the classifier is left out, which the table says.

    Raises:
        InputError: If a number is out of its range or there is no method.
    """
    _check(methods, num_images, num_steps, num_moved, randomised)
    images, targets = images[:num_images].detach(), targets[:num_images]
    layers = len(initialised_layers(classifier.network))
    nulls = {
        part: classifier.reinitialised(max(1, round(part * layers)), seed) for part in randomised
    }
    blur_px = BLUR * images.shape[2]
    left, start = filled(images, deleted, blur_px), filled(images, uninserted, blur_px)

    def areas(maps: Maps) -> list[Estimate]:
        inserted = curves(classifier, start, images, targets, maps, num_steps, chunk_size, seed)
        removed = curves(classifier, images, left, targets, maps, num_steps, chunk_size, seed)
        return [mean(area(inserted)), mean(area(removed))]

    columns = ["map", "insertion", "deletion", "sensitivity"]
    columns += [f"{part:.0%} of layers random" for part in randomised]
    columns += ["pointing game"] if regions is not None else []
    rows: list[tuple[str, list[Estimate | None]]] = []
    left_out: list[str] = []
    for name, method in progress(methods.items(), "faithfulness"):
        try:
            maps = method(classifier, images, targets)
        except InputError as error:  # as guided backpropagation without rectifiers
            left_out.append(f"{name} ({error})")
            continue
        moved = sensitivity_max(method, classifier, images, targets, maps, radius, num_moved, seed)
        found = [*areas(maps), mean(moved[moved.isfinite()])]
        for null in nulls.values():
            again = method(null, images, targets)
            found.append(mean(spearman(maps.flatten(1), again.flatten(1))))
        if regions is not None:
            found.append(pointing_game(maps, regions[:num_images]))
        rows.append((name, [*found]))
    chance: list[Estimate | None] = [*areas(torch.zeros_like(images[:, 0]))]
    rows.append(("random order", chance + [None] * (len(columns) - 3)))
    return _table(columns, rows, len(images), left_out)


def curves(
    classifier: FrozenClassifier,
    before: Images,
    after: Images,
    targets: Labels,
    maps: Maps,
    num_steps: int,
    chunk_size: int,
    seed: int,
) -> Float[Tensor, "b steps"]:
    """Probability of the class while pixels change, those of the largest values first.

    Args:
        classifier: Which is asked.
        before: Images at the first step.
        after: Images at the last step.
        targets: A class for each image.
        maps: Give the order; among equal values it is random.
        num_steps: Equal parts of the pixels.
        chunk_size: Images that run together.
        seed: Of the random order, the same for every image.

    Returns:
        Of the unchanged images, and after every step.
    """
    check_chunk_size(chunk_size)
    pixels = maps[0].numel() if len(maps) else 0
    mixed = torch.randperm(pixels, generator=torch.Generator().manual_seed(seed)).to(maps.device)
    values = maps.detach().flatten(1)[:, mixed]
    order = mixed[values.argsort(dim=1, descending=True, stable=True)]
    ranks = torch.empty_like(order).scatter(
        1, order, torch.arange(pixels, device=maps.device).expand_as(order)
    )
    ranks = ranks.view(maps.shape)[:, None]
    steps = []
    for step in range(num_steps + 1):
        mixture = torch.where(ranks < round(step * pixels / num_steps), after, before)
        with torch.no_grad():
            parts = [classifier.probabilities(part) for part in mixture.split(chunk_size)]
        steps.append(torch.cat(parts).gather(1, targets[:, None])[:, 0])
    return torch.stack(steps, dim=1)


def area(curve: Float[Tensor, "b steps"]) -> PerImage:
    """Area under curves over [0, 1], by trapezoids."""
    return torch.trapezoid(curve, dx=1 / (curve.shape[1] - 1), dim=1)


def sensitivity_max(
    method: MapMethod,
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    maps: Maps,
    radius: float,
    num_moved: int,
    seed: int,
) -> PerImage:
    """Largest change of a map, in units of its own norm, under noise that nobody sees.

    Args:
        method: That gave the maps.
        classifier: Whose decision they explain.
        images: In [-1, 1].
        targets: A class for each image.
        maps: Of the images themselves.
        radius: The noise of every value is uniform from minus to plus this, in units of [-1, 1].
        num_moved: Noisy copies of each image.
        seed: Of the noise, the same for every image.

    Returns:
        0 for maps that do not change; no number for maps of zeros.
    """
    generator = torch.Generator().manual_seed(seed)
    norms = maps.flatten(1).norm(dim=1)
    worst = torch.zeros_like(norms)
    for _ in range(num_moved):
        noise = (torch.rand(images.shape[1:], generator=generator) * 2 - 1) * radius
        moved = method(classifier, images + noise.to(images), targets)
        worst = worst.maximum((moved - maps).flatten(1).norm(dim=1))
    return worst / torch.where(norms > 0, norms, torch.nan)


def pointing_game(maps: Maps, regions: Regions) -> Estimate:
    """Share of the maps whose largest value lies where the reasons are.

    Args:
        maps: One per image; of equal values the first counts, and one that is the same everywhere
            points nowhere.
        regions: Where the reasons lie; an image whose region is empty does not count.
    """
    values, inside = maps.detach().flatten(1), regions.flatten(1).to(maps.device)
    points = values.amax(dim=1) > values.amin(dim=1)
    hits = inside.gather(1, values.argmax(dim=1, keepdim=True))[:, 0] & points
    return share(hits[inside.any(dim=1)])


def _check(
    methods: Mapping[str, MapMethod],
    num_images: int,
    num_steps: int,
    num_moved: int,
    randomised: Sequence[float],
) -> None:
    if not methods:
        raise InputError("faithfulness needs at least one method of maps, got none; give one")
    if min(num_images, num_steps, num_moved) < 1:
        raise InputError(
            "faithfulness needs num_images, num_steps and num_moved of at least 1, got "
            f"{num_images}, {num_steps} and {num_moved}; raise them"
        )
    different = len(set(randomised)) == len(randomised)
    if not different or not all(0 < part <= 1 for part in randomised):
        raise InputError(
            "randomised must be different shares of layers in (0, 1], got "
            f"{list(randomised)}; give others"
        )


def _table(
    columns: Sequence[str],
    rows: Sequence[tuple[str, list[Estimate | None]]],
    count: int,
    left_out: Sequence[str],
) -> Table:
    headings = [columns[0]]
    for column in columns[1:]:
        headings += [column, f"95 % of {column}"]
    cells: list[tuple[Cell, ...]] = []
    for name, estimates in rows:
        row: list[Cell] = [name]
        for estimate in estimates:
            row += _figures(estimate)
        cells.append(tuple(row))
    return Table(
        tuple(headings),
        tuple(cells),
        f"Over {count} images, 95 % intervals over images. Insertion: mean probability of the "
        "class while the strongest pixels are put in first, more is better. Deletion: while they "
        "are taken away first, less is better. A map must beat the random order. Sensitivity: "
        "change of the map, in units of its norm, under noise too weak to see, less is better. "
        "Layers random: rank correlation with the map of a network with untrained layers, from "
        "the last one back; a map that stays near 1 does not show what was learnt."
        + (f" Left out: {'; '.join(left_out)}." if left_out else ""),
    )


def _figures(estimate: Estimate | None) -> tuple[Cell, Cell]:
    if estimate is None or estimate.value is None or estimate.interval is None:
        return None, None
    low, high = estimate.interval
    return estimate.value, f"{low:.3f} to {high:.3f} (n = {estimate.num_images})"

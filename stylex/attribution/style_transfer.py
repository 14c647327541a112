"""Photographs repainted in the style of another picture.

Content is what layers give at each place; style is how their channels go together, whatever the
place. Classifiers without wide early layers, as EfficientNet-Lite0, carry colours and fine grain
rather than brush strokes; VGG carries both, from a file of its weights.
Source: Gatys, Ecker & Bethge 2016, "Image Style Transfer Using Convolutional Neural Networks".
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from stylex.attribution.canvas import total_variation
from stylex.attribution.exhibits import Pictures
from stylex.attribution.layers import check_at_least, chosen_layers
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import layer_outputs
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.imaging import from_uint8, read_whole
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

Features = Float[Tensor, "b c h w"]
Style = Float[Tensor, "1 c h2 w2"]
Loss = Callable[[Images], Float[Tensor, ""]]


@dataclass(frozen=True)
class Painting:
    """What is kept of the photograph, what is taken from the style, and how it is sought.

    Attributes:
        content_layers: Layers whose outputs stay near the photograph's, by name or by the share of
            the network's depth.
        style_layers: Layers whose Gram matrices come near the style's, likewise.
        total_variation_weight: Weight of the picture's total variation.
        optimiser: "lbfgs", with a line search, or "adam".
        steps: Steps of the optimiser.
        learning_rate: Of Adam, in units of [-1, 1]; L-BFGS scales its steps itself.
        history: Steps that L-BFGS remembers, each as large as two pictures.
    """

    content_layers: Sequence[Any]
    style_layers: Sequence[Any]
    total_variation_weight: float
    optimiser: str
    steps: int
    learning_rate: float
    history: int


def style_transfer(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    data: ImageSet,
    style: str | int,
    style_longer_px: int,
    style_weights: Sequence[float],
    painting: Painting,
    progress: Progress = quiet,
) -> tuple[Pictures, Pictures]:
    """Repaints every image in one style, once per weight; starts from the image itself.

    The images are painted one after another, so that none depends on the others.

    Args:
        classifier: Its network is read up to the last of the layers, at the images' own size.
        images: Photographs, square or not.
        targets: Unused: a style has no class.
        data: The data set that a style's position speaks of.
        style: Path of an image file, or a position in the data set.
        style_longer_px: Longer side of a style from a file, in pixels: sets the grain's size.
        style_weights: Weights of the style against the content, a picture for each.
        painting: Layers, other weights and the optimiser.
        progress: Shows the steps.

    Returns:
        The style, and rows of a photograph and its repainted versions.

    Raises:
        InputError: If a layer does not exist, or the style or the optimiser is unknown.
    """
    del targets
    check_at_least("painting.history", painting.history, 1)
    content, styling = (
        chosen_layers(classifier, images, getattr(painting, setting), f"painting.{setting}")
        for setting in ("content_layers", "style_layers")
    )
    painting = replace(painting, content_layers=content, style_layers=styling)
    if not (painting.style_layers and style_weights):
        raise InputError(
            "style_weights and painting.style_layers must not be empty, got "
            f"{list(style_weights)} and {list(painting.style_layers)}"
        )
    model = _style_image(style, data, style_longer_px, images)
    rows, captions = [], []
    for photograph in images.split(1):
        rows.append(photograph)
        captions.append("photograph")
        for weight in style_weights:
            loss = transfer_loss(classifier, photograph, model, weight, painting)
            painted = _minimise(loss, photograph, painting, progress)
            with torch.no_grad():
                before, after = float(loss(photograph)), float(loss(painted))
            rows.append(painted)
            captions.append(f"style weight {weight:g}: loss {before:.3g} → {after:.3g}")
    shown = Pictures(model, ("style",), 1)
    return shown, Pictures(torch.cat(rows), tuple(captions), 1 + len(style_weights))


def gram(features: Features) -> Float[Tensor, "b c c"]:
    """Mean product of every two channels over all places."""
    flat = features.flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def style_loss(features: Mapping[str, Tensor], grams: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Squared distance of Gram matrices as a share of the style's own, averaged over the layers.

    Every channel is first divided by its root mean square in the style, so that none outweighs
    the others.
    """
    shares = []
    for layer, wanted in grams.items():
        scale = wanted.diagonal(dim1=1, dim2=2).clamp(min=1e-12).rsqrt()
        scales = scale[:, :, None] * scale[:, None, :]  # [1 c c]
        distance = ((gram(features[layer]) - wanted) * scales).square().sum()
        shares.append(distance / (wanted * scales).square().sum().clamp(min=1e-12))
    return torch.stack(shares).mean()


def content_loss(features: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Squared distance of the layers' outputs as a share of the photograph's own, averaged."""
    shares = [
        (features[layer] - there).square().sum() / there.square().sum().clamp(min=1e-12)
        for layer, there in wanted.items()
    ]
    return torch.stack(shares).mean()


def transfer_loss(
    classifier: FrozenClassifier,
    photograph: Images,
    style: Style,
    style_weight: float,
    painting: Painting,
) -> Loss:
    """The loss of one picture, of the photograph's size: content, style and total variation."""
    layers = [*dict.fromkeys((*painting.content_layers, *painting.style_layers))]

    def features(images: Images) -> dict[str, Tensor]:
        return layer_outputs(classifier.network, classifier.adapter.normalise(images), layers)

    with torch.no_grad():
        known, taught = features(photograph), features(style)
        wanted = {layer: known[layer] for layer in painting.content_layers}
        grams = {layer: gram(taught[layer]) for layer in painting.style_layers}

    def loss(picture: Images) -> Float[Tensor, ""]:
        found = features(picture)
        total = style_weight * style_loss(found, grams)
        if wanted:
            total = total + content_loss(found, wanted)
        return total + painting.total_variation_weight * total_variation(picture).sum()

    return loss


def _minimise(loss: Loss, photograph: Images, painting: Painting, progress: Progress) -> Images:
    """The picture after all steps, clamped to [-1, 1]."""
    picture = photograph.clone().requires_grad_()
    optimiser: torch.optim.Optimizer
    if painting.optimiser == "lbfgs":
        optimiser = torch.optim.LBFGS(
            [picture],
            max_iter=1,
            history_size=painting.history,
            tolerance_grad=0,
            tolerance_change=0,
            line_search_fn="strong_wolfe",
        )
    elif painting.optimiser == "adam":
        optimiser = torch.optim.Adam([picture], painting.learning_rate)
    else:
        raise InputError(f"painting.optimiser must be lbfgs or adam, got '{painting.optimiser}'")

    def closure() -> float:
        value = loss(picture)
        (picture.grad,) = torch.autograd.grad(value, picture)
        return float(value.detach())

    with torch.enable_grad():
        for _ in progress(range(painting.steps), "painting"):
            optimiser.step(closure)
    return picture.detach().clamp(-1, 1)


def _style_image(style: str | int, data: ImageSet, longer_px: int, images: Images) -> Style:
    if isinstance(style, str):
        found = from_uint8(read_whole(Path(style), longer_px, images.shape[1])[None])
    elif isinstance(style, int) and 0 <= style < len(data):
        found = data.batch([style])[0]
    else:
        raise InputError(
            f"style must be a path or a position from 0 to {len(data) - 1} in the data set, got "
            f"{style}"
        )
    return found.to(images.device)

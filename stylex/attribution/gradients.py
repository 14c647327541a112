"""Which pixels a class's logit, or one neuron, hangs on: maps of gradients.

Sources: Simonyan et al. 2013, "Deep Inside Convolutional Networks" (arXiv:1312.6034);
    Smilkov et al. 2017, "SmoothGrad" (arXiv:1706.03825);
    Springenberg et al. 2014, "Striving for Simplicity" (arXiv:1412.6806), guided backpropagation.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.attribution.chunks import check_chunk_size, maps_in_chunks, seeded
from stylex.attribution.exhibits import Maps
from stylex.attribution.extras import load_extra
from stylex.attribution.gradcam import chosen_layer
from stylex.attribution.rectifiers import guided_copy, linear_layers
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.progress import Progress, quiet
from stylex.types import Images, Labels

RANGE = 2.0  # of an image's values
BLOCK = 16  # noisy copies drawn together, so that the noise does not hang on the chunk size
FORMS = {"mean": "smoothgrad", "squared": "smoothgrad_sq", "variance": "vargrad"}


def saliency(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    signed: bool,
    chunk_size: int,
) -> Maps:
    """Gradient of the class's logit.

    Args:
        classifier: Whose decision is looked at.
        images: In [-1, 1].
        targets: A class for each image.
        signed: Sum over channels, above 0 where a brighter pixel speaks for the class; otherwise
            the largest absolute value over channels.
        chunk_size: Images that run together.
    """
    method = load_extra("captum.attr", "captum").Saliency(classifier)

    def draw(some: Images, classes: Labels) -> Maps:
        return _per_pixel(method.attribute(some, target=classes, abs=False), signed)

    return maps_in_chunks(images, targets, chunk_size, draw)


def smoothgrad(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    num_samples: int,
    noise: float,
    form: str,
    seed: int,
    chunk_size: int,
    progress: Progress = quiet,
) -> Maps:
    """Gradient of the class's logit over noisy copies of the image.

    Args:
        classifier: Whose decision is looked at.
        images: In [-1, 1].
        targets: A class for each image.
        num_samples: Copies of each image.
        noise: Standard deviation of the noise, as a share of the range of an image's values.
        form: What is taken over the copies: the "mean" of gradients, of which the largest absolute
            value over channels is shown; the mean of the "squared" ones; their "variance".
        seed: Of the noise, which is the same for every image.
        chunk_size: Noisy copies that run together, at most 16.
        progress: Shows the loop over images.

    Raises:
        InputError: If a number is out of its range or the form is not known.
    """
    check_chunk_size(chunk_size)
    if num_samples < 1 or noise < 0:
        raise InputError(
            "smoothgrad needs num_samples of at least 1 and noise of at least 0, got "
            f"{num_samples} and {noise}; raise them"
        )
    if form not in FORMS:
        raise InputError(f"form must be one of {', '.join(FORMS)}, got '{form}'; give one of them")
    attr = load_extra("captum.attr", "captum")
    gradient = attr.Saliency(classifier)
    gradient.gradient_func = _chunked_gradient(chunk_size)
    tunnel = attr.NoiseTunnel(gradient)
    maps = images.new_zeros(len(images), *images.shape[2:])
    for i in progress(range(len(images)), "smoothgrad"):
        with seeded(seed, images.device):
            found = tunnel.attribute(
                images[i : i + 1].detach(),
                nt_type=FORMS[form],
                nt_samples=num_samples,
                nt_samples_batch_size=BLOCK,
                stdevs=float(noise * RANGE),
                target=int(targets[i]),
                abs=False,
            )
        maps[i] = _per_pixel(found, signed=False)[0]
    return maps


def guided_backprop(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    signed: bool,
    chunk_size: int,
) -> Maps:
    """Gradient of the class's logit, of which every rectifier passes on only what is above 0.

    Args:
        classifier: Whose decision is looked at; its rectifiers must be modules.
        images: In [-1, 1].
        targets: A class for each image.
        signed: Sum over channels; otherwise the largest absolute value over channels.
        chunk_size: Images that run together.

    Raises:
        InputError: If the rule can have no meaning for the network.
    """
    attr = load_extra("captum.attr", "captum")
    method = attr.GuidedBackprop(guided_copy(classifier, images[:1]))

    def draw(some: Images, classes: Labels) -> Maps:
        with _without_hook_warning():
            return _per_pixel(method.attribute(some, target=classes), signed)

    return maps_in_chunks(images, targets, chunk_size, draw)


def guided_neuron(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    layer: str | None,
    channel: int | None,
    row: int | None,
    column: int | None,
    signed: bool,
    chunk_size: int,
) -> Maps:
    """Guided backpropagation from a single neuron instead of a class.

    Args:
        classifier: Whose neuron is looked at; its rectifiers must be modules.
        images: In [-1, 1].
        targets: A class for each image; a neuron does not hang on it.
        layer: The neuron's; none is the last with height and width that is no rectifier: where
            one such as ReLU6 is at its top, no gradient passes.
        channel: The neuron's; none is the one with the largest output, in each image.
        row: In the layer's output; none, together with `column`, is the place of the largest
            output, in each image.
        column: Likewise.
        signed: Sum over channels; otherwise the largest absolute value over channels.
        chunk_size: Images that run together.

    Raises:
        InputError: If there is no such neuron, or the rule can have no meaning for the network.
    """
    if (row is None) != (column is None):
        raise InputError(
            f"row and column must be given together, got {row} and {column}; give both or neither"
        )
    if not len(images):
        return images.new_zeros(0, *images.shape[2:])
    attr = load_extra("captum.attr", "captum")
    guided = guided_copy(classifier, images[:1])
    candidates = linear_layers(classifier.network)
    name = chosen_layer(classifier, images[:1], layer, candidates, "guided_neuron")
    method = attr.NeuronGuidedBackprop(guided, guided.network.get_submodule(name))

    def select(outputs: Tensor) -> Tensor:
        places = neuron_places(outputs.detach(), channel, row, column)
        return outputs.flatten(1).gather(1, places[:, None])[:, 0]

    def draw(some: Images, _classes: Labels) -> Maps:
        with _without_hook_warning():
            return _per_pixel(method.attribute(some, neuron_selector=select), signed)

    return maps_in_chunks(images, targets, chunk_size, draw)


def neuron_places(
    outputs: Float[Tensor, "b c h w"], channel: int | None, row: int | None, column: int | None
) -> Int64[Tensor, " b"]:
    """Where a neuron lies in each image's flattened outputs.

    Args:
        outputs: Of a layer.
        channel: None is any.
        row: None is any.
        column: None is any; of several, the first of those with the largest output is taken.

    Raises:
        InputError: If the layer has no such neuron.
    """
    allowed = torch.ones_like(outputs, dtype=torch.bool)
    for axis, (name, index) in enumerate(
        (("channel", channel), ("row", row), ("column", column)), start=1
    ):
        if index is None:
            continue
        size = outputs.shape[axis]
        if index not in range(size):
            raise InputError(
                f"{name} must be from 0 to {size - 1} in this layer, got {index}; give another"
            )
        kept = torch.zeros(size, dtype=torch.bool, device=outputs.device)
        kept[index] = True
        allowed &= kept.view([-1 if a == axis else 1 for a in range(4)])
    return outputs.masked_fill(~allowed, -torch.inf).flatten(1).argmax(dim=1)


def _per_pixel(gradients: Images, signed: bool) -> Maps:
    return gradients.sum(dim=1) if signed else gradients.abs().amax(dim=1)


def _chunked_gradient(chunk_size: int) -> Callable[..., tuple[Images]]:
    """Captum's gradient of one output, a few images at a time."""

    def gradient(
        forward: Callable[..., Tensor],
        inputs: tuple[Images],
        target: int,
        _more: Any,  # noqa: ANN401  captum's own signature
    ) -> tuple[Images]:
        parts = []
        for part in inputs[0].detach().split(chunk_size):
            leaf = part.clone().requires_grad_(True)
            with torch.enable_grad():
                total = forward(leaf)[:, target].sum()
            parts.append(torch.autograd.grad(total, leaf)[0])
        return (torch.cat(parts),)

    return gradient


@contextmanager
def _without_hook_warning() -> Iterator[None]:
    """Captum warns of its hooks on every call; they sit on a copy that is thrown away."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Setting backward hooks on ReLU")
        yield

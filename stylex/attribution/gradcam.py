"""Where a layer's channels that speak for a class are active.

Source: Selvaraju et al. 2017, "Grad-CAM" (arXiv:1610.02391).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.modules.conv import _ConvNd

from stylex.attribution.chunks import maps_in_chunks
from stylex.attribution.exhibits import Maps
from stylex.attribution.extras import load_extra
from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.recording import check_layer, layer_names, recorded
from stylex.errors import InputError
from stylex.types import Images, Labels


def gradcam(
    classifier: FrozenClassifier,
    images: Images,
    targets: Labels,
    *,
    layer: str | None,
    relu: bool,
    chunk_size: int,
) -> Maps:
    """Sum of a layer's channels, each times the mean of its gradient, brought to the images' size.

    Args:
        classifier: Whose decision is looked at.
        images: In [-1, 1].
        targets: A class for each image.
        layer: With height and width; none is the last such layer that runs.
        relu: Makes what speaks against the class 0.
        chunk_size: Images that run together.

    Raises:
        InputError: If the network has no convolution, or the layer no height and width or no
            part in the logits.
    """
    if isinstance(classifier.network, torch.jit.ScriptModule):
        check_layer(classifier.network, layer or "", "method=gradcam")
    if not layer_names(classifier.network, _ConvNd):
        raise InputError(
            "gradcam needs a classifier with convolutions, got none in "
            f"{type(classifier.network).__name__}; use occlusion or saliency"
        )
    if not len(images):
        return images.new_zeros(0, *images.shape[2:])
    candidates = layer_names(classifier.network)
    name = chosen_layer(classifier, images[:1], layer, candidates, "gradcam")
    method = load_extra("captum.attr", "captum").LayerGradCam(
        classifier, classifier.network.get_submodule(name)
    )

    def draw(some: Images, classes: Labels) -> Maps:
        found = method.attribute(some, target=classes, relu_attributions=relu)
        return F.interpolate(found, images.shape[2:], mode="bilinear")[:, 0]

    return maps_in_chunks(images, targets, chunk_size, draw)


def chosen_layer(
    classifier: FrozenClassifier,
    image: Images,
    layer: str | None,
    candidates: Sequence[str],
    method: str,
) -> str:
    """Name of a layer with height and width that the logits depend on.

    Args:
        classifier: Whose layer it is.
        image: One that the classifier takes.
        layer: As the user gave it; none is the last candidate that runs and has more than one
            place.
        candidates: Names of layers.
        method: As the user knows it.

    Raises:
        InputError: If there is no such layer.
    """
    network = classifier.network
    if layer is not None:
        check_layer(network, layer, "layer")
    names = candidates if layer is None else [layer]
    with torch.enable_grad(), recorded(network, names) as outputs:
        logits = classifier(image.detach().clone().requires_grad_(True))
    if layer is None:
        return _last_spatial(outputs, method)
    output = outputs.get(layer)
    if not isinstance(output, Tensor) or output.ndim != 4:
        shape = "none" if not isinstance(output, Tensor) else str(tuple(output.shape[1:]))
        raise InputError(
            f"layer must name one whose output has channels, height and width for method={method}, "
            f"got '{layer}' with {shape}; give a convolution"
        )
    if not output.requires_grad or _gradient(logits, output) is None:
        raise InputError(
            f"layer must name one that the logits depend on for method={method}, got '{layer}'; "
            "give another"
        )
    return layer


def _last_spatial(outputs: dict[str, Tensor], method: str) -> str:
    spatial = [
        name
        for name, output in outputs.items()
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2:].numel() > 1
    ]
    if not spatial:
        raise InputError(
            f"method={method} needs a layer with more than one row or column, got a network "
            "without; use occlusion or saliency"
        )
    return spatial[-1]


def _gradient(logits: Tensor, output: Tensor) -> Tensor | None:
    return torch.autograd.grad(logits.sum(), output, allow_unused=True)[0]

"""Perceptual distances of image pairs, one figure a pair, each with its name."""

from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.types import Images

KINDS = ("classifier", "lpips")


@runtime_checkable
class Distance(Protocol):
    """Tells how unlike two images look."""

    @property
    def name(self) -> str:
        """As people read it, with the network."""
        ...

    def __call__(self, before: Images, after: Images) -> Float[Tensor, " b"]:
        """Distance of every pair, at least 0."""
        ...


class ClassifierDistance:
    """Distance of the explained classifier's feature layers: LPIPS's form without its weights.

    Features get length 1 over channels; their squared differences are averaged over places and
    summed over layers. Source: Zhang et al. 2018 (arXiv:1801.03924), eq. 1, all weights 1.
    """

    name = "Feature distance (explained classifier, uncalibrated)"

    def __init__(self, classifier: FrozenClassifier) -> None:
        """Takes the classifier.

        Raises:
            InputError: If it has no feature layers.
        """
        if not classifier.feature_layers:
            raise InputError(
                "the classifier's feature distance needs classifier.feature_layers, got an empty "
                "list; name some layers, or take lpips or null"
            )
        self.classifier = classifier

    def __call__(self, before: Images, after: Images) -> Float[Tensor, " b"]:
        """Distance of every pair."""
        pairs = zip(
            self.classifier.features(before)[1], self.classifier.features(after)[1], strict=True
        )
        layers = [
            (F.normalize(a, dim=1, eps=1e-8) - F.normalize(b, dim=1, eps=1e-8))
            .square()
            .sum(dim=1)
            .flatten(1)
            .mean(dim=1)
            for a, b in pairs
        ]
        return torch.stack(layers).sum(dim=0)


class Lpips:
    """LPIPS with AlexNet, calibrated; torchvision's weights must be on disk."""

    name = "LPIPS (AlexNet)"

    def __init__(self) -> None:
        """Loads the network.

        Raises:
            InputError: If AlexNet's weights would have to be downloaded.
        """
        cached = Path(torch.hub.get_dir()) / "checkpoints"
        if not list(cached.glob("alexnet-owt-*.pth")):
            raise InputError(
                "lpips needs torchvision's AlexNet weights on disk, got no alexnet-owt-*.pth in "
                f"'{cached}'; put the file there or take the classifier's feature distance"
            )
        from torchmetrics.functional.image.lpips import _LPIPS

        self.network: nn.Module = _LPIPS(pretrained=True, net="alex").eval().requires_grad_(False)

    def __call__(self, before: Images, after: Images) -> Float[Tensor, " b"]:
        """Distance of every pair."""
        network = self.network.to(before.device)
        colour = (x.expand(-1, 3, -1, -1) for x in (before, after))
        return network(*colour).flatten()


def build_distance(kind: str | None, classifier: FrozenClassifier) -> Distance | None:
    """The distance in use, if any.

    Args:
        kind: `classifier` or `lpips`, as training calls them; none gives none.
        classifier: The explained one.

    Raises:
        InputError: If the kind is unknown or its network is not to be had.
    """
    if kind is None:
        return None
    if kind not in KINDS:
        raise InputError(f"distance must be {', '.join(KINDS)} or null, got '{kind}'")
    return ClassifierDistance(classifier) if kind == "classifier" else Lpips()

"""Classifiers whose maps are known by hand."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stylex.classifier.frozen import Adapter, FrozenClassifier

SIDE = 8


def frozen(
    network: nn.Module, *, classes: int = 3, channels: int = 3, side: int = SIDE
) -> FrozenClassifier:
    """Takes images as they are."""
    adapter = Adapter(
        input_resolution_px=side,
        input_channels=channels,
        input_range=(-1, 1),
        mean=(0,),
        std=(1,),
    )
    return FrozenClassifier(network, adapter, [f"class {k}" for k in range(classes)], ())


def linear() -> FrozenClassifier:
    """Logits are weights times pixels."""
    return frozen(nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 3)))


def convolutional(rectifier: nn.Module | None = None) -> FrozenClassifier:
    """Two convolutions; the rectifier is one module, used twice."""
    shared = nn.ReLU() if rectifier is None else rectifier
    parts: Sequence[nn.Module] = (
        *(nn.Conv2d(3, 6, 3, padding=1), shared, nn.Conv2d(6, 5, 3, stride=2), shared),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3)),
    )
    return frozen(nn.Sequential(*parts))


def pictures(count: int, seed: int = 0) -> Tensor:
    """Images in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, 3, SIDE, SIDE, generator=generator) * 2 - 1


class CornerRule(nn.Module):
    """The second class is told by the brightness of one pixel."""

    def forward(self, images: Tensor) -> Tensor:
        score = 4 * images[:, :, 2, 5].mean(dim=1)
        return torch.stack((-score, score), dim=1)

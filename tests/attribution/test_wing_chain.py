"""Layers by their share of a network's depth."""

import pytest
import torch
from torch import nn
from torchvision.models import resnet18

from stylex.attribution.layers import chain, chosen_layers, filter_layers
from stylex.classifier.efficientnet import EfficientNetLite0
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError


def test_the_links_of_known_networks_are_their_blocks() -> None:
    images = torch.zeros(1, 3, 64, 64)
    lite = chain(EfficientNetLite0(2, 0.0).eval(), images)
    assert lite == ["stem", *(f"blocks.{i}" for i in range(16)), "head"]
    residual = chain(resnet18(num_classes=2).eval(), images)
    assert residual[-2:] == ["layer4.0", "layer4.1"]
    assert "layer1" not in residual


def test_layers_whose_channels_come_last_are_no_filters() -> None:
    from torchvision.models import swin_t

    images = torch.zeros(1, 3, 64, 64)
    network = swin_t(num_classes=2).eval()
    assert all(
        output.shape[2] == output.shape[3] for output in filter_layers(network, images).values()
    )


def test_shares_are_places_in_the_chain_and_names_stay() -> None:
    layers = [nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3), nn.AdaptiveAvgPool2d(1)]
    network = nn.Sequential(*layers, nn.Flatten())
    adapter = Adapter(
        input_resolution_px=16, input_channels=3, input_range=(-1, 1), mean=[0], std=[1]
    )
    classifier = FrozenClassifier(network, adapter, ("a", "b"), [])
    images = torch.zeros(1, 3, 16, 16)
    assert chosen_layers(classifier, images, [0, 0.5, 1.0, "1"], "layers") == ["0", "1", "2"]
    with pytest.raises(InputError, match=r"share of the network's depth in \[0, 1\], got 2"):
        chosen_layers(classifier, images, [2], "layers")


def test_a_network_without_places_is_refused() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    with pytest.raises(InputError, match="needs a network with convolutions"):
        chain(network, torch.zeros(1, 3, 2, 2))

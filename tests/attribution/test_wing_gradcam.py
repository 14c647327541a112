"""Grad-CAM by hand, and the layers that it can and cannot be of."""

import pytest
import torch
import torch.nn.functional as F
from tiny import SIDE, convolutional, frozen, linear, pictures
from torch import Tensor, nn

from stylex.attribution.gradcam import gradcam
from stylex.errors import InputError

TARGETS = torch.tensor([2, 0, 1])


@pytest.mark.parametrize("relu", [True, False])
def test_grad_cam_is_the_sum_of_channels_weighted_by_their_mean_gradients(relu: bool) -> None:
    classifier, images = convolutional(), pictures(3)
    features = classifier.network[:3](images)
    last = features.detach().requires_grad_(True)
    logits = classifier.network[3:](last)
    slope = torch.autograd.grad(logits.gather(1, TARGETS[:, None]).sum(), last)[0]
    expected = (slope.mean(dim=(2, 3), keepdim=True) * last).sum(dim=1, keepdim=True)
    expected = expected.relu() if relu else expected
    grown = F.interpolate(expected, (SIDE, SIDE), mode="bilinear")[:, 0].detach()
    found = gradcam(classifier, images, TARGETS, layer="2", relu=relu, chunk_size=2)
    torch.testing.assert_close(found, grown)
    assert found.abs().max() > 0


def test_the_default_is_the_last_layer_that_has_more_than_one_place() -> None:
    classifier, images = convolutional(), pictures(3)
    # The rectifier, 1 and 3, is one module; what follows it has a single place.
    classifier.network[3] = nn.ReLU()
    default = gradcam(classifier, images, TARGETS, layer=None, relu=False, chunk_size=3)
    last = gradcam(classifier, images, TARGETS, layer="3", relu=False, chunk_size=3)
    assert torch.equal(default, last)
    before = gradcam(classifier, images, TARGETS, layer="2", relu=False, chunk_size=3)
    assert not torch.allclose(default, before)


class Idle(nn.Module):
    """Has a layer that runs for nothing, and one that never runs."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.wasted, self.idle = (nn.Conv2d(3, 3, 3) for _ in range(3))

    def forward(self, images: Tensor) -> Tensor:
        self.wasted(images)
        return self.used(images).mean(dim=(2, 3))


def test_what_has_no_convolution_or_no_place_is_refused() -> None:
    images, targets = pictures(1), TARGETS[:1]
    for classifier, layer, message in (
        (linear(), None, "needs a classifier with convolutions, got none in Sequential"),
        (convolutional(), "7", r"layer must name a layer of the network \(0, 1, 2, 4"),
        (convolutional(), "6", r"method=gradcam, got '6' with \(3,\)"),
        (frozen(Idle()), "idle", "method=gradcam, got 'idle' with none"),
        (frozen(Idle()), "wasted", "that the logits depend on for method=gradcam, got 'wasted'"),
        (
            frozen(nn.Sequential(nn.Conv2d(3, 3, SIDE), nn.Flatten())),
            None,
            "method=gradcam needs a layer with more than one row or column",
        ),
    ):
        with pytest.raises(InputError, match=message):
            gradcam(classifier, images, targets, layer=layer, relu=True, chunk_size=1)


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_torchscript_is_refused() -> None:
    traced = torch.jit.trace(convolutional().network, pictures(1))
    with pytest.raises(InputError, match="method=gradcam needs a network whose layers can be read"):
        gradcam(frozen(traced), pictures(1), TARGETS[:1], layer=None, relu=True, chunk_size=1)

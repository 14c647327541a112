"""Maps of gradients: closed forms, hand-written rules, and nothing left behind."""

import gc
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from tiny import SIDE, convolutional, frozen, linear, pictures
from torch import Tensor, nn

from stylex.attribution.gradcam import gradcam
from stylex.attribution.gradients import guided_backprop, guided_neuron, saliency, smoothgrad
from stylex.attribution.occlusion import occlusion
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError

TARGETS = torch.tensor([2, 0, 1, 1, 2])
NEURON: dict[str, Any] = {"channel": None, "row": None, "column": None}
SMOOTH: dict[str, Any] = {"num_samples": 20, "noise": 0.1, "form": "mean", "seed": 0}
METHODS: dict[str, Callable[..., Tensor]] = {
    "saliency": lambda *a, **k: saliency(*a, signed=False, **k),
    "smoothgrad": lambda *a, **k: smoothgrad(*a, **SMOOTH, **k),
    "guided_backprop": lambda *a, **k: guided_backprop(*a, signed=True, **k),
    "guided_neuron": lambda *a, **k: guided_neuron(*a, layer=None, **NEURON, signed=True, **k),
    "occlusion": lambda *a, **k: occlusion(*a, patch_px=3, stride_px=2, fill="blur", **k),
    "gradcam": lambda *a, **k: gradcam(*a, layer=None, relu=False, **k),
}


def test_saliency_of_a_linear_classifier_is_its_weights() -> None:
    classifier = linear()
    weights = classifier.network[1].weight[TARGETS].view(5, 3, SIDE, SIDE)
    plain = saliency(classifier, pictures(5), TARGETS, signed=False, chunk_size=2)
    signed = saliency(classifier, pictures(5), TARGETS, signed=True, chunk_size=2)
    torch.testing.assert_close(plain, weights.abs().amax(dim=1))
    torch.testing.assert_close(signed, weights.sum(dim=1))


def test_smoothgrad_without_noise_is_saliency() -> None:
    classifier, images = convolutional(), pictures(5)
    given = {**SMOOTH, "noise": 0.0}
    found = smoothgrad(classifier, images, TARGETS, **given, chunk_size=7)
    torch.testing.assert_close(
        found, saliency(classifier, images, TARGETS, signed=False, chunk_size=5)
    )


def test_the_noise_of_smoothgrad_is_a_share_of_the_range() -> None:
    # The gradient of x² is 2x, so over copies it varies by 4 times the variance of the noise.
    class Square(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            total = images.square().sum(dim=(1, 2, 3))
            return torch.stack((total, -total), dim=1)

    given = {**SMOOTH, "num_samples": 400, "form": "variance"}
    images = pictures(1)
    classifier = frozen(Square(), classes=2)
    found = smoothgrad(classifier, images, TARGETS[1:2], **given, chunk_size=16)
    lower = 4 * (2 * 0.1) ** 2
    # The largest of three channels lies above the mean, by a tenth or so.
    assert lower < float(found.mean()) < 1.2 * lower
    squared = smoothgrad(
        classifier, images, TARGETS[1:2], **{**given, "form": "squared"}, chunk_size=16
    )
    assert (squared >= found - 1e-6).all()


def test_another_seed_draws_other_noise_and_the_global_state_stays() -> None:
    classifier, images = convolutional(), pictures(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two, again = (
        smoothgrad(classifier, images, TARGETS[:2], **{**SMOOTH, "seed": s}, chunk_size=4)
        for s in (0, 1, 0)
    )
    assert torch.equal(torch.rand(3), expected)
    assert torch.equal(one, again)
    assert not torch.allclose(one, two)


@pytest.mark.parametrize("name", METHODS)
def test_maps_do_not_hang_on_chunks_or_on_the_other_images(name: str) -> None:
    classifier, images, method = convolutional(), pictures(5), METHODS[name]
    together = method(classifier, images, TARGETS, chunk_size=16)
    assert together.shape == (5, SIDE, SIDE)
    assert not together.requires_grad
    assert together.abs().amax(dim=(1, 2)).min() > 0
    torch.testing.assert_close(method(classifier, images, TARGETS, chunk_size=2), together)
    alone = method(classifier, images[3:4], TARGETS[3:4], chunk_size=3)
    torch.testing.assert_close(alone, together[3:4])


@pytest.mark.parametrize("name", METHODS)
def test_no_images_give_no_maps(name: str) -> None:
    found = METHODS[name](convolutional(), pictures(0), TARGETS[:0], chunk_size=2)
    assert found.shape == (0, SIDE, SIDE)


def state(classifier: FrozenClassifier) -> list[Any]:
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks)
        for m in classifier.modules()
    ]
    modes = [m.training for m in classifier.modules()]
    gradients = [(p.requires_grad, p.grad) for p in classifier.parameters()]
    return [hooks, modes, gradients, [type(m) for m in classifier.modules()]]


class Breaking(nn.Module):
    """Fails from the n-th call on."""

    def __init__(self, calls: int) -> None:
        super().__init__()
        self.calls = calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        if self.calls < 0:
            raise ZeroDivisionError
        return x


@pytest.mark.parametrize("calls", [0, 1, 2, 1000])
@pytest.mark.parametrize("name", METHODS)
def test_hooks_modes_and_gradients_are_as_before_even_after_an_error(name: str, calls: int) -> None:
    classifier, images = convolutional(), pictures(5)
    classifier.network.append(Breaking(calls))
    before = state(classifier)
    images.requires_grad_(True)
    try:
        METHODS[name](classifier, images, TARGETS, chunk_size=2)
    except ZeroDivisionError:
        assert calls < 1000
    else:
        assert calls > 0
    assert state(classifier) == before
    assert images.requires_grad
    assert images.grad is None


def test_memory_is_flat_over_many_calls() -> None:
    classifier, images, methods = convolutional(), pictures(1), list(METHODS.values())

    def objects(calls: int) -> int:
        for i in range(calls):
            methods[i % len(methods)](classifier, images, TARGETS[:1], chunk_size=16)
        gc.collect()
        return len(gc.get_objects())

    before = objects(12)
    # A hook that stays is one object or more, in 33 calls of each method.
    assert objects(200) < before + 25


def guided_by_hand(
    convolutions: list[nn.Conv2d], head: Tensor, x: Tensor, high: float, low_slope: float
) -> Tensor:
    """Two layers, one rectifier shared: gradients pass at its slope, and only above 0."""
    one = convolutions[0](x)
    two = convolutions[1](F.leaky_relu(one, low_slope).clamp(max=high))

    def slope(z: Tensor) -> Tensor:
        return torch.where(z > 0, (z < high).to(z), low_slope)

    places = two.shape[2] * two.shape[3]
    back = head[:, :, None, None].expand_as(two) / places
    back = (back * slope(two)).clamp(min=0)
    back = F.conv_transpose2d(back, convolutions[1].weight, stride=2)
    back = F.pad(back, (0, one.shape[3] - back.shape[3], 0, one.shape[2] - back.shape[2]))
    back = (back * slope(one)).clamp(min=0)
    return F.conv_transpose2d(back, convolutions[0].weight, padding=1)


@pytest.mark.parametrize(
    ("rectifier", "high", "low_slope"),
    [
        (nn.ReLU(), torch.inf, 0.0),
        (nn.ReLU(inplace=True), torch.inf, 0.0),
        (nn.ReLU6(), 6.0, 0.0),
        (nn.ReLU6(inplace=True), 6.0, 0.0),
        (nn.LeakyReLU(0.2), torch.inf, 0.2),
        (nn.PReLU(init=0.3), torch.inf, 0.3),
    ],
    ids=lambda v: type(v).__name__,
)
def test_guided_backpropagation_is_that_by_hand(
    rectifier: nn.Module, high: float, low_slope: float
) -> None:
    classifier = convolutional(rectifier).double()
    with torch.no_grad():
        classifier.network[0].weight.mul_(8)  # so that some outputs exceed 6
    images = pictures(5).double()
    layers = [classifier.network[0], classifier.network[2]]
    head = classifier.network[6].weight[TARGETS]
    expected = guided_by_hand(layers, head, images, high, low_slope).sum(dim=1)
    found = guided_backprop(classifier, images, TARGETS, signed=True, chunk_size=2)
    torch.testing.assert_close(found, expected)
    plain = saliency(classifier, images, TARGETS, signed=True, chunk_size=5)
    assert not torch.allclose(found, plain)


def test_a_rectifier_whose_input_branches_cuts_only_its_own_gradient() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.rectifier = nn.ReLU()

        def forward(self, images: Tensor) -> Tensor:
            x = images * 1.0
            total = (self.rectifier(x) - 3 * x).sum(dim=(1, 2, 3))
            return torch.stack((total, -total), dim=1)

    images = pictures(2)
    found = guided_backprop(
        frozen(Residual(), classes=2), images, TARGETS[1:3] * 0, signed=True, chunk_size=2
    )
    torch.testing.assert_close(found, ((images > 0).float() - 3).sum(dim=1))


def test_a_neuron_is_guided_to_what_it_sees() -> None:
    classifier, images = convolutional(), pictures(2)
    given = {"channel": 4, "row": 3, "column": 2, "signed": True, "chunk_size": 2}
    found = guided_neuron(classifier, images, TARGETS[:2], layer="0", **given)
    weight = classifier.network[0].weight[4].sum(dim=0)
    expected = torch.zeros(2, SIDE, SIDE)
    expected[:, 2:5, 1:4] = weight
    torch.testing.assert_close(found, expected)


def test_without_a_place_the_strongest_neuron_of_each_image_is_taken() -> None:
    classifier, images = convolutional(), pictures(4)
    outputs = classifier.network[0](images)
    found = guided_neuron(
        classifier, images, TARGETS[:4], layer="0", **NEURON, signed=True, chunk_size=3
    )
    for i in range(4):
        place = int(outputs[i].argmax())
        channel, row, column = (int(v) for v in torch.unravel_index(torch.tensor(place), (6, 8, 8)))
        given = {"channel": channel, "row": row, "column": column}
        one = guided_neuron(
            classifier,
            images[i : i + 1],
            TARGETS[:1],
            layer="0",
            **given,
            signed=True,
            chunk_size=1,
        )
        torch.testing.assert_close(found[i : i + 1], one)


class Functional(nn.Module):
    """One rectifier is a module, one a function."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.rectifier = nn.Conv2d(3, 3, 3), nn.ReLU()

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.layer(self.rectifier(images))).mean(dim=(2, 3))


@pytest.mark.parametrize(
    ("classifier", "message"),
    [
        (linear(), "needs a network with rectifier modules such as nn.ReLU, got none in Sequ"),
        (convolutional(nn.SiLU()), "that never fall, as ReLU, got SiLU in layer '1'"),
        (convolutional(nn.PReLU(init=-0.1)), "that never fall, as ReLU, got PReLU"),
        (convolutional(nn.LeakyReLU(-0.1)), "got LeakyReLU"),
        (convolutional(nn.Threshold(0.0, 1.0)), "got Threshold"),
        (frozen(Functional()), "to be a module such as nn.ReLU, got relu called as a function"),
    ],
)
def test_what_guided_backpropagation_cannot_mean_is_refused(
    classifier: FrozenClassifier, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        guided_backprop(classifier, pictures(1), TARGETS[:1], signed=True, chunk_size=1)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layer": "nowhere"}, r"layer must name a layer of the network \(0, 1, 2"),
        ({"layer": "6"}, r"channels, height and width for method=guided_neuron, got '6' with \(3,"),
        ({"layer": "0", "channel": 6}, "channel must be from 0 to 5 in this layer, got 6"),
        ({"layer": "0", "row": 2, "column": 8}, "column must be from 0 to 7 in this layer, got 8"),
        ({"layer": "0", "row": 2}, "row and column must be given together, got 2 and None"),
    ],
)
def test_a_neuron_that_is_not_there_is_refused(given: dict[str, Any], message: str) -> None:
    chosen = {**NEURON, **given, "signed": True, "chunk_size": 1}
    with pytest.raises(InputError, match=message):
        guided_neuron(convolutional(), pictures(1), TARGETS[:1], **chosen)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"num_samples": 0}, "num_samples of at least 1 and noise of at least 0, got 0 and 0.1"),
        ({"noise": -1.0}, "got 20 and -1.0"),
        ({"form": "median"}, "form must be one of mean, squared, variance, got 'median'"),
        ({"chunk_size": 0}, "chunk_size must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(given: dict[str, Any], message: str) -> None:
    chosen = {**SMOOTH, "chunk_size": 1, **given}
    with pytest.raises(InputError, match=message):
        smoothgrad(linear(), pictures(1), TARGETS[:1], **chosen)


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "captum.attr", None)
    with pytest.raises(InputError, match=r"package captum, got none; pip install 'stylex\[attrib"):
        saliency(linear(), pictures(1), TARGETS[:1], signed=True, chunk_size=1)

"""MobileNet V1, against Keras' definition written out in float64."""

import math

import pytest
import released
import torch
from released import Arrays, Variables, random_arrays

from stylex.classifier.frozen import build_classifier
from stylex.classifier.mobilenet import MobileNetV1, Unit, mobilenet_table
from stylex.errors import InputError
from stylex.types import Images
from stylex.variables import convert_variables


@pytest.fixture
def arrays() -> Arrays:
    return random_arrays(released.mobilenet_shapes(), seed=4)


@pytest.fixture
def images() -> Images:
    return torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(5)) * 2 - 1


def filled(arrays: Arrays, relu_max: float = 6.0, clamp_input: bool = True) -> MobileNetV1:
    network = MobileNetV1(2, dropout=0.2, relu_max=relu_max, clamp_input=clamp_input)
    network.load_state_dict(convert_variables(arrays, "mobilenet", mobilenet_table(), network))
    return network.eval().requires_grad_(False)


@pytest.mark.parametrize("relu_max", [6.0, math.inf])
def test_logits_are_those_of_keras(arrays: Arrays, images: Images, relu_max: float) -> None:
    variables = Variables(arrays, "mobilenet")
    expected = released.mobilenet(variables, images.double(), relu_max)

    found = filled(arrays, relu_max)(images)

    assert expected.std() > 0.05
    torch.testing.assert_close(found.double(), expected, atol=1e-4, rtol=1e-5)


def test_the_limit_of_the_activations_matters_in_these_tests(
    arrays: Arrays, images: Images
) -> None:
    assert (filled(arrays)(images) - filled(arrays, math.inf)(images)).abs().max() > 0.1


@pytest.mark.parametrize(("stride", "padding"), [(1, (1, 1, 1, 1)), (2, (0, 1, 0, 1))])
def test_a_stride_of_2_pads_below_and_on_the_right_alone(
    stride: int, padding: tuple[int, ...]
) -> None:
    unit = Unit(2, 2, 3, stride=stride, groups=2, relu_max=6.0)

    assert unit.padding == padding
    assert unit(torch.zeros(1, 2, 8, 8)).shape == (1, 2, 8 // stride, 8 // stride)


def test_it_has_the_parameters_of_the_published_network() -> None:
    """3,228,864 without the last layer is Keras' own count."""
    with torch.device("meta"):
        network = MobileNetV1(1000, dropout=0.2, relu_max=6.0, clamp_input=False)

    total = sum(v.numel() for k, v in network.state_dict().items() if "num_batches" not in k)
    assert total == 3_228_864 + 1024 * 1000 + 1000


def test_what_lies_outside_the_images_range_is_cut_off_if_so_built(
    arrays: Arrays, images: Images
) -> None:
    wild = 1.5 * images
    cutting, plain = filled(arrays), filled(arrays, clamp_input=False)

    assert torch.equal(cutting(wild), plain(wild.clamp(-1, 1)))
    assert torch.equal(cutting(images), plain(images))
    assert (plain(wild) - cutting(wild)).abs().max() > 0.01


def test_every_variable_becomes_one_parameter(arrays: Arrays) -> None:
    network = MobileNetV1(2, dropout=0.2, relu_max=6.0, clamp_input=True)
    table = mobilenet_table()

    assert {f"mobilenet/{entry.variable}" for entry in table.values()} == arrays.keys()
    assert table.keys() == {k for k in network.state_dict() if "num_batches" not in k}


def test_two_classes_are_asked_for_and_others_refused(arrays: Arrays) -> None:
    arrays["mobilenet/conv_preds/kernel"] = arrays["mobilenet/conv_preds/kernel"][..., :1]

    with pytest.raises(InputError, match=r"makes head\.weight \(2, 1024\), got \(1, 1, 1024, 1\)"):
        filled(arrays)


def test_it_is_named_in_a_configuration_as_any_other_network(images: Images) -> None:
    spec = {
        "network": "stylex.classifier.mobilenet:MobileNetV1",
        "arguments": {
            "num_classes": None,
            "dropout": 0.2,
            "relu_max": 6.0,
            "clamp_input": False,
        },
        "weights": None,
        "input_resolution_px": 32,
        "input_channels": 3,
        "input_range": [-1, 1],
        "mean": [0],
        "std": [1],
        "feature_layers": ["blocks.5"],
    }

    logits, (features,) = build_classifier(spec, ["a", "b", "c"]).features(images)

    assert logits.shape == (4, 3)
    assert features.shape == (4, 512, 2, 2)

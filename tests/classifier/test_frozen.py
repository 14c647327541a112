"""The classifier's contract: what goes in, what comes out, what can be got wrong."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.artifacts import write_tensors
from stylex.classifier.frozen import (
    Adapter,
    FrozenClassifier,
    build_adapter,
    build_classifier,
    build_network,
    judged,
    load_weights,
)
from stylex.errors import InputError
from stylex.types import Images

# TorchScript files are read for those who have some; torch itself calls the format deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")


def adapter(**changes: object) -> Adapter:
    declared = {
        "input_resolution_px": 8,
        "input_channels": 1,
        "input_range": [-1.0, 1.0],
        "mean": [0.0],
        "std": [1.0],
    }
    return Adapter(**{**declared, **changes})


def network(num_outputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()).append(
        nn.Linear(4 * 36, num_outputs)
    )


def classifier(
    net: nn.Module | None = None, names: tuple[str, ...] = ("a", "b", "c"), **declared: object
) -> FrozenClassifier:
    return FrozenClassifier(net or network(len(names)), adapter(**declared), names, [])


def images(count: int = 4, channels: int = 1, side: int = 8) -> Images:
    return torch.rand(count, channels, side, side) * 2 - 1


class OneLogit(nn.Module):
    """Says z for an image whose mean is z; the output is [b] or [b 1]."""

    def __init__(self, keep_axis: bool) -> None:
        super().__init__()
        self.keep_axis = keep_axis

    def forward(self, x: Tensor) -> Tensor:
        """Returns one number per image."""
        return x.mean(dim=(1, 2, 3))[:, None] if self.keep_axis else x.mean(dim=(1, 2, 3))


# Frozen ------------------------------------------------------------------------------------------


def test_a_frozen_classifier_stays_in_eval_mode_whatever_is_asked_for() -> None:
    net = network().train()

    frozen = classifier(net)
    frozen.train()
    nn.Sequential(frozen).train()

    assert not any(module.training for module in frozen.modules())
    before = net[1].running_mean.clone()
    frozen(images())
    assert torch.equal(net[1].running_mean, before)


def test_a_frozen_classifier_has_no_gradients_but_passes_them_on_to_images() -> None:
    frozen, x = classifier(), images().requires_grad_()

    frozen(x).square().sum().backward()

    assert all(not p.requires_grad and p.grad is None for p in frozen.parameters())
    assert float(x.grad.abs().max()) > 0


# Logits ------------------------------------------------------------------------------------------


def test_logits_of_many_classes_are_the_networks_own_on_adapted_images() -> None:
    net, x = network(), images()
    frozen = classifier(net, mean=[0.2], std=[0.5])

    expected = net.eval()((x - 0.2) / 0.5)

    torch.testing.assert_close(frozen(x), expected)
    probabilities = expected.exp() / expected.exp().sum(dim=1, keepdim=True)
    torch.testing.assert_close(frozen.probabilities(x), probabilities)
    assert frozen.num_classes == 3


@pytest.mark.parametrize("keep_axis", [False, True])
def test_one_logit_becomes_two_whose_softmax_is_its_sigmoid(keep_axis: bool) -> None:
    frozen, x = classifier(OneLogit(keep_axis), ("no", "yes")), images()
    z = x.mean(dim=(1, 2, 3))

    torch.testing.assert_close(frozen(x), torch.stack((-z / 2, z / 2), dim=1))
    torch.testing.assert_close(frozen.probabilities(x)[:, 1], 1 / (1 + (-z).exp()))


@pytest.mark.parametrize("k", [0, 1])
def test_either_logit_of_the_one_logit_case_can_be_moved_by_the_image(k: int) -> None:
    frozen, x = classifier(OneLogit(True), ("no", "yes")), images().requires_grad_()

    (gradient,) = torch.autograd.grad(frozen(x)[:, k].sum(), x)

    torch.testing.assert_close(gradient, torch.full_like(x, (1 if k else -1) / 2 / 64))


@pytest.mark.parametrize(
    ("net", "names", "shape"),
    [
        (network(4), ("a", "b", "c"), r"\(4, 4\)"),
        (network(1), ("a", "b", "c"), r"\(4, 1\)"),
        (OneLogit(False), ("a", "b", "c"), r"\(4, 1\)"),
        (nn.Identity(), ("a",), r"\(4, 1, 8, 8\)"),
    ],
)
def test_an_output_that_does_not_fit_the_class_names_is_refused(
    net: nn.Module, names: tuple[str, ...], shape: str
) -> None:
    with pytest.raises(InputError, match=rf"one logit per class \({len(names)}: .*shape {shape}"):
        classifier(net, names)(images())


# Adapter -----------------------------------------------------------------------------------------


def test_images_in_minus_one_to_one_are_brought_to_the_declared_range_then_normalised() -> None:
    adapt = adapter(
        input_channels=3, input_range=[0.0, 255.0], mean=[1.0, 2.0, 3.0], std=[10.0, 20.0, 30.0]
    )
    x = images(2, 3)

    found = adapt(x)

    for c in range(3):
        expected = ((x[:, c] + 1) / 2 * 255 - (c + 1)) / (10 * (c + 1))
        torch.testing.assert_close(found[:, c], expected)


def test_black_and_white_reach_the_ends_of_the_declared_range() -> None:
    adapt = adapter(input_range=[-0.5, 2.0])
    black, white = -torch.ones(1, 1, 8, 8), torch.ones(1, 1, 8, 8)

    assert float(adapt(black).unique()) == -0.5
    assert float(adapt(white).unique()) == 2.0


def test_one_mean_and_deviation_hold_for_all_channels() -> None:
    x = images(2, 3)

    found = adapter(input_channels=3, mean=[0.25], std=[0.5])(x)

    torch.testing.assert_close(found, (x - 0.25) / 0.5)


def test_one_channel_is_repeated_and_three_are_averaged_to_what_the_network_takes() -> None:
    grey, colour = images(2, 1), images(2, 3)

    torch.testing.assert_close(adapter(input_channels=3)(grey), torch.cat([grey] * 3, dim=1))
    mean = (colour[:, :1] + colour[:, 1:2] + colour[:, 2:]) / 3
    torch.testing.assert_close(adapter(input_channels=1)(colour), mean)
    assert torch.equal(adapter(input_channels=3)(colour), colour)


@pytest.mark.parametrize("side", [4, 16])
def test_images_are_resized_to_the_declared_resolution_and_a_constant_stays_one(side: int) -> None:
    found = adapter()(torch.full((2, 1, side, side), 0.3))

    torch.testing.assert_close(found, torch.full((2, 1, 8, 8), 0.3))


def test_enlarging_is_bilinear() -> None:
    ramp = (torch.arange(4) + 0.5).expand(1, 1, 4, 4) / 4

    found = adapter()(ramp)

    centres = (torch.arange(8) + 0.5) / 8
    expected = centres.clamp(0.125, 0.875).expand(1, 1, 8, 8)  # the border pixel goes on outside
    torch.testing.assert_close(found, expected)


def test_a_network_that_takes_what_we_have_gets_it_unchanged() -> None:
    x = images()

    torch.testing.assert_close(adapter()(x), x)


def test_the_adapter_passes_gradients_on() -> None:
    x = images(1, 3, 16).requires_grad_()

    adapter(mean=[0.5], std=[0.5])(x).sum().backward()

    assert int((x.grad == 0).sum()) == 0


def test_whole_numbers_declare_as_well_as_fractions() -> None:
    x = images()

    found = adapter(input_range=[0, 255], mean=[0], std=[1])(x)

    torch.testing.assert_close(found, adapter(input_range=[0.0, 255.0])(x))


@pytest.mark.parametrize("bounds", [[1.0, 0.0], [1.0, 1.0]])
def test_a_range_that_does_not_rise_is_refused(bounds: list[float]) -> None:
    with pytest.raises(InputError, match=r"input_range must be \(low, high\), got \(1.0, "):
        adapter(input_range=bounds)


@pytest.mark.parametrize("name", ["mean", "std"])
def test_as_many_values_as_channels_or_one_are_taken(name: str) -> None:
    with pytest.raises(InputError, match=rf"classifier.{name} must have .* channel \(3\), got 2"):
        adapter(input_channels=3, **{name: [0.5, 0.5]})


def test_a_configurations_declaration_builds_the_adapter(tiny_config: dict[str, Any]) -> None:
    spec = {**tiny_config["classifier"], "input_range": [0.0, 1.0], "mean": [0.5], "std": [0.25]}
    x = images(2, 1, 16)

    torch.testing.assert_close(build_adapter(spec)(x), ((x + 1) / 2 - 0.5) / 0.25)


# Features ----------------------------------------------------------------------------------------


def test_features_are_the_named_layers_outputs_in_the_order_of_their_names() -> None:
    net, x = network(), images()
    frozen = FrozenClassifier(net, adapter(), ("a", "b", "c"), ["2", "0"])

    logits, features = frozen.features(x)

    torch.testing.assert_close(logits, net(x))
    torch.testing.assert_close(features[0], net[2](net[1](net[0](x))))
    torch.testing.assert_close(features[1], net[0](x))
    assert len(features) == 2


def test_a_layer_may_lie_inside_another() -> None:
    inner = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    frozen = FrozenClassifier(nn.Sequential(inner), adapter(), ("a", "b", "c"), ["0.0"])
    x = images()

    assert torch.equal(frozen.features(x)[1][0], x.flatten(1))


def test_features_leave_no_hook_behind_even_when_the_network_fails() -> None:
    net = network()
    frozen = FrozenClassifier(net, adapter(), ("a", "b", "c"), ["0"])
    frozen.features(images())
    assert not net[0]._forward_hooks

    net[4] = nn.Linear(7, 3)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        frozen.features(images())

    assert not net[0]._forward_hooks


def test_features_keep_the_graph_to_the_images() -> None:
    frozen = FrozenClassifier(network(), adapter(), ("a", "b", "c"), ["0"])
    x = images().requires_grad_()

    frozen.features(x)[1][0].sum().backward()

    assert float(x.grad.abs().max()) > 0


def test_a_feature_layer_that_the_network_lacks_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(InputError, match=r"got 'stage9'; its top-level ones are 0, 1, 2, 3, 4"):
        FrozenClassifier(network(), adapter(), ("a", "b", "c"), ["0", "stage9"])


# Fingerprint -------------------------------------------------------------------------------------


def test_equal_classifiers_have_equal_fingerprints_and_running_one_changes_nothing() -> None:
    first, second = classifier(network()), classifier(network())
    assert first.fingerprint() != second.fingerprint()

    second.network.load_state_dict(first.network.state_dict())
    second(images())

    assert first.fingerprint() == second.fingerprint()


def test_a_fingerprint_changes_with_one_weight_or_buffer() -> None:
    frozen = classifier()
    seen = {frozen.fingerprint()}

    with torch.no_grad():
        for tensor in (frozen.network[0].weight, frozen.network[1].running_mean):
            tensor.view(-1)[0] += 1e-6
            seen.add(frozen.fingerprint())

    assert len(seen) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"input_resolution_px": 16},
        {"input_channels": 3},
        {"input_range": [0.0, 1.0]},
        {"mean": [0.1]},
        {"std": [0.5]},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_fingerprint_changes_with_the_declaration(change: dict[str, Any]) -> None:
    net = network()

    assert classifier(net, **change).fingerprint() != classifier(net).fingerprint()


def test_a_fingerprint_changes_with_the_order_of_the_class_names() -> None:
    net = network()

    assert classifier(net, ("a", "b", "c")).fingerprint() != (
        classifier(net, ("b", "a", "c")).fingerprint()
    )


def test_a_fingerprint_changes_when_the_same_weights_belong_to_other_layers() -> None:
    linear = nn.Linear(64, 3)
    first, second = nn.Sequential(nn.Flatten(), linear), nn.Sequential(linear, nn.Flatten())

    assert classifier(first).fingerprint() != classifier(second).fingerprint()


def test_a_fingerprint_does_not_depend_on_the_feature_layers() -> None:
    net = network()
    with_features = FrozenClassifier(net, adapter(), ("a", "b", "c"), ["0"])

    assert with_features.fingerprint() == classifier(net).fingerprint()


def test_a_fingerprint_reads_every_type_of_number() -> None:
    def half(value: float) -> nn.Module:
        net = network()
        net.load_state_dict({k: torch.zeros_like(v) for k, v in net.state_dict().items()})
        net[0].bias.data = torch.full((4,), value, dtype=torch.bfloat16)
        return net

    assert classifier(half(1.0)).fingerprint() != classifier(half(1.5)).fingerprint()


# Random weights ----------------------------------------------------------------------------------


def scripted(tmp_path: Path) -> FrozenClassifier:
    path = tmp_path / "net.pt"
    torch.jit.trace(network().eval(), images()).save(path)
    return classifier(build_network(str(path), {}))


@pytest.mark.parametrize("kind", ["module", "torchscript"])
def test_random_weights_are_the_classifiers_own_permuted_and_all_else_stays(
    kind: str, tmp_path: Path
) -> None:
    frozen = classifier() if kind == "module" else scripted(tmp_path)
    before = {name: x.clone() for name, x in frozen.state_dict().items()}
    fingerprint, x = frozen.fingerprint(), images()
    logits = frozen(x)

    null = frozen.randomised(0)

    assert frozen.fingerprint() == fingerprint
    assert torch.equal(frozen(x), logits)
    assert (null(x) - logits).abs().max() > 1e-3
    after = null.state_dict()
    assert list(after) == list(before)
    for name, was in before.items():
        assert torch.equal(frozen.state_dict()[name], was)
        assert torch.equal(after[name].flatten().sort().values, was.flatten().sort().values)
        assert torch.equal(after[name], was) == (was.ndim < 2), name


def test_a_random_classifier_is_frozen_and_speaks_of_the_same_classes() -> None:
    frozen = FrozenClassifier(network(), adapter(mean=[0.2]), ("a", "b", "c"), ["0"])

    null = frozen.randomised(0)

    assert null.class_names == frozen.class_names
    assert null.feature_layers == frozen.feature_layers
    assert null.adapter.declaration() == frozen.adapter.declaration()
    assert not any(p.requires_grad for p in null.parameters())
    assert not any(module.training for module in null.modules())


def test_random_weights_depend_on_the_seed_alone() -> None:
    frozen, before = classifier(), torch.get_rng_state()

    seeds = [frozen.randomised(seed).fingerprint() for seed in (0, 0, 1)]

    assert seeds[0] == seeds[1] != seeds[2]
    assert torch.equal(torch.get_rng_state(), before)


def test_weights_with_the_channels_innermost_are_permuted_too() -> None:
    net = network().to(memory_format=torch.channels_last)

    null = classifier(net).randomised(0).network[0].weight

    assert torch.equal(null.flatten().sort().values, net[0].weight.flatten().sort().values)
    assert not torch.equal(null, net[0].weight)


def test_a_network_without_weights_to_permute_is_refused() -> None:
    with pytest.raises(InputError, match="weights of two or more dimensions .* got none in OneLog"):
        classifier(OneLogit(True), ("no", "yes")).randomised(0)


# Untrained layers --------------------------------------------------------------------------------


def five_layers() -> nn.Sequential:
    """Three convolutions with two normalisations between them, and two linear layers."""
    convolutions = [nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, bias=False)]
    rest = [nn.GroupNorm(2, 4), nn.Conv2d(4, 2, 3), nn.Flatten(), nn.Linear(8, 5), nn.Linear(5, 3)]
    return nn.Sequential(*convolutions, *rest)


LAYERS = ("0", "2", "4", "6", "7")


@pytest.mark.parametrize("count", range(6))
def test_the_last_layers_alone_get_new_weights(count: int) -> None:
    frozen = classifier(five_layers())
    norms = [m for m in frozen.network if isinstance(m, nn.BatchNorm2d | nn.GroupNorm)]
    for norm in norms:
        norm.weight.data.uniform_()
    before = {name: x.clone() for name, x in frozen.network.state_dict().items()}
    fingerprint = frozen.fingerprint()

    found = frozen.reinitialised(count, seed=0)

    changed = LAYERS[len(LAYERS) - count :]
    for name, value in found.network.state_dict().items():
        assert torch.equal(value, before[name]) == (name.split(".")[0] not in changed), name
        assert torch.equal(frozen.network.state_dict()[name], before[name])
    assert frozen.fingerprint() == fingerprint
    assert (found.fingerprint() == fingerprint) == (count == 0)
    assert not any(p.requires_grad for p in found.parameters())
    assert not any(module.training for module in found.modules())


def test_new_weights_are_drawn_as_the_layers_draw_them_the_last_one_first() -> None:
    frozen = classifier(five_layers())

    found = frozen.reinitialised(2, seed=3).network

    torch.manual_seed(3)
    last, one_before = nn.Linear(5, 3), nn.Linear(8, 5)
    torch.testing.assert_close(found[7].weight, last.weight, rtol=0, atol=0)
    torch.testing.assert_close(found[6].bias, one_before.bias, rtol=0, atol=0)


def test_new_weights_depend_on_the_seed_alone() -> None:
    frozen, before = classifier(five_layers()), torch.get_rng_state()

    seeds = [frozen.reinitialised(3, seed).fingerprint() for seed in (0, 0, 1)]

    assert seeds[0] == seeds[1] != seeds[2]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("count", [-1, 6])
def test_more_layers_than_there_are_cannot_be_untrained(count: int) -> None:
    message = f"randomised_layers must be from 0 to 5, the layers of Sequential .*, got {count};"
    with pytest.raises(InputError, match=message):
        classifier(five_layers()).reinitialised(count, seed=0)


def test_a_torchscript_network_has_no_layers_that_can_be_untrained(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="from 0 to 0, the layers of .*, got 1; give another"):
        scripted(tmp_path).reinitialised(1, seed=0)


# Where networks come from ------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".pt", ".ts", ".torchscript"])
def test_a_torchscript_file_becomes_a_classifier(ending: str, tmp_path: Path) -> None:
    net, x = network().eval(), images()
    path = tmp_path / f"net{ending}"
    torch.jit.trace(net, x).save(path)

    frozen = classifier(build_network(str(path), {}))

    torch.testing.assert_close(frozen(x), net(x))
    assert frozen.fingerprint() == classifier(net).fingerprint()


def test_feature_layers_of_a_torchscript_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(network().eval(), images()).save(path)
    loaded = build_network(str(path), {})

    with pytest.raises(InputError, match="must be empty for a TorchScript network, .* got"):
        FrozenClassifier(loaded, adapter(), ("a", "b", "c"), ["0"])


def test_a_factory_gets_the_arguments_and_the_number_of_classes(
    tiny_config: dict[str, Any],
) -> None:
    spec = tiny_config["classifier"]
    spec["arguments"]["width"] = 6

    frozen = build_classifier(spec, ["a", "b", "c", "d", "e"])

    assert type(frozen.network).__name__ == "SmallCNN"
    assert frozen.network.head.weight.shape == (5, 4 * 6)
    assert frozen(images(2, 1, 16)).shape == (2, 5)
    assert spec["arguments"]["num_classes"] is None  # the configuration is left as it was


def test_a_number_of_outputs_that_is_given_is_kept(tiny_config: dict[str, Any]) -> None:
    spec = tiny_config["classifier"]
    spec["arguments"]["num_classes"] = 1

    assert build_classifier(spec, ["no", "yes"])(images(2, 1, 16)).shape == (2, 2)


def test_torchvisions_resnet18_gets_as_many_outputs_as_there_are_classes() -> None:
    spec = {
        "network": "torchvision.models:resnet18",
        "arguments": {"num_classes": None},
        "weights": None,
        "input_resolution_px": 32,
        "input_channels": 3,
        "input_range": [0.0, 1.0],
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
        "feature_layers": ["layer1", "layer2", "layer3"],
    }

    frozen = build_classifier(spec, ["a", "b", "c", "d"])
    logits, features = frozen.features(images(2, 1, 16))

    assert logits.shape == (2, 4)
    assert [f.shape[1] for f in features] == [64, 128, 256]


def test_weights_are_read_from_a_file(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    spec = tiny_config["classifier"]
    first = build_classifier(spec, ["a", "b", "c"])
    write_tensors(tmp_path / "weights.safetensors", first.network.state_dict())

    second = build_classifier(
        {**spec, "weights": str(tmp_path / "weights.safetensors")}, ["a", "b", "c"]
    )

    assert second.fingerprint() == first.fingerprint()


# What can be got wrong ---------------------------------------------------------------------------


def test_a_torchscript_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be an existing TorchScript file, got '.*none.pt'"):
        build_network(str(tmp_path / "none.pt"), {})


def test_a_truncated_torchscript_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    torch.jit.trace(network().eval(), images()).save(path)
    path.write_bytes(path.read_bytes()[:1000])

    with pytest.raises(InputError, match="must be a readable TorchScript file, got '.*net.pt'"):
        build_network(str(path), {})


@pytest.mark.parametrize(
    "source", ["no.such.package:factory", "torchvision.models:no_such", "torchvision.models", ""]
)
def test_a_factory_that_is_not_there_is_refused(source: str) -> None:
    with pytest.raises(InputError, match=f"package.module:factory or a Torch.*, got '{source}'"):
        build_network(source, {})


def test_arguments_that_the_factory_does_not_take_are_refused() -> None:
    with pytest.raises(InputError, match="arguments must fit torch.nn:Flatten, got {'colour': 3}"):
        build_network("torch.nn:Flatten", {"colour": 3})


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def test_weights_that_are_not_there_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="classifier.weights must be an existing safetensors file"):
        load_weights(network(), tmp_path / "none.safetensors")


@pytest.mark.parametrize("damage", [truncate, lambda path: path.write_bytes(b"")])
def test_truncated_weights_are_refused(damage: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, network().state_dict())
    damage(path)

    with pytest.raises(InputError, match="classifier.weights must be a whole safetensors file"):
        load_weights(network(), path)


@pytest.mark.parametrize("other", [network(4), nn.Linear(3, 3)])
def test_weights_of_another_network_are_refused(other: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    write_tensors(path, other.state_dict())

    with pytest.raises(InputError, match="must belong to the network of the configuration, got"):
        load_weights(network(), path)


def test_a_classifier_is_judged_in_a_line_that_points_to_the_doctor_if_it_knows_nothing(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    labels = tiny_classifier(tiny_images).argmax(dim=1)
    wrong = (labels + 1) % 3

    assert judged(tiny_classifier, [(tiny_images, labels)]) == (
        "the classifier is right on 1.000 of 12 validation images"
    )
    assert "right on 0.000 of 12 validation images: no more than if it always said" in judged(
        tiny_classifier, [(tiny_images, wrong)]
    )

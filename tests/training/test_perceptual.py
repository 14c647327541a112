"""The perceptual distance's three kinds, and what each needs."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.errors import InputError
from stylex.training.losses import perceptual_distance
from stylex.training.module import StylExModule
from stylex.training.perceptual import PerceptualDistance
from stylex.types import Images


def test_the_classifiers_own_features_are_compared(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    first, second = tiny_images[:4], tiny_images[4:8]
    features = [tiny_classifier.features(images)[1] for images in (first, second)]

    found = PerceptualDistance("classifier", tiny_classifier)(first, second, *features)

    assert torch.equal(found, perceptual_distance(*features))
    assert float(found) > 0


def test_no_perceptual_term_is_zero(tiny_classifier: FrozenClassifier, tiny_images: Images) -> None:
    distance = PerceptualDistance("none", tiny_classifier)

    assert float(distance(tiny_images, -tiny_images, [], [])) == 0.0


def test_lpips_gets_three_channels_clamped_to_the_range_and_gives_the_mean(
    tiny_classifier: FrozenClassifier, tiny_images: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Differences(nn.Module):
        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            assert a.shape == b.shape == (12, 3, 16, 16)
            assert float(b.max()) == 1.0
            assert torch.equal(a[:, 0], a[:, 2])
            return (a - b).abs().mean(dim=(1, 2, 3), keepdim=True)

    monkeypatch.setattr("stylex.training.perceptual._load_lpips", Differences)

    distance = PerceptualDistance("lpips", tiny_classifier)
    found = distance(tiny_images, 3 * tiny_images, [], [])

    expected = (tiny_images - (3 * tiny_images).clamp(-1, 1)).abs().mean()
    torch.testing.assert_close(found, expected)
    assert distance.state_dict() == {}


def test_a_classifier_without_feature_layers_cannot_give_the_distance(
    tiny_config: dict[str, Any],
) -> None:
    spec = {**tiny_config["classifier"], "feature_layers": []}
    classifier = build_classifier(spec, tiny_config["class_names"])

    with pytest.raises(InputError, match="perceptual=classifier needs classifier.feature_layers"):
        PerceptualDistance("classifier", classifier)


def test_an_unknown_kind_is_refused(tiny_classifier: FrozenClassifier) -> None:
    with pytest.raises(InputError, match="must be classifier, lpips or none, got 'vgg'"):
        PerceptualDistance("vgg", tiny_classifier)


def test_lpips_without_its_weights_on_disk_is_refused(
    tiny_classifier: FrozenClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))

    with pytest.raises(InputError, match=r"needs torchvision's AlexNet weights on disk, got no"):
        PerceptualDistance("lpips", tiny_classifier)


def test_lpips_without_torchmetrics_is_refused(
    tiny_classifier: FrozenClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "alexnet-owt-7be5be79.pth").touch()
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setitem(sys.modules, "torchmetrics.functional.image.lpips", None)

    with pytest.raises(InputError, match="needs torchmetrics, got none"):
        PerceptualDistance("lpips", tiny_classifier)


def test_a_step_without_a_perceptual_term_reports_zero(
    make_trainee: Callable[..., StylExModule], batches: list[tuple[Images, Tensor]]
) -> None:
    images = batches[0][0]
    module = make_trainee(perceptual="none")
    module.step = 1

    terms = module.training_step((images, torch.zeros(4, dtype=torch.int64)), 0)

    assert float(terms["perceptual"]) == 0.0

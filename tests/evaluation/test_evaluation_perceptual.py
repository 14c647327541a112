"""Perceptual distances against loops, and what is asked for in vain."""

import math
from pathlib import Path

import pytest
import torch

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.evaluation.perceptual import ClassifierDistance, build_distance
from stylex.types import Images


def test_the_classifiers_distance_equals_a_loop(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    before, after = tiny_images[:2], tiny_images[2:4]
    found = ClassifierDistance(tiny_classifier)(before, after)
    for i in range(2):
        expected = 0.0
        layers = (tiny_classifier.features(x[i : i + 1])[1] for x in (before, after))
        for one, other in zip(*layers, strict=True):
            places = (f[0].flatten(1).T.tolist() for f in (one, other))
            for a, b in zip(*places, strict=True):
                size_a, size_b = (math.hypot(*v) or 1.0 for v in (a, b))
                terms = ((p / size_a - q / size_b) ** 2 for p, q in zip(a, b, strict=True))
                expected += sum(terms) / one.shape[2:].numel()
        assert expected > 0.01
        assert float(found[i]) == pytest.approx(expected, rel=1e-4)


def test_an_image_is_at_no_distance_from_itself(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    assert float(ClassifierDistance(tiny_classifier)(tiny_images, tiny_images).max()) == 0


def test_a_distance_is_named_by_its_kind(tiny_classifier: FrozenClassifier) -> None:
    found = build_distance("classifier", tiny_classifier)
    assert found is not None
    assert "uncalibrated" in found.name
    assert build_distance(None, tiny_classifier) is None
    with pytest.raises(InputError, match="distance must be classifier, lpips or null, got 'ssim'"):
        build_distance("ssim", tiny_classifier)


def test_a_classifier_without_feature_layers_is_refused(tiny_classifier: FrozenClassifier) -> None:
    bare = FrozenClassifier(tiny_classifier.network, tiny_classifier.adapter, ["a", "b", "c"], [])
    with pytest.raises(InputError, match=r"needs classifier\.feature_layers, got an empty list"):
        ClassifierDistance(bare)


def test_lpips_is_refused_where_its_weights_would_be_downloaded(
    tiny_classifier: FrozenClassifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(InputError, match=r"got no alexnet-owt-\*\.pth in"):
        build_distance("lpips", tiny_classifier)

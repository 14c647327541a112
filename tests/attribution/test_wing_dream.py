"""DeepDream: against plain ascent written out, and with all detail kept."""

from typing import Any

import pytest
import torch
from torch import nn

from stylex.attribution.dream import dream, excitement, octave_sizes
from stylex.attribution.exhibits import Pictures
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError
from stylex.types import Images


@pytest.fixture
def classifier() -> FrozenClassifier:
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2)),
        *(nn.ReLU(), nn.Flatten(), nn.Linear(4 * 15 * 15, 2)),  # takes 32 px alone
    )
    adapter = Adapter(
        input_resolution_px=32, input_channels=3, input_range=(0, 1), mean=[0.5], std=[0.25]
    )
    return FrozenClassifier(network, adapter, ("a", "b"), [])


def run(classifier: FrozenClassifier, images: Images, **given: Any) -> Pictures:
    settings: dict[str, Any] = {
        **{"layers": ["2"], "enlargement": 1, "octaves": 2, "octave_scale": 1.25, "steps": 3},
        **{"step_size": 0.02, "jitter_px": 3, "seed": 0, "chunk_size": 2, "columns": 2},
        **given,
    }
    return dream(classifier, images, torch.zeros(len(images), dtype=torch.int64), **settings)


def photographs(count: int = 1) -> Images:
    return torch.rand(count, 3, 44, 52) * 1.2 - 0.6


def test_one_octave_is_plain_ascent(classifier: FrozenClassifier) -> None:
    images = photographs()
    expected = images
    for _ in range(3):
        seen = expected.clone().requires_grad_()
        inputs = ((seen + 1) / 2 - 0.5) / 0.25
        classifier.network[:3](inputs).square().mean().backward()
        assert seen.grad is not None
        expected = expected + 0.02 * seen.grad / seen.grad.abs().mean()
    found = run(classifier, images, octaves=1, jitter_px=0)
    torch.testing.assert_close(found.images, expected.clamp(-1, 1), atol=1e-4, rtol=0)


def test_a_dream_that_changes_nothing_loses_no_detail(classifier: FrozenClassifier) -> None:
    images = photographs()
    found = run(classifier, images, octaves=2, step_size=0.0).images
    torch.testing.assert_close(found, images, rtol=0, atol=1e-6)


def test_a_dream_keeps_its_size_and_excites_the_layer(classifier: FrozenClassifier) -> None:
    images = photographs(2)  # larger than the 32 px that the network takes, and not square
    found = run(classifier, images)
    assert found.images.shape == images.shape
    assert found.images.abs().max() <= 1
    assert (
        excitement(classifier, found.images, ["2"]) > excitement(classifier, images, ["2"])
    ).all()
    assert run(classifier, images, enlargement=1.5).images.shape == (2, 3, 66, 78)


def test_dreams_repeat_and_do_not_hang_on_the_batch(classifier: FrozenClassifier) -> None:
    images = photographs(3)
    together = run(classifier, images, chunk_size=3).images
    assert torch.equal(together, run(classifier, images, chunk_size=3).images)
    assert not torch.allclose(together, run(classifier, images, chunk_size=3, seed=1).images)
    for chunk_size in (1, 2):
        found = run(classifier, images, chunk_size=chunk_size).images
        torch.testing.assert_close(found, together, rtol=0, atol=1e-4)
    alone = run(classifier, images[2:]).images
    torch.testing.assert_close(alone, together[2:], rtol=0, atol=1e-4)


def test_excitement_is_the_mean_over_the_layers(classifier: FrozenClassifier) -> None:
    images = photographs(2)
    each = [excitement(classifier, images, [layer]) for layer in ("0", "2")]
    both = excitement(classifier, images, ["0", "2"])
    torch.testing.assert_close(both, (each[0] + each[1]) / 2)


def test_octaves_grow_to_the_full_size() -> None:
    assert octave_sizes((100, 200), 1.0, 3, 1.5, 1) == [(44, 89), (67, 133), (100, 200)]


def test_octaves_too_small_to_show_anything_are_left_out() -> None:
    assert octave_sizes((100, 200), 1.0, 9, 1.5, 1) == [(44, 89), (67, 133), (100, 200)]
    assert octave_sizes((20, 20), 1.0, 4, 1.4, 1) == [(20, 20)]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"layers": ["far"]}, "layers must name a layer of the network"),
        ({"layers": []}, "layers must name at least one layer, got none"),
        ({"octaves": 0}, "octaves must be at least 1, got 0"),
        ({"octave_scale": 1.0}, "octave_scale must be above 1, got 1.0"),
        ({"enlargement": 0.0}, "enlargement must be above 0, got 0.0"),
    ],
)
def test_dreams_that_cannot_be_are_refused(
    classifier: FrozenClassifier, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(classifier, photographs(), **given)
    assert not any(module._forward_hooks for module in classifier.modules())

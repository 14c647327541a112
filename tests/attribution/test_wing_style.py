"""Style transfer: losses in closed form, and a picture that comes nearer to both."""

import gc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from stylex.attribution.exhibits import Pictures
from stylex.attribution.style_transfer import (
    Painting,
    content_loss,
    gram,
    style_loss,
    style_transfer,
    transfer_loss,
)
from stylex.classifier.frozen import Adapter, FrozenClassifier, build_classifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.imaging import read_whole, write_png
from stylex.types import Images

PAINTING: dict[str, Any] = {
    **{"content_layers": ["2"], "style_layers": ["0", "2"], "total_variation_weight": 0.0},
    **{"optimiser": "lbfgs", "steps": 5, "learning_rate": 0.02, "history": 4},
}


@pytest.fixture
def classifier() -> FrozenClassifier:
    network = nn.Sequential(
        *(nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, stride=2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
    )
    adapter = Adapter(
        input_resolution_px=32, input_channels=3, input_range=(0, 1), mean=[0.5], std=[0.25]
    )
    return FrozenClassifier(network, adapter, ("a", "b"), [])


def run(
    classifier: FrozenClassifier, images: Images, style: str | int = 1, **given: Any
) -> tuple[Pictures, Pictures]:
    return style_transfer(
        classifier,
        images,
        torch.zeros(len(images), dtype=torch.int64),
        data=Wall(given.pop("wall", images)),
        style=style,
        style_longer_px=24,
        style_weights=given.pop("style_weights", [1.0, 100.0]),
        painting=Painting(**{**PAINTING, **given}),
    )


class Wall(ImageSet):
    """A data set of some pictures."""

    def __init__(self, pictures: Images) -> None:
        labels = torch.zeros(len(pictures), dtype=torch.int64)
        super().__init__(
            class_names=("a", "b"), labels=labels, split="test", resolution=12, channels=3
        )
        self.pictures = pictures

    def _images(self, positions: Tensor) -> Images:
        return self.pictures[positions]

    def _content(self) -> bytes:
        return b""


def photographs(count: int = 2) -> Images:
    return torch.rand(count, 3, 12, 17) * 2 - 1


def test_gram_is_the_mean_product_of_channels() -> None:
    features = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    found = gram(features)
    for image in range(2):
        for a in range(3):
            for b in range(3):
                product = (features[image, a] * features[image, b]).mean()
                torch.testing.assert_close(found[image, a, b], product)


def test_style_loss_is_zero_for_the_style_itself_wherever_its_places_are() -> None:
    features = torch.randn(1, 3, 4, 6, dtype=torch.float64)
    shuffled = features.flatten(2)[:, :, torch.randperm(24)].reshape(1, 3, 6, 4)
    grams = {"layer": gram(features)}
    assert float(style_loss({"layer": features}, grams)) == 0
    assert float(style_loss({"layer": shuffled}, grams)) == pytest.approx(0, abs=1e-20)
    assert float(style_loss({"layer": features * 0}, grams)) == pytest.approx(1)
    assert float(content_loss({"layer": features}, {"layer": features})) == 0
    assert float(content_loss({"layer": features * 3}, {"layer": features})) == pytest.approx(4)


def test_no_channel_outweighs_another() -> None:
    found, wanted = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64)
    scale = torch.tensor([1, 100, 0.01], dtype=torch.float64)[:, None, None]
    plain = style_loss({"layer": found}, {"layer": gram(wanted)})
    scaled = style_loss({"layer": found * scale}, {"layer": gram(wanted * scale)})
    torch.testing.assert_close(plain, scaled)


@pytest.mark.parametrize("optimiser", ["lbfgs", "adam"])
def test_the_loss_falls_and_a_larger_weight_brings_the_style_nearer(
    classifier: FrozenClassifier, optimiser: str
) -> None:
    images = photographs(3)
    style, found = run(classifier, images, optimiser=optimiser, steps=10)
    assert torch.equal(style.images, images[1:2])
    assert (len(found.images), found.columns) == (9, 3)
    assert torch.equal(found.images[::3], images)
    assert found.images.abs().max() <= 1
    for row in (0, 2):
        photograph, small, large = found.images[3 * row : 3 * row + 3].split(1)
        alone = Painting(**{**PAINTING, "content_layers": []})
        distance = transfer_loss(classifier, photograph, style.images, 1.0, alone)
        assert distance(large) < distance(small) < distance(photograph)
        for weight, painted in ((1.0, small), (100.0, large)):
            loss = transfer_loss(classifier, photograph, style.images, weight, Painting(**PAINTING))
            assert loss(painted) < loss(photograph)


def test_a_picture_painted_in_its_own_style_stays(classifier: FrozenClassifier) -> None:
    images = photographs()
    found = run(classifier, images, style=0)[1].images
    torch.testing.assert_close(found[1:3], images[:1].expand(2, -1, -1, -1), rtol=0, atol=1e-4)


def test_total_variation_smooths(classifier: FrozenClassifier) -> None:
    images = photographs()
    course = {"optimiser": "adam", "steps": 20}
    rough = run(classifier, images, **course)[1].images[1]
    smooth = run(classifier, images, **course, total_variation_weight=10.0)[1].images[1]
    assert smooth.diff(dim=2).abs().mean() < rough.diff(dim=2).abs().mean()


def test_paintings_repeat_and_do_not_hang_on_the_batch(classifier: FrozenClassifier) -> None:
    images = photographs(3)
    found = run(classifier, images)[1].images
    assert torch.equal(found, run(classifier, images)[1].images)
    alone = run(classifier, images[:2], wall=images)[1].images
    torch.testing.assert_close(alone, found[:6], rtol=0, atol=1e-5)


def test_styles_of_any_size_come_from_files(classifier: FrozenClassifier, tmp_path: Path) -> None:
    path = tmp_path / "style.png"
    write_png(path, torch.randint(0, 255, (3, 10, 30), dtype=torch.uint8))
    assert read_whole(path, 24, 3).shape == (3, 8, 24)
    assert read_whole(path, 15, 1).shape == (1, 5, 15)
    style, found = run(classifier, photographs(1), style=str(path))
    assert style.images.shape == (1, 3, 8, 24)
    assert found.images.shape == (3, 3, 12, 17)


@pytest.mark.slow
def test_vgg_paints_from_a_file_of_its_weights(tmp_path: Path) -> None:
    from torchvision.models import vgg11

    with torch.device("meta"):
        shapes = vgg11(num_classes=2).state_dict()
    random = {name: torch.randn(value.shape) * 0.02 for name, value in shapes.items()}
    save_file(random, tmp_path / "vgg.safetensors")
    spec = {
        "network": "torchvision.models:vgg11",
        "arguments": {"num_classes": None},
        "weights": str(tmp_path / "vgg.safetensors"),
        **{"input_resolution_px": 224, "input_channels": 3, "input_range": [0, 1]},
        **{"mean": [0.5], "std": [0.25], "feature_layers": []},
    }
    vgg = build_classifier(spec, ("a", "b"))
    layers = {"style_layers": ["features.1", "features.4"], "content_layers": ["features.4"]}
    _, found = run(vgg, photographs(), steps=2, style_weights=[10.0], **layers)
    before, after = found.captions[1].split("loss ")[1].split(" → ")
    assert float(after) < float(before)


@pytest.mark.parametrize(
    ("style", "given", "sentence"),
    [
        (2, {}, "style must be a path or a position from 0 to 1 in the data set, got 2"),
        ("none.png", {}, "images must be readable .* TIFF or BMP files, got none.png"),
        (0, {"optimiser": "sgd"}, "painting.optimiser must be lbfgs or adam, got 'sgd'"),
        (0, {"style_layers": ["x"]}, "painting.style_layers must name a layer of the network"),
        (0, {"content_layers": ["x"]}, "painting.content_layers must name a layer"),
        (0, {"style_layers": []}, "style_layers must not be empty"),
        (0, {"style_weights": []}, "must not be empty, got \\[\\]"),
    ],
)
def test_paintings_that_cannot_be_are_refused(
    classifier: FrozenClassifier, style: str | int, given: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(InputError, match=sentence):
        run(classifier, photographs(), style, **given)
    assert not any(module._forward_hooks for module in classifier.modules())
    assert all(p.grad is None and not p.requires_grad for p in classifier.parameters())


def test_memory_stays_flat(classifier: FrozenClassifier) -> None:
    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(item), Tensor) for item in gc.get_objects())

    images = photographs()
    run(classifier, images, steps=2)
    before = alive()
    for _ in range(20):
        run(classifier, images, steps=2)
    assert alive() <= before

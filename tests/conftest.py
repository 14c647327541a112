"""A whole StylEx model of 16 px and 3 classes, untrained, small enough to build in every test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor, nn
from torch.nn import functional

from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.model import StylEx, build_model
from stylex.types import Images

settings.register_profile("reproducible", derandomize=True, deadline=None, database=None)
settings.load_profile("reproducible")


@pytest.fixture(autouse=True)
def _same_random_numbers_in_every_test() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _caches_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test, and no program that it starts, writes among the user's caches."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """The parts of a configuration that `load` needs, as plain dictionaries."""
    width = {"channel_base": 64, "channel_max": 8}  # 8, 8 and 4 channels at 4, 8 and 16 px
    return {
        "classifier": {
            "network": "stylex.classifier.backbones:SmallCNN",
            "arguments": {"channels": 1, "num_classes": None, "width": 4, "dropout": 0.2},
            "weights": None,
            "input_resolution_px": 16,
            "input_channels": 1,
            "input_range": [-1.0, 1.0],
            "mean": [0.0],
            "std": [1.0],
            "feature_layers": ["stage1", "stage2", "stage3"],
        },
        "model": {
            "resolution_px": 16,
            "channels": 1,
            "latent_dim": 4,
            "mapping_layers": 2,
            "appended": "softmax",
            "generator": {**width, "noise": True},
            "encoder": dict(width),
            "discriminator": {**width, "minibatch_group": 2},
        },
        "class_names": ["circle", "square", "star"],
    }


@pytest.fixture
def tiny_images() -> Images:
    """Twelve smooth images of one channel and 16 px."""
    coarse = torch.rand(12, 1, 4, 4, generator=torch.Generator().manual_seed(3)) * 2 - 1
    return functional.interpolate(coarse, (16, 16), mode="bilinear")


@pytest.fixture
def tiny_classifier(tiny_config: dict[str, Any], tiny_images: Images) -> FrozenClassifier:
    """Three classes; on `tiny_images` every logit has mean 0 and standard deviation 2."""
    torch.manual_seed(1)
    classifier = build_classifier(tiny_config["classifier"], tiny_config["class_names"])
    standardise(classifier.network.head, classifier(tiny_images), 2.0)
    return classifier


@pytest.fixture
def tiny_model(
    tiny_config: dict[str, Any], tiny_classifier: FrozenClassifier, tiny_images: Images
) -> StylEx:
    """As `load` gives a model: in eval mode, without gradients; no bias and no noise strength is 0.

    On `tiny_images` the encoder's outputs have standard deviation 1, and the classifier is changed
    so that the reconstructions' decisions vary. The generator's images go beyond [-1, 1] in places,
    as those of a trained one do.
    """
    torch.manual_seed(2)
    model = build_model(tiny_config["model"], tiny_classifier)
    randomise(model.generator, model.encoder)
    with torch.no_grad():
        for layer in model.generator.torgbs:
            layer.weight.mul_(0.6)
            layer.bias.mul_(0.6)
    standardise(model.encoder.out, model.encoder(tiny_images), 1.0)
    standardise(tiny_classifier.network.head, model(tiny_images), 2.0)
    return model.eval().requires_grad_(False)


@pytest.fixture
def tiny_checkpoint(tiny_model: StylEx, tiny_config: dict[str, Any], tmp_path: Path) -> Path:
    """A folder with `tiny_model`, as a training run leaves it."""
    folder = tmp_path / "tiny"
    tiny_model.save(folder, {"data": {}, "training": {}, "seed": 0, **tiny_config})
    return folder


def randomise(*networks: nn.Module) -> None:
    """Gives biases and noise strengths, which start at a constant, random values around it."""
    with torch.no_grad():
        for network in networks:
            for name, parameter in network.named_parameters():
                if name.endswith(("bias", "noise_strength")):
                    parameter.add_(0.2 * torch.randn(parameter.shape))


@torch.no_grad()
def standardise(last: nn.Module, outputs: Tensor, deviation: float) -> None:
    """Changes the last, linear layer so that its outputs get mean 0 and this standard deviation."""
    factor = deviation / outputs.std(dim=0)
    last.weight.mul_(factor[:, None])
    last.bias.sub_(outputs.mean(dim=0)).mul_(factor)

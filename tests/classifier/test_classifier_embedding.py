"""Laws of `stylex.classifier.embedding`."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from stylex.artifacts import write_json
from stylex.classifier.embedding import (
    Embedding,
    build_embedding,
    load_embedding,
    own_embedding,
    same_cosine,
)
from stylex.classifier.frozen import Adapter, FrozenClassifier
from stylex.errors import InputError
from stylex.types import Images


def adapter(size: int = 8) -> Adapter:
    return Adapter(
        input_resolution_px=size, input_channels=1, input_range=(-1, 1), mean=(0,), std=(1,)
    )


def test_a_classifiers_own_features_are_what_its_logits_are_linear_in(
    tiny_classifier: FrozenClassifier, tiny_images: Images
) -> None:
    before = tiny_classifier(tiny_images)
    features = tiny_classifier.features(tiny_images)[1][-1].mean(dim=(2, 3))
    found = own_embedding(tiny_classifier)
    assert torch.allclose(found(tiny_images), nn.functional.normalize(features, dim=1))
    assert torch.equal(tiny_classifier(tiny_images), before)
    assert isinstance(tiny_classifier.network.head, nn.Linear)


def test_vectors_have_length_one_and_an_image_does_not_depend_on_the_others(
    tiny_config: dict[str, Any], tiny_images: Images
) -> None:
    found = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 5).eval()
    vectors = found(tiny_images)
    assert vectors.shape == (12, 5)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(12))
    alone = torch.cat([found(image[None]) for image in tiny_images])
    assert torch.allclose(alone, vectors, atol=1e-6)


def test_what_is_saved_is_loaded_and_needs_no_other_file(
    tiny_config: dict[str, Any], tiny_images: Images, tmp_path: Path
) -> None:
    saved = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 5).eval()
    saved.save(tmp_path / "checkpoints", tiny_config)
    spec = {**tiny_config["classifier"], "weights": "gone.safetensors"}
    for folder in (tmp_path, tmp_path / "checkpoints"):
        assert torch.equal(load_embedding(folder)(tiny_images), saved(tiny_images))
    saved.save(tmp_path / "checkpoints", {**tiny_config, "classifier": spec})
    assert torch.equal(load_embedding(tmp_path)(tiny_images), saved(tiny_images))


def test_files_that_do_not_belong_together_are_refused(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    found = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 5)
    wider = {**tiny_config["classifier"]["arguments"], "width": 8}
    found.save(
        tmp_path, {**tiny_config, "classifier": {**tiny_config["classifier"], "arguments": wider}}
    )
    with pytest.raises(InputError, match="must belong together"):
        load_embedding(tmp_path)
    with pytest.raises(InputError, match="must be a run's folder of train.py task=embedding"):
        load_embedding(tmp_path / "nowhere")


def test_the_least_cosine_is_that_of_a_finished_training(
    tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    found = build_embedding(tiny_config["classifier"], tiny_config["class_names"], 5)
    found.save(tmp_path, tiny_config)
    with pytest.raises(InputError, match="let the training end"):
        same_cosine(tmp_path)
    write_json(tmp_path / "retrieval.json", {})
    with pytest.raises(InputError, match="must say the same_cosine, got none"):
        same_cosine(tmp_path)
    write_json(tmp_path / "retrieval.json", {"same_cosine": 0.7})
    assert same_cosine(tmp_path) == 0.7


def test_a_network_that_cannot_be_cut_at_its_last_linear_layer_is_refused() -> None:
    with pytest.raises(InputError, match="whose linear layers can be read, got none in Sequential"):
        Embedding(nn.Sequential(nn.Flatten()), adapter(), 4)
    rows = nn.Sequential(nn.Flatten(2), nn.Linear(64, 6))
    with pytest.raises(InputError, match=r"one vector an image \(4 values\) .*'1', got shape"):
        Embedding(rows, adapter(), 4)(torch.zeros(1, 1, 8, 8))


def test_what_comes_after_the_last_linear_layer_does_not_count() -> None:
    layers = [nn.Flatten(), nn.Linear(64, 6)]
    images = torch.randn(3, 1, 8, 8)
    found = Embedding(nn.Sequential(*layers, nn.Softmax(dim=1)), adapter(), None)(images)
    assert torch.allclose(found, nn.functional.normalize(images.flatten(1), dim=1))


@pytest.mark.filterwarnings(
    "ignore:`torch.jit:FutureWarning", "ignore:`torch.jit:DeprecationWarning"
)
def test_torchscript_is_refused() -> None:
    script = torch.jit.trace(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.zeros(1, 1, 8, 8))
    with pytest.raises(InputError, match="can be read, got none in"):
        own_embedding(FrozenClassifier(script, adapter(), ["a", "b"], []))


def test_torchvisions_networks_can_be_cut() -> None:
    from torchvision.models import mobilenet_v3_small

    colour = Adapter(
        input_resolution_px=32, input_channels=3, input_range=(0, 1), mean=(0.5,), std=(0.5,)
    )
    found = Embedding(mobilenet_v3_small(), colour, 7).eval()
    assert found(torch.zeros(2, 3, 32, 32)).shape == (2, 7)

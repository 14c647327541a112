"""What `search.py` needs, small: 240 pictures of 32 px in three classes, a model for them."""

from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from stylex.classifier.frozen import build_classifier
from stylex.imaging import to_uint8
from stylex.model import StylEx, build_model
from stylex.types import Images

CLASSES = ["circle", "square", "star"]


def pictures() -> Images:
    """Smooth and grey."""
    coarse = torch.rand(240, 1, 4, 4, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return functional.interpolate(coarse, (32, 32), mode="bilinear")


def model_of_pictures(config: dict[str, Any]) -> StylEx:
    """The tiny model for 32 px; its decisions on the reconstructions vary."""
    config["classifier"]["input_resolution_px"] = config["model"]["resolution_px"] = 32
    torch.manual_seed(1)
    classifier = build_classifier(config["classifier"], CLASSES)
    model, images = build_model(config["model"], classifier), pictures()
    standardise(model.classifier.network.head, model.classifier(images), 2.0)
    standardise(model.encoder.out, model.encoder(images), 1.0)
    standardise(model.classifier.network.head, model(images), 2.0)
    return model


@torch.no_grad()
def standardise(last: nn.Module, outputs: Tensor, deviation: float) -> None:
    """Changes the last, linear layer so that its outputs get mean 0 and this standard deviation."""
    factor = deviation / outputs.std(dim=0)
    last.weight.mul_(factor[:, None])
    last.bias.sub_(outputs.mean(dim=0)).mul_(factor)


def arguments(model: StylEx, config: dict[str, Any], folder: Path) -> list[str]:
    """Writes model and pictures; gives the search's arguments for them."""
    model.save(folder / "model", {"data": {}, "training": {}, "seed": 0, **config})
    for i, pixels in enumerate(to_uint8(pictures())):
        path = folder / "pictures" / CLASSES[i % 3] / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0].numpy()).save(path)
    return [
        f"checkpoint={folder / 'model'}",
        "data=folder",
        f"data.root={folder / 'pictures'}",
        "data.resolution=32",
        "data.channels=1",
        "data.test_share=0.8",
        "source=circle",
        "target=square",
        "device=cpu",
        "cpu_threads=1",
        "search.num_attributes=3",
    ]

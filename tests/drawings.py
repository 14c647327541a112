"""A tiny model of drawn faces or leaves at 32 px, and the arguments of a search of it."""

from pathlib import Path

import torch
from doors import compose
from omegaconf import OmegaConf
from pictured import standardise

from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.door import image_set
from stylex.model import build_model
from stylex.types import Images

WIDTH = "{channel_base: 128, channel_max: 8"
FEW = "data.num_images={train: 12, validation: 8, test: 60}"
SEARCH = [
    *("device=cpu", "cpu_threads=1", "search.num_images=24", "search.num_attributes=3"),
    *("search.num_shown=1", "search.num_swept=0", "search.num_random=0", "search.least_rise=-1.0"),
    *("report.format=[]", "report.sweep=false"),
]


def write_model(folder: Path, family: str = "faces", seed: int = 3) -> Path:
    """Writes an untrained model whose decisions on the test images and their copies vary."""
    given = [
        *(f"data={family}", FEW, "classifier=small_cnn", "classifier.arguments.width=4"),
        *("model.appended=uniform", "model.latent_dim=4", "model.mapping_layers=2"),
        f"model.encoder={WIDTH}}}",
        f"model.generator={WIDTH}, noise: false}}",
        f"model.discriminator={WIDTH}, minibatch_group: 2}}",
    ]
    raw = compose("train", given)
    config = OmegaConf.to_container(raw, resolve=True)
    assert isinstance(config, dict)
    data = image_set(raw.data, "test")
    images, _ = data.batch(range(len(data)))
    torch.manual_seed(seed)
    classifier = build_classifier(config["classifier"], data.class_names)
    model = build_model(config["model"], classifier).eval().requires_grad_(False)
    standardise(classifier.network.head, classifier(images), 2.0)
    standardise(model.encoder.out, model.encoder(images), 1.0)
    blind_to_copying(classifier, images, model.reconstruct(images))
    standardise(classifier.network.head, classifier(images), 0.5)
    model.save(folder, config)
    return folder


@torch.no_grad()
def blind_to_copying(classifier: FrozenClassifier, images: Images, copies: Images) -> None:
    """Takes from the last layer what tells images from an untrained model's copies on average."""
    before, after = (
        classifier.features(each)[1][-1].mean(dim=(0, 2, 3)) for each in (images, copies)
    )
    way = torch.nn.functional.normalize(after - before, dim=0)
    weight = classifier.network.head.weight
    weight -= (weight @ way)[:, None] * way

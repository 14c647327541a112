"""What the wing explains: a classifier, some images, and which class of each."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.data.folders import image_paths
from stylex.errors import InputError
from stylex.imaging import from_uint8, read_image
from stylex.types import Images, Labels

AT_ONCE = 32  # images whose probabilities are asked for together


@dataclass(frozen=True)
class Subject:
    """What all methods are given.

    Attributes:
        classifier: Under explanation.
        data: The data set that patches and neighbours are looked for in.
        images: That are explained, on the classifier's device.
        targets: The class that is explained of each.
        captions: What is written below each: its name, the class explained and its probability.
        facts: What made the folder, for wing.json.
    """

    classifier: FrozenClassifier
    data: ImageSet
    images: Images
    targets: Labels
    captions: tuple[str, ...]
    facts: Mapping[str, Any]


def chosen(classifier: FrozenClassifier, data: ImageSet, settings: Mapping[str, Any]) -> Subject:
    """The images and targets that the settings name.

    Args:
        classifier: Under explanation.
        data: Whose test split `demo` and positions speak of.
        settings: `images`, `num_images`, `targets` and what else wing.json shall state; see
            configs/attribution.yaml.

    Raises:
        InputError: If images, positions, a label or a class are not there.
    """
    images, labels, names = _images(data, settings["images"], settings["num_images"])
    images = images.to(classifier.adapter.mean.device)
    classifier.check(images[:AT_ONCE])
    with torch.no_grad():
        parts = [classifier.probabilities(part) for part in images.split(AT_ONCE)]
    probabilities = torch.cat(parts)
    targets = _targets(classifier, str(settings["targets"]), labels, probabilities.argmax(dim=1))
    own = probabilities.gather(1, targets[:, None])[:, 0].tolist()
    captions = tuple(
        f"{name}: {classifier.class_names[target]} {p:.2f}"
        for name, target, p in zip(names, targets.tolist(), own, strict=True)
    )
    facts = {
        "network": type(classifier.network).__name__,
        "classifier": classifier.fingerprint(),
        "data": data.fingerprint,
        "num_classes": classifier.num_classes,
        "config": {key: value for key, value in settings.items() if key != "cpu_threads"},
    }
    return Subject(classifier, data, images, targets, captions, facts)


def _images(data: ImageSet, given: Any, count: int) -> tuple[Images, Labels | None, list[str]]:  # noqa: ANN401  as typed
    """Images, their labels if they have some, and what they are called."""
    if given == "demo":
        given = list(range(min(count, len(data))))
    if isinstance(given, int):
        given = [given]
    if isinstance(given, Sequence) and not isinstance(given, str):
        return _of_positions(data, given)
    path = Path(str(given))
    if not path.exists():
        raise InputError(
            "images must be demo, positions in the test split such as [0,5], a file or a folder, "
            f"got '{given}'"
        )
    found = [path] if path.is_file() else [path / name for name in image_paths(path, path)]
    files = found[:count]
    pixels = torch.stack([read_image(each, data.resolution, data.channels) for each in files])
    return from_uint8(pixels), None, [each.name for each in files]


def _of_positions(data: ImageSet, given: Sequence[Any]) -> tuple[Images, Labels | None, list[str]]:
    for position in given:
        if not isinstance(position, int) or not 0 <= position < len(data):
            raise InputError(
                f"images must be positions from 0 to {len(data) - 1} in the test split, got "
                f"'{position}'"
            )
    if not given:
        raise InputError("images must be at least one position in the test split, got none")
    images, labels = data.batch(list(given))
    return images, labels, [f"image {position}" for position in given]


def _targets(
    classifier: FrozenClassifier, given: str, labels: Labels | None, called: Labels
) -> Labels:
    if given == "predicted":
        return called
    if given == "label":
        if labels is None:
            raise InputError(
                "targets=label needs images with labels, got files; give targets=predicted or a "
                "class's name"
            )
        return labels.to(called.device)
    if given not in classifier.class_names:
        near = difflib.get_close_matches(given, classifier.class_names, 3, 0.0)
        raise InputError(
            f"targets must be predicted, label or a class's name, got '{given}'; the nearest of "
            f"the {classifier.num_classes} classes are {', '.join(near)}"
        )
    return torch.full_like(called, classifier.class_names.index(given))

"""Several classifiers before one model: where they come from, and which of them judges.

Styles and reconstructions stay those of the model with its own classifier; only what an engine
measures is another classifier's, while that one is seated.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from stylex.classifier.frozen import TORCHSCRIPT_ENDINGS, FrozenClassifier, build_classifier
from stylex.errors import InputError
from stylex.model import CLASSIFIER_FILE, CONFIG_FILE
from stylex.search.crew import Crew, Member
from stylex.search.statistics import BLOCK
from stylex.types import Logits, Styles

OWN = "checkpoint"  # the name of the model's own classifier


def read_classifier(
    name: str, own: FrozenClassifier, spec: Mapping[str, Any], images: Float[Tensor, "1 c h w"]
) -> FrozenClassifier:
    """A classifier to compare: `checkpoint`, a folder, a safetensors or a TorchScript file.

    A folder is a run of `train.py task=classifier`, or a model's, and says how it is built. A file
    says neither that nor its classes, which are taken to be the model's in the same order.

    Args:
        name: `checkpoint` for the model's own classifier, or a path.
        own: The model's own classifier.
        spec: How a file's classifier is built, as `build_classifier` takes it.
        images: One image of the model's form, to try the classifier on.

    Raises:
        InputError: If the path is none of these, or the classifier does not fit the model.
    """
    path = Path(name)
    folders = [f for f in (path, path / "checkpoints") if (f / CLASSIFIER_FILE).is_file()]
    if name == OWN:
        return own
    if folders:
        config = _read_config(folders[0] / CONFIG_FILE)
        known = tuple(config.get("class_names", own.class_names))
        if known != own.class_names:
            raise InputError(
                "classifiers to compare must have the checkpoint's classes "
                f"({', '.join(own.class_names)}), got {', '.join(known)} in '{name}'; compare "
                "classifiers of the same classes"
            )
        given = {**config["classifier"], "weights": folders[0] / CLASSIFIER_FILE}
    elif path.is_file() and path.suffix in TORCHSCRIPT_ENDINGS:
        given = {**spec, "network": name, "arguments": {}, "weights": None, "feature_layers": []}
    elif path.is_file() and path.suffix == ".safetensors":
        given = {**spec, "weights": path}
    else:
        raise InputError(
            f"compare must name {OWN}, a run's folder of `train.py task=classifier`, a "
            f".safetensors file or a TorchScript file ({', '.join(TORCHSCRIPT_ENDINGS)}), got "
            f"'{name}'; correct the path"
        )
    classifier = build_classifier(given, own.class_names)
    _try(classifier, name, images)
    return classifier


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, UnicodeDecodeError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("classifier"), dict):
        raise InputError(
            f"a classifier's folder must have a {CONFIG_FILE} that says how it is built, got none "
            f"at '{path}'; copy it again"
        )
    return config


@torch.no_grad()
def _try(classifier: FrozenClassifier, name: str, images: Float[Tensor, "1 c h w"]) -> None:
    try:
        classifier(images)
    except RuntimeError as error:
        takes = classifier.adapter
        raise InputError(
            f"a classifier to compare must take the images declared for it ({takes.input_channels} "
            f"channels, {takes.input_resolution_px} px), got an error from '{name}'; declare its "
            f"input with classifier=... or in its folder's {CONFIG_FILE}"
        ) from error


@dataclass
class Panel(Member):
    """What a process holds when several classifiers judge.

    Attributes:
        classifiers: The reference first; on the model's device.
    """

    classifiers: Sequence[FrozenClassifier] = ()

    def __post_init__(self) -> None:
        """Remembers the model's own classifier."""
        self.own = self.model.classifier


def panel_of(crew: Crew) -> Panel:
    """What this process of a crew holds."""
    assert isinstance(crew.member, Panel)
    return crew.member


def _seat(crew: Crew, position: int | None) -> None:
    """Makes a classifier the model's, none its own; an engine measures under one alone."""
    panel = panel_of(crew)
    panel.model.classifier = panel.own if position is None else panel.classifiers[position]
    panel.engine = panel.baseline = None


@contextmanager
def seated(crew: Crew, position: int) -> Iterator[None]:
    """One classifier judges inside the block; after an error the others end with their own."""
    crew.call(_seat, position)
    try:
        yield
    except BaseException:
        _seat(crew, None)  # the others may be amid a task
        raise
    crew.call(_seat, None)


@torch.no_grad()
def judged(crew: Crew, styles: Styles) -> list[tuple[Logits, Logits]]:
    """Every classifier's logits of all images and of their reconstructions, in shared blocks."""
    panel = panel_of(crew)
    device, autocast = panel.model.generator.const.device, panel.computing.get("autocast")
    shape = (2, len(panel.classifiers), len(styles), panel.own.num_classes)
    found = torch.zeros(shape)
    blocks = torch.arange(len(styles)).split(BLOCK)
    for j in panel.progress(crew.share(len(blocks)), "classifiers"):
        rows = blocks[j]
        with torch.autocast(device.type, autocast, autocast is not None):
            originals = panel.images[rows].to(device)
            rebuilt = panel.model.generator.synthesis(styles[rows].to(device))
            for c, classifier in enumerate(panel.classifiers):
                found[0, c, rows] = classifier(originals).float().cpu()
                found[1, c, rows] = classifier(rebuilt).float().cpu()
    logits, base = crew.merge(found)
    return list(zip(logits, base, strict=True))

"""Classifiers read from where they were left: a run's folder, a file of weights, TorchScript.

Such a classifier judges the same images as a model's own: in a comparison, as an independent
oracle, or retrained.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from jaxtyping import Float
from torch import Tensor

from stylex.classifier.adapter import DECLARED
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.classifier.networks import FILE_ENDINGS, HUGGINGFACE, runs_code
from stylex.errors import InputError

CLASSIFIER_FILE, CONFIG_FILE = "classifier.safetensors", "config.yaml"
OWN = "checkpoint"  # the name of the model's own classifier
NEEDED = ("network", "arguments", "weights", "feature_layers", *DECLARED)


def read_classifier(
    name: str,
    own: FrozenClassifier,
    spec: Mapping[str, Any],
    images: Float[Tensor, "1 c h w"],
    *,
    trust: bool = False,
) -> FrozenClassifier:
    """A classifier to compare: `checkpoint`, a folder, or a safetensors, TorchScript or ONNX file.

    A folder is a run of `train.py task=classifier`, or a model's, and says how it is built. A file
    says neither that nor its classes, which are taken to be the model's in the same order.

    Args:
        name: `checkpoint` for the model's own classifier, or a path.
        own: The model's own classifier.
        spec: How a file's classifier is built, as `build_classifier` takes it.
        images: One image of the model's form, to try the classifier on.
        trust: Whether a folder may name code to run; see `stored_spec`.

    Raises:
        InputError: If the path is none of these, or the classifier does not fit the model.
    """
    path = Path(name)
    folders = [f for f in (path, path / "checkpoints") if (f / CLASSIFIER_FILE).is_file()]
    if name == OWN:
        return own
    if folders:
        config = read_folder_config(folders[0] / CONFIG_FILE, "a classifier")
        known = tuple(config.get("class_names", own.class_names))
        if known != own.class_names:
            raise InputError(
                "classifiers of one model must have the checkpoint's classes "
                f"({', '.join(own.class_names)}), got {', '.join(known)} in '{name}'; give "
                "one of the same classes"
            )
        stored = stored_spec(config["classifier"], folders[0], trust)
        given = {**stored, "weights": folders[0] / CLASSIFIER_FILE}
    elif path.is_file() and path.suffix in FILE_ENDINGS:
        given = {**spec, "network": name, "arguments": {}, "weights": None, "feature_layers": []}
    elif path.is_file() and path.suffix == ".safetensors":
        given = {**spec, "weights": path}
    else:
        raise InputError(
            f"a classifier must be {OWN}, a run's folder of `train.py task=classifier`, a "
            f".safetensors file or a TorchScript or ONNX file ({', '.join(FILE_ENDINGS)}), got "
            f"'{name}'; correct the path"
        )
    classifier = build_classifier(given, own.class_names)
    _try(classifier, name, images)
    return classifier


def stored_spec(spec: Mapping[str, Any], folder: Path, trust: bool) -> dict[str, Any]:
    """How a stored classifier is built, with its file found again, and nothing in it run.

    A file or folder that it was made from (TorchScript, ONNX, Hugging Face) is looked for where
    it was, then beside the configuration.

    Args:
        spec: The `classifier` of a configuration that came with weights.
        folder: Where both lie.
        trust: Whether it may name code: a factory that is neither this package's nor
            torchvision's, or a TorchScript file.

    Raises:
        InputError: If it may not, or is incomplete, or the file is not found.
    """
    missing = [key for key in NEEDED if key not in spec]
    source, arguments = spec.get("network"), spec.get("arguments")
    if (
        missing
        or not isinstance(source, str)
        or not isinstance(arguments, Mapping)
        or not isinstance(spec.get("feature_layers"), list)
    ):
        raise InputError(
            f"a stored classifier must say {', '.join(NEEDED)}, got "
            f"{'no ' + missing[0] if missing else 'another kind of value'} in '{folder}'; copy its "
            f"{CONFIG_FILE} again"
        )
    if not trust and runs_code(source):
        raise InputError(
            f"a stored classifier may run code only if you say so, got '{source}' in the "
            f"{CONFIG_FILE} of '{folder}'; if you know who made it, give trust=true (in Python "
            "trust=True)"
        )
    if source.endswith(FILE_ENDINGS):
        return {**spec, "network": _found(source, folder)}
    if source == HUGGINGFACE:
        return {
            **spec,
            "arguments": {**arguments, "folder": _found(str(arguments.get("folder")), folder)},
        }
    return dict(spec)


def _found(path: str, folder: Path) -> str:
    for place in (Path(path), folder / Path(path).name):
        if place.exists():
            return str(place)
    raise InputError(
        "a stored classifier needs the file or folder that it was made from, got nothing at "
        f"'{path}'; put it back, or copy it into '{folder}'"
    )


def read_folder_config(path: Path, what: str) -> dict[str, Any]:
    """The configuration that a training run leaves beside its weights.

    Args:
        path: The file.
        what: What the folder has, for the error's sentence.

    Raises:
        InputError: If it is no file that says how a classifier is built.
    """
    try:
        config = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError, ValueError, RecursionError):
        config = None
    if not isinstance(config, dict) or not isinstance(config.get("classifier"), dict):
        raise InputError(
            f"{what}'s folder must have a {CONFIG_FILE} that says how it is built, got none "
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
            f"a classifier must take the images declared for it ({takes.input_channels} "
            f"channels, {takes.input_resolution_px} px), got an error from '{name}'; declare its "
            f"input with classifier=... or in its folder's {CONFIG_FILE}"
        ) from error

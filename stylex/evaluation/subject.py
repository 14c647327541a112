"""What an evaluation is of: a finished search, the model and the classifier that made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import digest
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.errors import InputError
from stylex.evaluation.attributes import read_stated
from stylex.model import StylEx, load, model_folder

PROVENANCE_FILE = "provenance.json"
_KEYS = ("checkpoint", "model", "classifier", "data", "config")


@dataclass(frozen=True)
class Subject:
    """A finished search.

    Attributes:
        folder: Of the search.
        checkpoint: The model's folder.
        made_by: What the search says of itself: provenance.json.
        model: The model with the classifier that was explained.
    """

    folder: Path
    checkpoint: Path
    made_by: Mapping[str, Any]
    model: StylEx

    @property
    def config(self) -> Mapping[str, Any]:
        """The search's configuration."""
        return self.made_by["config"]


def read_subject(folder: Path, checkpoint: Path | None, device: str) -> Subject:
    """Reads a finished search and loads what made it.

    Args:
        folder: Of the search.
        checkpoint: The model's folder, if it lies elsewhere than when it was searched.
        device: Where the model goes.

    Raises:
        InputError: If the folder holds no finished search, or model or classifier are others than
            those that made it.
    """
    made_by = read_stated(folder / PROVENANCE_FILE, *_KEYS)
    found = model_folder(checkpoint or Path(made_by["checkpoint"]))
    model = load(found)
    model.classifier = explained_classifier(model.classifier, made_by["config"])
    for what, mine in (
        ("model", digest(model.state_dict())),
        ("classifier", model.classifier.fingerprint()),
    ):
        if mine != made_by[what]:
            raise InputError(
                f"an evaluation needs the {what} that was searched, got another from '{found}' "
                f"than '{folder}' names; give checkpoint=FOLDER or search again"
            )
    return Subject(folder, found, made_by, model.to(device))


def explained_classifier(own: FrozenClassifier, config: Mapping[str, Any]) -> FrozenClassifier:
    """The classifier of a search: the model's own, the one given, or one with untrained layers."""
    given, untrained = config.get("classifier"), config.get("randomised_layers")
    found = own if given is None else build_classifier(given, own.class_names)
    return found.reinitialised(untrained, config["seed"]) if untrained else found

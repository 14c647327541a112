"""What an evaluation is of: a finished search, the model and the classifier that made it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import digest
from stylex.classifier.files import stored_spec
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.errors import InputError
from stylex.evaluation.attributes import read_stated
from stylex.model import StylEx, load, model_folder

PROVENANCE_FILE = "provenance.json"
_KEYS = ("checkpoint", "model", "classifier", "data", "config")
_OWN_DATA = re.compile(r"stylex\.data\.[a-z_]+\.[A-Z]\w*")  # a class of this package's


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


def read_subject(
    folder: Path, checkpoint: Path | None, device: str, *, trust: bool = False
) -> Subject:
    """Reads a finished search and loads what made it.

    Args:
        folder: Of the search.
        checkpoint: The model's folder, if it lies elsewhere than when it was searched.
        device: Where the model goes.
        trust: Whether the folder's files and the model's may name code to run; see `stored_spec`.

    Raises:
        InputError: If the folder holds no finished search, or model or classifier are others than
            those that made it, or code is named and not trusted.
    """
    made_by = read_stated(folder / PROVENANCE_FILE, *_KEYS)
    if not trust:
        _check_data(made_by["config"].get("data"), folder)
    found = model_folder(checkpoint or Path(made_by["checkpoint"]))
    model = load(found, trust=trust)
    given = made_by["config"].get("classifier")
    if given is not None:
        given = stored_spec(given, folder, trust)
    config = {**made_by["config"], "classifier": given}
    model.classifier = explained_classifier(model.classifier, config)
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


def _check_data(data: Any, folder: Path) -> None:  # noqa: ANN401  whatever a file says
    """Refuses data whose settings would run something else than this package's image sets."""
    for target in _targets(data):
        nested = isinstance(data, Mapping) and target != data.get("_target_")
        if nested or not _OWN_DATA.fullmatch(str(target)):
            raise InputError(
                f"a search's data may run code only if you say so, got '{target}' in the "
                f"{PROVENANCE_FILE} of '{folder}'; if you know who made it, give trust=true"
            )


def _targets(value: Any) -> list[Any]:  # noqa: ANN401  whatever a file says
    if isinstance(value, Mapping):
        own = [value["_target_"]] if "_target_" in value else []
        return own + [each for inner in value.values() for each in _targets(inner)]
    return [each for inner in value for each in _targets(inner)] if isinstance(value, list) else []

"""What was searched is what is evaluated: another model or classifier is refused."""

from pathlib import Path
from typing import Any

import pytest

from stylex.artifacts import digest, write_json
from stylex.errors import InputError
from stylex.evaluation.subject import explained_classifier, read_subject
from stylex.model import StylEx


def write(folder: Path, checkpoint: Path, made: StylEx, **changed: Any) -> Path:
    made_by = {
        "checkpoint": str(checkpoint),
        "model": digest(made.state_dict()),
        "classifier": made.classifier.fingerprint(),
        "data": "0" * 16,
        "config": {"classifier": None, "randomised_layers": 0, "seed": 3},
    }
    write_json(folder / "provenance.json", {**made_by, **changed})
    return folder


def test_a_search_is_read_with_the_model_that_made_it(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: StylEx
) -> None:
    found = read_subject(write(tmp_path / "found", tiny_checkpoint, tiny_model), None, "cpu")
    assert found.checkpoint == tiny_checkpoint
    assert found.config["seed"] == 3
    assert digest(found.model.state_dict()) == digest(tiny_model.state_dict())


def test_a_checkpoint_that_moved_is_given_anew(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: StylEx
) -> None:
    folder = write(tmp_path / "found", tmp_path / "gone", tiny_model)
    with pytest.raises(InputError, match=r"checkpoint must be a folder with .*gone"):
        read_subject(folder, None, "cpu")
    assert read_subject(folder, tiny_checkpoint, "cpu").checkpoint == tiny_checkpoint


def test_a_classifier_with_untrained_layers_is_made_again(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: StylEx
) -> None:
    own = tiny_model.classifier
    asked = {"classifier": None, "randomised_layers": 2, "seed": 3}
    null = explained_classifier(own, asked)
    assert null.fingerprint() == own.reinitialised(2, seed=3).fingerprint()
    tiny_model.classifier = null
    folder = write(tmp_path / "found", tiny_checkpoint, tiny_model, config=asked)
    assert read_subject(folder, None, "cpu").model.classifier.fingerprint() == null.fingerprint()


@pytest.mark.parametrize("what", ["model", "classifier"])
def test_another_model_or_classifier_is_refused(
    tmp_path: Path, tiny_checkpoint: Path, tiny_model: StylEx, what: str
) -> None:
    folder = write(tmp_path / "found", tiny_checkpoint, tiny_model, **{what: "another"})
    with pytest.raises(InputError, match=f"needs the {what} that was searched, got another"):
        read_subject(folder, None, "cpu")


def test_a_folder_without_a_finished_search_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got no provenance\.json in .*run search\.py first"):
        read_subject(tmp_path, None, "cpu")
    write_json(tmp_path / "provenance.json", {"checkpoint": "x", "config": {}})
    with pytest.raises(InputError, match="must say model, classifier, data, got nothing"):
        read_subject(tmp_path, None, "cpu")

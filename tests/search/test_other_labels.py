"""The labels that are not explained: measured on the same held-out edits, and written."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stylex.classifier.frozen import FrozenClassifier
from stylex.classifier.reading import Reading
from stylex.errors import InputError
from stylex.model import StylEx, build_model
from stylex.search.counterfactuals import move
from stylex.search.explanation import explain
from stylex.types import Images

LABELS = ("Young", "Smiling", "Eyeglasses")
FEW = {"num_images": 30, "k": 2, "num_random": 0, "unstable_share": 1.0}


@pytest.fixture
def labelled_model(tiny_model: StylEx, tiny_config: dict[str, Any]) -> StylEx:
    """The tiny model, its three logits taken for independent labels of which one is explained."""
    own = tiny_model.classifier
    names = ("not Smiling", "Smiling")
    judge = FrozenClassifier(own.network, own.adapter, names, [], Reading(1, LABELS))
    torch.manual_seed(4)
    model = build_model(tiny_config["model"], judge)
    model.encoder.load_state_dict(tiny_model.encoder.state_dict())
    return model.eval().requires_grad_(False)


def test_every_attribute_tells_what_it_does_to_each_other_label(
    labelled_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    model = labelled_model
    found = explain(model, study_images, "Smiling", output_dir=tmp_path, **FEW)
    assert found.class_names == ("not Smiling", "Smiling")
    written = json.loads((tmp_path / "attributes.json").read_text())["attributes"]
    styles = found.statistics.styles[list(found.held)]

    def outputs(values: torch.Tensor) -> torch.Tensor:
        return model.classifier.network(model.classifier.adapter(model.render(values)))

    for attribute, stated in zip(found.attributes, written, strict=True):
        moved = move(styles, [attribute.pick], found.statistics.extremes, 1.0)
        base, edited = outputs(styles), outputs(moved)
        z = (edited - base)[:, 1] / 2
        assert attribute.effect.value == pytest.approx(float(z.mean()), abs=1e-5)
        assert {each.name for each in attribute.other_labels} == {"Young", "Eyeglasses"}
        for each, said in zip(attribute.other_labels, stated["other_labels"], strict=True):
            i = LABELS.index(each.name)
            logit = float((edited - base)[:, i].mean())
            probability = float((edited.sigmoid() - base.sigmoid())[:, i].mean())
            assert each.logit.value == pytest.approx(logit, abs=1e-5)
            assert each.probability.value == pytest.approx(probability, abs=1e-6)
            assert each.logit.num_images == len(found.held)
            assert (said["name"], said["logit"]["value"]) == (each.name, each.logit.value)
            assert said["probability"]["interval"] == list(each.probability.interval)
        changes = [abs(each.probability.value) for each in attribute.other_labels]
        assert changes == sorted(changes, reverse=True)


def test_a_classifier_of_classes_has_no_other_labels(
    tiny_model: StylEx, study_images: Images, tmp_path: Path
) -> None:
    found = explain(tiny_model, study_images, "square", output_dir=tmp_path, **FEW)
    assert all(attribute.other_labels is None for attribute in found.attributes)
    assert "other_labels" not in (tmp_path / "attributes.json").read_text()


def test_a_model_of_one_label_is_saved_and_loaded(
    labelled_model: StylEx, tiny_config: dict[str, Any], study_images: Images, tmp_path: Path
) -> None:
    import stylex

    asked = {**tiny_config["classifier"], "output": "Smiling", "label_names": list(LABELS)}
    labelled_model.save(tmp_path, {**tiny_config, "classifier": asked})
    loaded = stylex.load(tmp_path)
    assert loaded.class_names == ("not Smiling", "Smiling")
    x = study_images[:4]
    torch.testing.assert_close(loaded(x), labelled_model(x))
    assert loaded.classifier.outputs(x).shape == (4, 3)


def test_another_classifier_explains_the_label_of_the_checkpoint(
    labelled_model: StylEx, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    from stylex.data.datasets import FashionMNIST
    from stylex.progress import quiet
    from stylex.search.preparation import prepare

    asked = {**tiny_config["classifier"], "output": "Smiling", "label_names": list(LABELS)}
    labelled_model.save(tmp_path, {**tiny_config, "classifier": asked})
    config = {"cpu_threads": None, "device": "cpu", "ops": {"tf32": False}, "trust": False}
    data = FashionMNIST(split="test", resolution=32, channels=1)
    other = {**asked, "output": "Young"}
    message = r"the checkpoint's classes \(not Smiling, Smiling\), got not Young, Young; give"
    with pytest.raises(InputError, match=message):
        prepare(config, data, tmp_path, classifier=other, local_rank=0, progress=quiet)

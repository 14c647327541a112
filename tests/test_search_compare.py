"""`search.py compare=[...]` as users open it: what it writes, exit codes, one-sentence mistakes."""

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from pictured import CLASSES, arguments, model_of_pictures, pictures, standardise

from stylex import door
from stylex.artifacts import write_tensors, write_yaml
from stylex.classifier.frozen import FrozenClassifier, build_classifier
from stylex.model import StylEx

ROOT = Path(__file__).parents[1]

Opened = Callable[..., tuple[Any, str, str]]


@pytest.fixture
def opened(
    tmp_path: Path,
    search_door: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Iterator[Opened]:
    """Opens the door; gives the exit code and what it printed to both streams."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> tuple[Any, str, str]:
        monkeypatch.setattr(sys, "argv", ["search.py", *overrides])
        code: Any = 0
        try:
            door.open_door("search", search_door.search)
        except SystemExit as stopped:
            code = stopped.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    with warnings.catch_warnings():
        yield run
        logging.captureWarnings(False)


@pytest.fixture
def search_door() -> ModuleType:
    """The script."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("door_search", ROOT / "search.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model(tiny_config: dict[str, Any]) -> StylEx:
    """Of 240 pictures."""
    return model_of_pictures(tiny_config)


@pytest.fixture
def given(model: StylEx, tiny_config: dict[str, Any], tmp_path: Path) -> list[str]:
    """The model and the pictures, as arguments."""
    question = arguments(model, tiny_config, tmp_path)
    return [*question, "search.unstable_share=1", f"output_dir={tmp_path / 'output'}"]


def mirrored(classifier: FrozenClassifier) -> dict[str, torch.Tensor]:
    """Weights of a classifier that reads the square's logit the other way round."""
    weights = {name: value.clone() for name, value in classifier.network.state_dict().items()}
    for name in ("head.weight", "head.bias"):
        weights[name][1] *= -1
    return weights


def test_a_classifier_against_itself_ends_with_code_0(
    opened: Opened, given: list[str], tmp_path: Path
) -> None:
    code, out, err = opened(*given, "compare=[checkpoint,checkpoint]")
    assert (code, err) == (0, "")
    assert "no attribute appears, vanishes or changes sign: exit code 0" in out
    assert "checkpoint against checkpoint" in out
    assert "same decision on 100.0%" in out
    written = json.loads((tmp_path / "output" / "comparison.json").read_text())
    assert written["num_changes"] == 0


def test_a_planted_change_ends_with_code_3_and_is_written(
    opened: Opened, given: list[str], model: StylEx, tiny_config: dict[str, Any], tmp_path: Path
) -> None:
    run = tmp_path / "run" / "checkpoints"
    write_tensors(run / "classifier.safetensors", mirrored(model.classifier))
    write_yaml(run / "config.yaml", {"classifier": tiny_config["classifier"]})
    code, out, err = opened(*given, f"compare=[checkpoint,{tmp_path / 'run'}]")
    assert (code, err) == (3, "")
    written = json.loads((tmp_path / "output" / "comparison.json").read_text())
    count = written["num_changes"]
    assert count > 0
    assert f"{count} times an attribute appears, vanishes or changes sign: exit code 3" in out
    assert "changes sign" in out
    assert (written["source"], written["target"]) == ("circle", "square")
    assert [judge["name"] for judge in written["judges"]] == ["checkpoint", str(tmp_path / "run")]
    for attribute in written["attributes"]:
        assert len(attribute["effects"]) == 2
        assert len(attribute["differences"]) == 1
    facts = json.loads((tmp_path / "output" / "provenance.json").read_text())
    fingerprints = {judge["name"]: judge["fingerprint"] for judge in written["judges"]}
    assert facts["classifiers"] == fingerprints
    assert facts["classifier"] == fingerprints["checkpoint"] == model.classifier.fingerprint()


def test_a_safetensors_file_is_built_as_the_classifier_group_says(
    opened: Opened, given: list[str], model: StylEx, tmp_path: Path
) -> None:
    spec: dict[str, Any] = {"network": "stylex.classifier.backbones:SmallCNN", "weights": None}
    spec |= {"input_resolution_px": 32, "input_channels": 1, "input_range": [-1.0, 1.0]}
    spec |= {"mean": [0.0], "std": [1.0], "feature_layers": []}
    spec["arguments"] = {"channels": 1, "num_classes": 3, "width": 8, "dropout": 0.2}
    wide = build_classifier(spec, CLASSES)
    standardise(wide.network.head, wide(model.reconstruct(pictures())), 2.0)
    path = tmp_path / "wide.safetensors"
    write_tensors(path, wide.network.state_dict())
    code, _, err = opened(*given, f"compare=[checkpoint,{path}]")
    assert code == 2
    assert "must belong to the network of the configuration" in err
    group = ["classifier=small_cnn", "classifier.arguments.width=8"]
    code, _, err = opened(*given, f"compare=[checkpoint,{path}]", *group, "source=null")
    assert (code in (0, 3), err) == (True, "")
    facts = json.loads((tmp_path / "output" / "provenance.json").read_text())
    assert facts["classifier"] == facts["classifiers"]["checkpoint"]
    assert facts["classifiers"][str(path)] == wide.fingerprint()


def test_two_comparisons_have_two_folders(search_door: ModuleType) -> None:
    question = {
        "checkpoint": "models/a",
        "image": None,
        "source": "x",
        "target": "y",
        "selector": "joint",
        "seed": 0,
        "randomised_layers": 0,
    }
    names = [None, ["checkpoint", "b"], ["checkpoint", "c"], ["c", "checkpoint"]]
    folders = [search_door.default_folder({**question, "compare": some}) for some in names]
    assert len(set(folders)) == 4
    assert folders[0] == "results/a/x-to-y"
    assert all(folder.startswith("results/a/compare-x-to-y-") for folder in folders[1:])


def test_seeds_and_untrained_layers_have_folders_in_the_question_s(
    search_door: ModuleType,
) -> None:
    question = {"checkpoint": "a", "image": 3, "target": None, "selector": "joint", "compare": None}
    folders = [
        search_door.default_folder({**question, "seed": seed, "randomised_layers": layers})
        for seed in (0, 2)
        for layers in (0, 5)
    ]
    own = "results/a/image-3"
    within = ("", "/sanity/layers-5", "/seeds/2", "/seeds/2/sanity/layers-5")
    assert folders == [f"{own}{folder}" for folder in within]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["compare=checkpoint"], "a list of at least two classifiers, the reference first, got"),
        (["compare=[checkpoint]"], "a list of at least two classifiers, the reference first, got"),
        (["compare=[checkpoint,nowhere]"], "got 'nowhere'; correct the path"),
        (["compare=[checkpoint,checkpoint]", "image=3"], "explains a class, got image=3"),
        (["compare=[checkpoint,checkpoint]", "randomised_layers=1"], "as they are, got randomised"),
        (["compare=[checkpoint,checkpoint]", "compare_least=-1"], "must be at least 0, got -1"),
        (["compare=[checkpoint,checkpoint]", "target=Circle"], "two classes, got 'circle' twice"),
    ],
)
def test_a_comparison_that_cannot_be_is_one_sentence(
    opened: Opened, given: list[str], tmp_path: Path, overrides: list[str], message: str
) -> None:
    code, _, err = opened(*given, *overrides)
    assert code == 2
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert not (tmp_path / "output").exists()


def test_too_few_images_to_show_a_change_are_said(opened: Opened, given: list[str]) -> None:
    code, out, _ = opened(*given, "compare=[checkpoint,checkpoint]", "search.num_images=8")
    assert code == 0
    assert "4 images cannot show a single change; give more images" in out

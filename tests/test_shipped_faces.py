"""The shipped models of the arena: small, of one classifier, with equal settings and readers."""

from pathlib import Path

import pytest
import torch
import yaml

from benchmarks import arena
from stylex import load
from stylex.data.drawn import MARK
from stylex.evaluation.readers import load_reader
from stylex.evaluation.reliance import Reliance, measure_reliance
from stylex.model import read_config
from stylex.progress import quiet

ROOT = Path(__file__).parents[1]
COMPARED = [ROOT / folder for folder in arena.MODELS.values()]
SHORTCUT = ROOT / arena.SHORTCUT
SETTINGS_THAT_DIFFER = {"perceptual", "weights", "stages", "noise_path"}


@pytest.mark.parametrize("folder", [*COMPARED, SHORTCUT], ids=lambda folder: folder.name)
def test_a_model_is_at_most_4_mb_and_has_a_card(folder: Path) -> None:
    assert sum(file.stat().st_size for file in folder.iterdir()) <= 4_000_000
    assert f"python train.py experiment={folder.name}" in (folder / "README.md").read_text()


def test_the_compared_models_have_one_classifier_and_equal_settings() -> None:
    models = [load(folder) for folder in COMPARED]
    assert len({model.classifier.fingerprint() for model in models}) == 1
    assert [model.appended for model in models] == ["softmax", "none", "softmax"]
    assert len({tuple(model.generator.layout.sizes) for model in models}) == 1

    configs = [read_config(folder) for folder in COMPARED]
    trainings = [config["training"] for config in configs]
    for key in trainings[0].keys() - SETTINGS_THAT_DIFFER:
        assert trainings[0][key] == trainings[1][key] == trainings[2][key], key
    assert [each["noise_path"] for each in trainings] == [True, True, False]
    assert trainings[0]["weights"] == trainings[2]["weights"]
    assert trainings[1]["weights"] == {**trainings[0]["weights"], "classifier_kl": 0.0}
    assert configs[0]["data"] == configs[1]["data"] == configs[2]["data"]


def reliance(folder: Path) -> Reliance:
    return measure_reliance(arena.drawings(folder), load(folder).classifier, 1, 60, 0, quiet)


def test_the_classifier_relies_on_the_factors_of_its_rule_alone() -> None:
    least = yaml.safe_load((ROOT / arena.SCORES).read_text())["least_reliance"]
    rule = arena.drawings(COMPARED[0]).rule
    assert set(reliance(COMPARED[0]).relied_upon(least)) == set(rule)


def test_the_shortcut_s_classifier_relies_on_the_watermark_most() -> None:
    found = reliance(SHORTCUT)
    assert found.factors[int(found.values().abs().argmax())] == MARK


@pytest.mark.parametrize("folder", [COMPARED[0], SHORTCUT], ids=["faces", "shortcut"])
def test_a_reader_reads_every_factor(folder: Path) -> None:
    read = load_reader(folder / "reader.safetensors").held_out
    assert len(read) == len(arena.drawings(folder).factors)
    assert min(each.score.value or 0 for each in read) >= 0.95


@torch.no_grad()
@pytest.mark.parametrize("folder", [COMPARED[0], SHORTCUT], ids=["faces", "shortcut"])
def test_copies_keep_the_decision(folder: Path) -> None:
    model = load(folder)
    images, _ = arena.drawings(folder).batch(range(200))
    kept = model.classifier(images).argmax(dim=1) == model(images).argmax(dim=1)
    assert float(kept.float().mean()) > 0.9

"""The figures of a model's card, against single syntheses."""

from pathlib import Path

import pytest
import torch
from doors import compose
from drawings import FEW, write_model
from omegaconf import OmegaConf

from benchmarks.card import Study, evaluate, label_leak, sufficiencies
from stylex.artifacts import read_json
from stylex.model import StylEx
from stylex.search.selection import Pick
from stylex.search.statistics import collect
from stylex.types import Images


@pytest.fixture
def study(tiny_model: StylEx, tiny_images: Images) -> Study:
    selecting = collect(tiny_model, [tiny_images[:6]], list(range(6)), quantile=0.0)
    scored = collect(tiny_model, [tiny_images[6:]], list(range(6)), quantile=0.0)
    return Study(tiny_model, selecting, scored, {"num_attributes": 2, "batch_size": 4})


def test_the_label_leak_is_the_share_of_decisions_that_the_appended_part_alone_changes(
    study: Study,
) -> None:
    model = study.model
    changed = []
    for latents, logits in zip(study.scored.latents, study.scored.base_logits, strict=True):
        for target in range(3):
            if target == int(logits.argmax()):
                continue
            swapped = latents.clone()
            swapped[-3:] = torch.eye(3)[target]
            after = model.classifier(model.render(model.generator.styles(swapped[None])))[0]
            changed.append(int(after.argmax()) != int(logits.argmax()))
    found = label_leak(study)
    assert found.num_images == len(changed) == 12
    assert 0 < sum(changed) < 12
    assert found.value == pytest.approx(sum(changed) / 12)


def test_sufficiency_moves_the_scored_images_to_the_extremes_of_those_selected_on(
    study: Study,
) -> None:
    said = study.scored.base_logits.argmax(dim=1)
    sources = said.unique().tolist()
    assert len(sources) > 1
    generator = torch.Generator().manual_seed(0)
    picks = {}
    for pair in ((a, b) for a in sources for b in range(3) if a != b):
        directions = torch.randint(2, (20,), generator=generator).tolist()
        coordinates = torch.randperm(56, generator=generator)[:20].tolist()
        picks[pair] = [Pick(c, d) for c, d in zip(coordinates, directions, strict=True)]
    nearest = {a: (a + 1) % 3 for a in sources}
    shares = {}
    for (source, target), chosen in picks.items():
        flips = []
        for styles in study.scored.styles[said == source]:
            moved = styles.clone()
            for coordinate, direction in chosen:
                moved[coordinate] = study.selecting.extremes[direction, coordinate]
            logits = study.model.classifier(study.model.render(moved[None]))
            flips.append(int(logits.argmax()) == target)
        shares[source, target] = sum(flips) / len(flips)
    found = sufficiencies(study, picks, nearest)
    everything = list(shares.values())
    near = [shares[pair] for pair in nearest.items()]
    assert sum(everything) > 0
    assert found["sufficiency_at_2_mean"].value == pytest.approx(sum(everything) / len(everything))
    assert found["sufficiency_at_2_nearest"].value == pytest.approx(sum(near) / len(near))


def test_the_door_scores_a_model_and_writes_its_figures(tmp_path: Path) -> None:
    model = write_model(tmp_path / "model")
    small = ["num_selection=4", "num_attributes=2", "num_shown=1", "num_images=4", "batch_size=32"]
    given = [f"checkpoint={model}", "data=faces", FEW, *small, f"output={tmp_path / 's.json'}"]
    raw = compose("card", given)
    config = OmegaConf.to_container(raw, resolve=True)
    assert isinstance(config, dict)
    evaluate(config, raw)
    scores = read_json(tmp_path / "s.json", "")
    assert scores["agreement"]["num_images"] == 60

"""The figures of a model's card: what its README and the shipped settings rest on.

`python -m benchmarks.card checkpoint=pretrained/fashion-32` writes scores.json.

Attributes are selected, and extremes taken, on one split; every figure is measured on the other.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import DictConfig
from torch import Tensor

from stylex.artifacts import write_json
from stylex.door import image_set, open_door
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.counterfactual.decisions import (
    confusions,
    decision_changed,
    flipped_to,
    is_visible,
)
from stylex.evaluation.fidelity import fidelity, reconstruct
from stylex.model import StylEx, load, model_folder, read_config
from stylex.search.counterfactuals import edited_logits, render, show, strengths_tried
from stylex.search.engine import Engine
from stylex.search.joint import OpenTable, select_in_rounds
from stylex.search.scores import Logit
from stylex.search.selection import Gain, Pick, select_paper
from stylex.search.statistics import Statistics, collect
from stylex.search.table import EffectTable

if TYPE_CHECKING:
    from stylex.data.datasets import ImageSet

Pair = tuple[int, int]


@dataclass(frozen=True)
class Study:
    """A model, the images that attributes are selected on, and those that they are measured on.

    Attributes:
        model: The model.
        selecting: Statistics of the first images; their extremes are the edits' targets everywhere.
        scored: Statistics of the second.
        config: The door's configuration.
    """

    model: StylEx
    selecting: Statistics
    scored: Statistics
    config: dict[str, Any]


def evaluate(config: dict[str, Any], raw: DictConfig) -> None:
    """Computes all scores and writes them."""
    if config["selector"] not in ("joint", "paper"):
        raise InputError(f"selector must be joint or paper, got '{config['selector']}'")
    if config["cpu_threads"] is not None:
        torch.set_num_threads(config["cpu_threads"])
    folder = model_folder(Path(config["checkpoint"]))
    model = load(folder, trust=config["trust"])
    split, other = config["scored_split"], config["selection_split"]
    scored = image_set(raw.data, split)
    selecting = scored if split == other else image_set(raw.data, other)
    positions = list(range(len(scored)))
    half = len(scored) // 2
    first, second = (
        (positions[:half], positions[half:])
        if split == other
        else (range(len(selecting)), positions)
    )
    study = Study(
        model,
        statistics(model, selecting, list(first), config),
        statistics(model, scored, list(second), config),
        config,
    )
    batches = [scored.batch(list(second)[i : i + 200]) for i in range(0, len(second), 200)]
    figures = fidelity(reconstruct(model, batches))
    picks = select_pairs(study)
    nearest = dict(enumerate(confusions(study.selecting.logits).argmax(dim=1).tolist()))
    figures |= sufficiencies(study, picks, nearest)
    figures["label_leak_flip_rate"] = label_leak(study)
    visible, visible_at_1, not_shown = visibility(study, picks, nearest)
    figures |= {"visible_share": visible, "visible_share_at_strength_1": visible_at_1}
    training = read_config(folder)["training"]
    scores = {
        **{name: figure.as_json() for name, figure in figures.items()},
        "hidden_share_in_training": training["hidden_share"],
        "hidden_by_in_training": training["hidden_by"],
        "stages_in_training": training["stages"],
        "attributes_not_shown": not_shown,
        "nearest": {model.class_names[a]: model.class_names[b] for a, b in nearest.items()},
        "settings": {k: v for k, v in config.items() if k not in ("data", "output", "cpu_threads")},
    }
    path = Path(config["output"]) if config["output"] else folder / "scores.json"
    write_json(path, scores)
    for name, figure in figures.items():
        low, high = figure.interval or (float("nan"),) * 2
        print(
            f"{name:32s} {figure.value or 0:.4f}  [{low:.4f}, {high:.4f}]  of {figure.num_images}"
        )
    print(f"wrote {path}")


def statistics(
    model: StylEx, data: "ImageSet", positions: list[int], config: dict[str, Any]
) -> Statistics:
    """Statistics of some images of a data set."""
    size = config["batch_size"]
    batches = (data.batch(positions[i : i + size])[0] for i in range(0, len(positions), size))
    return collect(model, batches, positions, config["quantile"])


def select_pairs(study: Study) -> dict[Pair, list[Pick]]:
    """Attributes of every ordered pair of classes."""
    found, config, model = study.selecting, study.config, study.model
    coordinates = model.generator.layout.searched()
    said = found.base_logits.argmax(dim=1)
    num_classes = found.base_logits.shape[1]
    picks: dict[Pair, list[Pick]] = {}
    for source in track(range(num_classes), "effects"):
        rows = (said == source).nonzero()[: config["num_selection"], 0]
        if len(rows) == 0:
            raise InputError(
                f"every class needs images to select on, got none for '{model.class_names[source]}'"
            )
        styles, base = found.styles[rows], found.base_logits[rows]
        engine = Engine(model, styles, base, found.extremes, batch_size=config["batch_size"])
        table = EffectTable.measured(engine.measure, torch.arange(len(rows)), coordinates, 1.0)
        for target in range(num_classes):
            if target == source:
                continue
            if config["selector"] == "joint":
                chosen = select_in_rounds(
                    table,
                    styles,
                    base,
                    found.extremes,
                    target,
                    open_table=opener(study),
                    judge=engine.logits,
                    num_attributes=config["num_attributes"],
                    picks_per_round=config["picks_per_round"],
                    num_candidates=config["num_candidates"],
                    strength=1.0,
                )
            else:
                chosen = select_paper(
                    table,
                    Gain(Logit(target), base),
                    config["num_attributes"],
                    config["threshold"],
                    drop_inconsistent=True,
                )
            picks[source, target] = chosen
    return picks


def opener(study: Study) -> OpenTable:
    """Exhaustive tables of moved images."""
    model, extremes = study.model, study.selecting.extremes

    def opened(styles: Tensor, logits: Tensor, free: Tensor) -> EffectTable:
        engine = Engine(model, styles, logits, extremes, batch_size=study.config["batch_size"])
        coordinates = free.any(dim=0).nonzero()[:, 0].tolist()
        return EffectTable.measured(engine.measure, torch.arange(len(styles)), coordinates, 1.0)

    return opened


def sufficiencies(
    study: Study, picks: dict[Pair, list[Pick]], nearest: dict[int, int]
) -> dict[str, Estimate]:
    """Mean over pairs of the share of images that all of a pair's attributes flip to the target.

    The images are those whose reconstruction is called the source; the intervals bootstrap over
    pairs.
    """
    said = study.scored.base_logits.argmax(dim=1)
    flips: dict[Pair, Tensor] = {}
    for (source, target), chosen in track(picks.items(), "sufficiency"):
        logits = edited_logits(
            study.model,
            study.scored.styles[said == source],
            chosen,
            study.selecting.extremes,
            1.0,
            study.config["batch_size"],
        )
        flips[source, target] = flipped_to(logits, target).double().mean()
    at = study.config["num_attributes"]
    return {
        f"sufficiency_at_{at}_nearest": mean(
            torch.stack([flips[pair] for pair in nearest.items()]).float()
        ),
        f"sufficiency_at_{at}_mean": mean(torch.stack(list(flips.values())).float()),
    }


@torch.no_grad()
def label_leak(study: Study) -> Estimate:
    """Share of decisions changed by appending the certainty of another class instead."""
    model, scored = study.model, study.scored
    said = scored.base_logits.argmax(dim=1)
    num_classes = scored.base_logits.shape[1]
    changed = []
    for target in track(range(num_classes), "label leak"):
        rows = said != target
        latents = scored.latents[rows]
        certain = torch.zeros(len(latents), num_classes)
        certain[:, target] = 1
        swapped = model.with_probabilities(latents, certain)
        parts = [model.generator.styles(part) for part in swapped.split(256)]
        after = torch.cat([model.classifier(model.render(styles)) for styles in parts])
        changed.append(decision_changed(scored.base_logits[rows], after))
    return share(torch.cat(changed))


def visibility(
    study: Study, picks: dict[Pair, list[Pick]], nearest: dict[int, int]
) -> tuple[Estimate, Estimate, int]:
    """Shares of shown attributes that can be seen, as shown and at 1; how many were not shown."""
    scored, config = study.scored, study.config
    said = scored.base_logits.argmax(dim=1)
    as_shown, at_one, not_shown = [], [], 0
    for pair in track(nearest.items(), "visibility"):
        rows = (said == pair[0]).nonzero()[: config["num_images"], 0]
        for pick in picks[pair][: config["num_shown"]]:
            found = show(
                study.model,
                rows,
                scored.styles[rows],
                pick,
                study.selecting.extremes,
                strengths=strengths_tried(config["shown_strength"], 1.0),
                target=pair[1],
                most=config["num_shown_images"],
                least_rise=config["least_rise"],
            )
            if found is None:
                not_shown += 1
                continue
            as_shown.append(is_visible(found.unchanged, found.changed))
            styles = scored.styles[found.indices]
            weak = render(
                study.model, found.indices, styles, [pick], study.selecting.extremes, 1.0, pair[1]
            )
            at_one.append(is_visible(weak.unchanged, weak.changed))
    return (
        share(torch.tensor(as_shown, dtype=torch.bool)),
        share(torch.tensor(at_one, dtype=torch.bool)),
        not_shown,
    )


def track(items: Iterable[Any], what: str) -> Iterable[Any]:
    """A progress bar with the time left."""
    from rich.progress import track as bar

    return bar(list(items), what.ljust(12))


if __name__ == "__main__":
    open_door("card", evaluate)

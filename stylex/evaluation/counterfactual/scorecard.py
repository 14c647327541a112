"""The section of evaluation.json on counterfactuals: the edits beside what they must beat."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.evaluation.counterfactual.baselines import attacked
from stylex.evaluation.counterfactual.decisions import flipped_to
from stylex.evaluation.counterfactual.diversity import Diversity
from stylex.evaluation.counterfactual.measurement import (
    Judges,
    Settings,
    Sources,
    measure,
)
from stylex.evaluation.counterfactual.metric import Scores
from stylex.evaluation.counterfactual.networks import Classifier, judge
from stylex.evaluation.counterfactual.presentation import (
    beside_baselines,
    side_by_side,
    sufficiency,
)
from stylex.evaluation.counterfactual.proximity import mean_difference
from stylex.evaluation.counterfactual.readings import not_computed, readings
from stylex.evaluation.counterfactual.validity import EditsToFlip
from stylex.evaluation.edits import Edits
from stylex.evaluation.tables import Section
from stylex.types import Pixels

NOTHING = Estimate(None, 0, None)


def scorecard(methods: Mapping[str, Edits], judges: Judges, settings: Settings) -> Section:
    """Scores the edits of one or more methods.

    The first method is set beside doing nothing, the copy and an attack; with more than one, a last
    table sets the methods side by side. Images whose original the classifier calls the target have
    nothing to flip: they are left out everywhere, and counted.

    Args:
        methods: By name, as `read_edits` gives them; all of the same images, source and target.
        judges: Networks; without one, its figures are absent, and the section says so.
        settings: What changes the figures.

    Raises:
        InputError: If no image is left, the methods differ in their images, or a classifier has
            other classes.
    """
    edits = next(iter(methods.values()))
    _check(methods, judges)
    target = edits.class_names.index(edits.target)
    logits = judge(judges.classifier, edits.images, settings.batch_size)
    kept = ~flipped_to(logits, target)
    if not kept.any():
        raise InputError(
            f"counterfactuals need images that the classifier does not call '{edits.target}', got "
            f"none among {len(kept)}; search with other images or another target"
        )
    sources = Sources(edits.images[kept], edits.reconstructions[kept], logits[kept], target)
    left = {name: _only(other, kept) for name, other in methods.items()}
    edits = next(iter(left.values()))
    scores = {name: score(other, sources, judges, settings) for name, other in left.items()}
    baselines = {
        name: measure(after, sources, judges, settings)
        for name, after in _baselines(sources, judges, settings).items()
    }
    texts = readings(judges, settings)
    tables = [
        *beside_baselines(edits, next(iter(scores.values())), baselines, texts),
        sufficiency(_flips_by_judge(edits, judges, settings)),
    ]
    if len(left) > 1:
        tables.append(side_by_side(left, scores, texts))
    return Section(
        "counterfactuals",
        "Do the edits change the decision?",
        _introduction(edits, int((~kept).sum()), judges),
        tuple(tables),
    )


def score(edits: Edits, sources: Sources, judges: Judges, settings: Settings) -> dict[str, Scores]:
    """Computes every metric of all edits together, and those of the edits themselves.

    Args:
        edits: Of the sources' images only.
        sources: What they start from.
        judges: Networks.
        settings: What changes the figures.
    """
    flips = _flips_by_number(edits, judges.classifier, settings)
    needed = EditsToFlip()
    needed.update(flips)
    found = measure(_together(edits), sources, judges, settings)
    found["edits_to_flip"] = needed.scores()
    found["edits_to_flip_median"] = Scores(needed.median(), NOTHING)
    found["never_flips"] = Scores(share(~flips.any(dim=0)), NOTHING)
    if len(edits.edited) > 1:
        found["diversity"] = _diversity(edits, judges.classifier, settings)
    return found


def _check(methods: Mapping[str, Edits], judges: Judges) -> None:
    edits, *others = methods.values()
    for other in others:
        if (other.source, other.target) != (edits.source, edits.target) or not torch.equal(
            other.positions, edits.positions
        ):
            raise InputError(
                "compared methods must edit the same images towards the same class, got others in "
                f"'{other.method}' than in '{edits.method}'; search again"
            )
    networks = {"classifier": judges.classifier, "oracle": judges.oracle}
    for name, network in networks.items():
        if network is None:
            continue
        num_classes = judge(network, edits.images[:1], 1).shape[1]
        if num_classes != len(edits.class_names):
            raise InputError(
                f"the {name} must tell the {len(edits.class_names)} classes of the edits apart, "
                f"got {num_classes}; give one of the same classes in the same order"
            )


def _only(edits: Edits, kept: Bool[Tensor, " n"]) -> Edits:
    """Edits of some of the images."""
    return replace(
        edits,
        positions=edits.positions[kept],
        images=edits.images[kept],
        reconstructions=edits.reconstructions[kept],
        edited=tuple(pixels[kept] for pixels in edits.edited),
        together=tuple(pixels[kept] for pixels in edits.together),
    )


def _together(edits: Edits) -> Pixels:
    """All edits together; without any edit, the copy."""
    return edits.together[-1] if edits.together else edits.reconstructions


def _introduction(edits: Edits, num_left_out: int, judges: Judges) -> str:
    source = "all other classes" if edits.source is None else edits.source
    parts = (
        f"From {source} to {edits.target}, at strength {edits.strength:g}, on images that did not "
        "help to find the edits.",
        "Every figure is measured on the saved file.",
        f"{num_left_out} images are left out: the classifier calls the original {edits.target} "
        "already."
        if num_left_out
        else "",
        not_computed(judges),
    )
    return " ".join(part for part in parts if part)


def _flips_by_judge(
    edits: Edits, judges: Judges, settings: Settings
) -> dict[str, Bool[Tensor, "k b"]]:
    found = {"classifier": _flips_by_number(edits, judges.classifier, settings)}
    if judges.oracle is not None:
        found["oracle"] = _flips_by_number(edits, judges.oracle, settings)
    return found


def _flips_by_number(
    edits: Edits, classifier: Classifier, settings: Settings
) -> Bool[Tensor, "k b"]:
    """Whether no edit, the first, the first two, and so on give the target."""
    target = edits.class_names.index(edits.target)
    return torch.stack(
        [
            flipped_to(judge(classifier, pixels, settings.batch_size), target)
            for pixels in (edits.reconstructions, *edits.together)
        ]
    )


def _diversity(edits: Edits, classifier: Classifier, settings: Settings) -> Scores:
    target = edits.class_names.index(edits.target)
    metric = Diversity(mean_difference, batch_size=settings.batch_size)
    for pixels in edits.edited:
        logits = judge(classifier, pixels, settings.batch_size)
        metric.update(edits.positions, pixels, flipped_to(logits, target))
    return metric.scores()


def _baselines(sources: Sources, judges: Judges, settings: Settings) -> dict[str, Pixels]:
    return {
        "identity": sources.images,
        "reconstruction": sources.reconstructions,
        "attack": attacked(
            judges.classifier,
            sources.images,
            sources.target,
            epsilon=settings.attack_epsilon,
            num_steps=settings.attack_steps,
            batch_size=settings.batch_size,
        ),
    }

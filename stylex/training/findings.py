"""What can be wrong with a training run, by the figures that it logs, and what to try.

A run goes on with the settings that it began with, so every advice is for a new one. No run of the
shipped models' reaches a threshold; what those reach stands beside.
"""

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from stylex.training.record import Record

AGAIN = 2  # validations in a row: one may be chance
IN_A_ROW = 3  # logged means in a row, each over many steps
CHANCE_MARGIN = 0.05  # two standard errors of 400 images; shipped runs 0.3 by step 1000
SETTLED = 3  # validations, the first of them at step 1, before a run must have left where it began
SETTLED_STEPS = 1000  # likewise
EXPLODED = 1000.0  # a training term; shipped runs 12, at step 0
AGREEMENT_FALL = 0.1  # below the best: six standard errors of 1000 images; shipped runs 0.03
RECONSTRUCTION_RISE = 2.0  # times the best; shipped runs 1.56, where a stage changed the aim
STALLED_AFTER = 6  # validations
STALLED_SHARE = 0.9  # of the first; shipped runs 0.25 at the second validation
PATH_EXPLODED = 100.0  # times the usual penalty, a square; shipped runs 3
PATH_VANISHED = 1e-3  # running mean; shipped runs 0.2
PATH_SETTLED = 5  # logged means until the running mean stands for the lengths
SURE = 0.95  # mean judgement of real images, as a probability; shipped runs 0.8
COLLAPSED = 0.1  # spread of samples over that of real images; shipped models 0.76 to 1.01
LONG_AT_ONE = 20  # logged means
AUGMENTED_FULLY = 0.99
TERMS = (
    *("adversarial", "adversarial_encoder", "discriminator", "image_l1", "latent_l1"),
    *("perceptual", "classifier_kl"),
)


Judge = Callable[[Record, Mapping[str, Any]], str | None]


@dataclass(frozen=True)
class Rule:
    """One thing that can be wrong.

    Attributes:
        name: Of the finding.
        reads: Figures that it is judged by; it is judged when any of them was logged, or whenever
            something was if it reads all.
        diverged: Whether the other findings would only be its consequences.
        judge: Says in words what is wrong, with figures and advice, or none. It gets the record
            and the settings: the `training` group, and `num_classes`.
    """

    name: str
    reads: tuple[str, ...]
    judge: Judge
    diverged: bool = False


def rules() -> tuple[Rule, ...]:
    """All that is looked for."""
    agreement, reconstruction = ("validation_agreement",), ("validation_reconstruction_l1",)
    return (
        Rule("not_finite", (), not_finite, diverged=True),
        Rule("terms_explode", TERMS, terms_explode, diverged=True),
        Rule("replaced_gradients", ("replaced_gradients",), replaced_gradients),
        Rule("agreement_at_chance", agreement, agreement_at_chance),
        Rule("agreement_falls", agreement, agreement_falls),
        Rule("reconstruction_rises", reconstruction, reconstruction_rises),
        Rule("reconstruction_stalls", reconstruction, reconstruction_stalls),
        Rule("path_lengths_explode", ("path_length",), path_lengths_explode),
        Rule("path_lengths_vanish", ("path_mean",), path_lengths_vanish),
        Rule("discriminator_overpowers", ("real_score",), discriminator_overpowers),
        Rule("samples_collapse", ("validation_sample_spread",), samples_collapse),
        Rule("augmentation_at_one", ("augment_p",), augmentation_at_one),
    )


def not_finite(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Terms that are infinite or no number."""
    found = {k: v for k, v in record.latest.items() if not math.isfinite(v)}
    if not found:
        return None
    listed = ", ".join(f"{name}={value}" for name, value in sorted(found.items()))
    return f"the run has diverged: {listed}; {_slower(settings)}, or with ops.precision=float32"


def terms_explode(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Losses of a size that no healthy network makes, before they stop to be numbers."""
    found = {k: record.latest[k] for k in TERMS if record.latest.get(k, 0.0) > EXPLODED}
    if not found:
        return None
    listed = ", ".join(f"{name}={value:.3g}" for name, value in found.items())
    return f"the run diverges: {listed}; {_slower(settings)}"


def replaced_gradients(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Gradients that had to be made finite in every step, or again and again."""
    values = record.last("replaced_gradients", IN_A_ROW)
    latest = record.latest["replaced_gradients"]
    if latest < 1 and not (values and min(values) > 0):
        return None
    return (
        f"{latest:.2g} gradient tensors a step held infinities or no numbers, which were replaced: "
        f"the networks overflow; {_slower(settings)}, or with ops.precision=float32"
    )


def agreement_at_chance(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Copies that are decided as if at random, if a term asks for better."""
    weight = highest_weight(settings, "classifier_kl")
    chance = 1 / settings["num_classes"]
    latest = record.latest["validation_agreement"]
    early = record.count.get("validation_agreement", 0) < SETTLED or record.step < SETTLED_STEPS
    if early or not weight or latest > chance + CHANCE_MARGIN:
        return None
    return (
        f"the classifier decides {latest:.2f} of the copies as their originals, and chance is "
        f"{chance:.2f}: the copies do not carry the decision; begin anew with "
        f"training.weights.classifier_kl={5 * weight:g} instead of {weight:g}, and look at the "
        "classifier with python -m stylex.doctor"
    )


def agreement_falls(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Copies that used to be decided better."""
    values, best = _since("validation_agreement", record), record.most.get("validation_agreement")
    if best is None or not values or max(values) >= best - AGREEMENT_FALL:
        return None
    return (
        f"agreement fell from {best:.2f} to {values[-1]:.2f}: the copies lose the decision; take "
        f"the best checkpoint, or {_slower(settings)}"
    )


def reconstruction_rises(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Copies that used to be closer to their originals."""
    name = "validation_reconstruction_l1"
    values, best = _since(name, record), record.least.get(name)
    if best is None or not values or min(values) <= RECONSTRUCTION_RISE * best:
        return None
    weight = highest_weight(settings, "image_l1")
    return (
        f"the copies' distance from their originals rose from {best:.3f} to {values[-1]:.3f}: the "
        f"encoder loses the image; take the best checkpoint, or {_slower(settings)}, or with "
        f"training.weights.image_l1={2 * weight or 1.0:g} instead of {weight:g}"
    )


def reconstruction_stalls(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Copies that never came closer to their originals."""
    name = "validation_reconstruction_l1"
    first, best = record.first.get(name), record.least.get(name)
    early = record.count.get(name, 0) < STALLED_AFTER or record.step < SETTLED_STEPS
    if first is None or best is None or early or best <= STALLED_SHARE * first:
        return None
    weight = highest_weight(settings, "image_l1")
    return (
        f"the copies are as far from their originals ({best:.3f}) as at the start ({first:.3f}): "
        f"the encoder does not learn; begin anew with training.weights.image_l1="
        f"{2 * weight or 1.0:g} instead of {weight:g}, or another training.encoder_rate_factor "
        f"than {settings['encoder_rate_factor']:g}"
    )


def path_lengths_explode(record: Record, settings: Mapping[str, Any]) -> str | None:
    """A path length penalty far above its usual one."""
    values = record.recent.get("path_length", [])
    before, now = values[:-AGAIN], values[-AGAIN:]
    if len(before) < PATH_SETTLED:
        return None
    usual = statistics.median(before)
    if min(now) <= PATH_EXPLODED * usual:
        return None
    return (
        f"the path length penalty is {now[-1]:.3g}, and was {usual:.3g}: a small step in the "
        f"latent space throws the image far; {_slower(settings)}"
    )


def path_lengths_vanish(record: Record, settings: Mapping[str, Any]) -> str | None:
    """A generator whose images do not depend on its latents."""
    values = record.last("path_mean", IN_A_ROW)
    trained = settings["noise_path"] and highest_weight(settings, "path_length")
    early = record.count.get("path_mean", 0) < PATH_SETTLED
    if early or not trained or not values or max(values) >= PATH_VANISHED:
        return None
    weight = highest_weight(settings, "path_length")
    return (
        f"the running mean of the path lengths is {values[-1]:.1e}: the generator makes the same "
        f"image of all latents; {_slower(settings)}, or with training.weights.path_length="
        f"{weight / 2:g} instead of {weight:g}"
    )


def discriminator_overpowers(record: Record, settings: Mapping[str, Any]) -> str | None:
    """A discriminator that is sure of the real images, and a generator that falls behind."""
    scores = record.last("real_score", IN_A_ROW)
    name = "adversarial" if "adversarial" in record.recent else "adversarial_encoder"
    before, now = (
        values and statistics.fmean(values)
        for values in (record.last(name, 2 * IN_A_ROW)[:IN_A_ROW], record.last(name, IN_A_ROW))
    )
    if not scores or min(scores) < SURE or not before or not now or now <= before:
        return None
    gamma = highest_weight(settings, "r1_gamma")
    augmented = settings["augment"]["mode"] == "adaptive"
    return (
        f"the discriminator gives real images {scores[-1]:.2f} on average, and the generator's "
        f"loss rose from {before:.2f} to {now:.2f}: it learns nothing more from it; begin anew "
        f"with training.weights.r1_gamma={10 * gamma or 0.1:g} instead of {gamma:g}"
        + ("" if augmented else ", or training.augment.mode=adaptive if the images are few")
    )


def samples_collapse(record: Record, settings: Mapping[str, Any]) -> str | None:
    """Samples of the noise path that are all alike; those of an untrained generator are."""
    name = "validation_sample_spread"
    latest = record.latest[name]
    settled = record.count.get(name, 0) > SETTLED and record.step >= SETTLED_STEPS
    had = record.most.get(name, 0.0) >= 2 * COLLAPSED or settled
    if not settings["noise_path"] or not had or not latest < COLLAPSED:
        return None
    gamma = highest_weight(settings, "r1_gamma")
    return (
        f"samples differ from one another by {latest:.2f} of what real images do: the generator "
        f"has collapsed to a few images; take an earlier checkpoint, or {_slower(settings)}, or "
        f"with training.weights.r1_gamma={10 * gamma or 0.1:g} instead of {gamma:g}"
    )


def augmentation_at_one(record: Record, settings: Mapping[str, Any]) -> str | None:
    """An augmentation that has no more to give."""
    values = record.last("augment_p", LONG_AT_ONE)
    if settings["augment"]["mode"] != "adaptive" or not values or min(values) < AUGMENTED_FULLY:
        return None
    target = settings["augment"]["target"]
    return (
        f"the augmentation's probability has stood at {values[-1]:.2f} for {LONG_AT_ONE} reports: "
        "the discriminator overfits all the same, and above 0.8 the generator begins to learn the "
        f"augmentation; add images, or begin anew with training.flip_share=0.5 if mirroring keeps "
        f"the class, or training.augment.target={min(0.9, target + 0.2):g} instead of {target:g}"
    )


def highest_weight(settings: Mapping[str, Any], term: str) -> float:
    """The largest weight that any stage gives a term."""
    stages = [stage.get("weights", {}) for stage in settings["stages"]]
    return max(weights.get(term, 0.0) for weights in (settings["weights"], *stages))


def _since(name: str, record: Record) -> list[float]:
    """The last validations' values, where there is a better one before them."""
    return record.last(name, AGAIN) if record.count.get(name, 0) > AGAIN else []


def _slower(settings: Mapping[str, Any]) -> str:
    rate = settings["learning_rate"]
    return f"begin anew with training.learning_rate={rate / 2:g} instead of {rate:g}"

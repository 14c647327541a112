"""Whether a retrained classifier leans less on a cue: accuracy by group, effects, reliance.

Both classifiers judge the same images and the same edits, so that differences are paired.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from stylex.classifier.frozen import FrozenClassifier
from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.estimates import Z_95, Estimate, mean, share
from stylex.evaluation.effects import logits_of
from stylex.evaluation.groups import Groups
from stylex.evaluation.reliance import Reliance
from stylex.evaluation.tables import Column, Row, Section, Table
from stylex.progress import Progress
from stylex.types import Labels

LEAST_IMAGES = 10  # of a group that may be called the worst
_BATCH = 256
_BEFORE, _AFTER = Column("before", "Before"), Column("after", "After")


@dataclass(frozen=True)
class Judged:
    """What two classifiers say of the same images.

    Attributes:
        class_names: In the order of the labels.
        labels: The data's.
        before: Whether the first classifier is right.
        after: Whether the second is.
    """

    class_names: tuple[str, ...]
    labels: Labels
    before: Bool[Tensor, " n"]
    after: Bool[Tensor, " n"]


@torch.no_grad()
def judge(
    before: FrozenClassifier, after: FrozenClassifier, data: ImageSet, progress: Progress
) -> Judged:
    """Lets both classifiers judge all images of a set.

    Args:
        before: The classifier that was explained.
        after: The retrained one, on the same device.
        data: Images that neither was trained on.
        progress: Tells how far it is.

    Raises:
        InputError: If the classes differ.
    """
    if not before.class_names == after.class_names == data.class_names:
        raise InputError(
            "both classifiers must have the data's classes in the same order "
            f"({', '.join(data.class_names)}), got {', '.join(before.class_names)} and "
            f"{', '.join(after.class_names)}; retrain on the same data"
        )
    found: list[list[Tensor]] = [[], []]
    for positions in progress(list(torch.arange(len(data)).split(_BATCH)), "accuracy"):
        images, _ = data.batch(positions.tolist())
        for parts, classifier in zip(found, (before, after), strict=True):
            parts.append(logits_of(classifier, images).argmax(dim=1))
    right = [torch.cat(parts) == data.labels for parts in found]
    return Judged(data.class_names, data.labels, right[0], right[1])


def bias_section(
    judged: Judged, groups: Sequence[Groups], effects: Table, reliance: Table | None
) -> Section:
    """Everything about a bias before and after it was repaired.

    Args:
        judged: Both classifiers on held-out images.
        groups: At least one division of the same images.
        effects: What `effect_table` gives.
        reliance: What `reliance_table` gives; none without known factors.
    """
    tables = [accuracy_table(judged, each) for each in groups]
    tables += [effects] if reliance is None else [effects, reliance]
    return Section(
        "bias",
        "Was the bias repaired?",
        "A classifier that leans on a cue which only goes along with a class is wrong where the "
        "two part. Retrained on images with the cue changed, it should be right more often in its "
        "worst group and heed the cue less. Over all images it may lose what the cue gave it, as "
        "far as these images carry the cue as the training images did; the mean of the groups "
        "tells without it. Both classifiers judge the same images.",
        tuple(tables),
    )


def accuracy_table(judged: Judged, groups: Groups) -> Table:
    """Accuracy over all images, in each class on each side, and in the worst of these groups."""
    if len(groups.members) != len(judged.labels):
        raise ValueError(
            f"groups must be of the images judged, got {len(groups.members)} of "
            f"{len(judged.labels)}"
        )
    everything = torch.ones(len(judged.labels), dtype=torch.bool)
    members, masks, parts = torch.tensor(groups.members), [], []
    for label, class_name in enumerate(judged.class_names):
        for position, side in enumerate(groups.sides):
            masks.append((judged.labels == label) & (members == position))
            names = (f"{class_name}: {side}", f"{class_name}, {side}")
            parts.append(_accuracy_row(*names, judged, masks[-1]))
    rows = [_accuracy_row("all", "All images", judged, everything)]
    return Table(
        f"accuracy_by_{groups.name}",
        f"Accuracy by class and {groups.title}",
        "Share of test images called what their label says, with Wilson's interval. A group of "
        f"fewer than {LEAST_IMAGES} images is shown, but never called the worst.",
        (_BEFORE, _AFTER, Column("change", "Change", "Paired; above 0 is better.")),
        (*rows, *parts, _mean_row(judged, masks), _worst_row(parts)),
    )


def _accuracy_row(name: str, title: str, judged: Judged, rows: Bool[Tensor, " n"]) -> Row:
    before, after = judged.before[rows], judged.after[rows]
    few = len(before) < LEAST_IMAGES
    reading = f"Fewer than {LEAST_IMAGES} images: never called the worst." if few else ""
    change = mean(after.double() - before.double())
    return Row(name, title, reading, (share(before), share(after), change))


def _mean_row(judged: Judged, masks: Sequence[Bool[Tensor, " n"]]) -> Row:
    """The mean of the groups' accuracies, as if the cue went along with no class."""
    large = [mask for mask in masks if int(mask.sum()) >= LEAST_IMAGES]
    before, after = (
        [right[mask].double() for mask in large] for right in (judged.before, judged.after)
    )
    change = [y - x for x, y in zip(before, after, strict=True)]
    return Row(
        "mean_of_groups",
        "Mean of the groups",
        f"Every group of at least {LEAST_IMAGES} images counts the same; the interval is normal.",
        (_stratified(before), _stratified(after), _stratified(change)),
    )


def _stratified(groups: Sequence[Tensor]) -> Estimate:
    """Mean of the groups' means, each group drawn by itself."""
    if not groups:
        return Estimate(None, 0, None)
    centre = sum(float(group.mean()) for group in groups) / len(groups)
    variance = sum(float(group.var()) / len(group) for group in groups) / len(groups) ** 2
    half = Z_95 * variance**0.5
    return Estimate(centre, sum(map(len, groups)), (centre - half, centre + half))


def _worst_row(groups: Sequence[Row]) -> Row:
    """The lowest accuracy of the groups that are large enough, of each classifier by itself."""
    worst: list[tuple[float, str, Estimate]] = []
    for column in (0, 1):
        found = [
            (cell.value, row.title, cell)
            for row in groups
            if isinstance(cell := row.cells[column], Estimate)
            and cell.value is not None
            and cell.num_images >= LEAST_IMAGES
        ]
        if not found:
            reading = f"No group has {LEAST_IMAGES} images."
            return Row("worst_group", "Worst group", reading, (None, None, None))
        worst.append(min(found, key=lambda entry: entry[0]))
    (low, first, before), (high, second, after) = worst
    return Row(
        "worst_group",
        "Worst group",
        f"Before: {first}. After: {second}. Each interval is its group's alone: it does not allow "
        "for the group being picked as the lowest.",
        (before, after, f"{100 * (high - low):+.1f} points"),
    )


def reliance_table(before: Reliance, after: Reliance) -> Table:
    """Reliance of both classifiers on each known factor."""
    effects: Mapping[str, Estimate] = dict(zip(after.factors, after.effects, strict=True))
    rows = tuple(
        Row(name, name.replace("_", " "), "", (effect, effects[name]), unit="drawings")
        for name, effect in zip(before.factors, before.effects, strict=True)
    )
    return Table(
        "reliance",
        f"What each classifier's {before.target} relies on",
        "Mean change of the log odds when the same drawing gets the factor, in standard deviations "
        "of the classifier's own log odds over the drawings.",
        (_BEFORE, _AFTER),
        rows,
    )

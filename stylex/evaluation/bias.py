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
from stylex.estimates import Estimate, mean, share
from stylex.evaluation.attributes import Attribute, Extremes, moved_towards
from stylex.evaluation.edits import Edits
from stylex.evaluation.groups import Groups
from stylex.evaluation.reliance import Reliance, log_odds
from stylex.evaluation.tables import Column, Row, Section, Table
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.types import Images, Labels, Logits, Pixels

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


@dataclass(frozen=True)
class Edited:
    """Images without and with one edit.

    Attributes:
        name: Of the edit.
        plain: Unedited reconstructions.
        changed: The same with the edit.
    """

    name: str
    plain: Pixels
    changed: Pixels


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
            parts.append(_logits(classifier, images).argmax(dim=1))
    right = [torch.cat(parts) == data.labels for parts in found]
    return Judged(data.class_names, data.labels, right[0], right[1])


def saved_edits(edits: Edits) -> tuple[Edited, ...]:
    """Each of the edits that a search saved."""
    return tuple(
        Edited(name, edits.reconstructions, changed)
        for name, changed in zip(edits.names, edits.edited, strict=True)
    )


@torch.no_grad()
def rendered_edits(
    model: StylEx,
    images: Images,
    attributes: Sequence[Attribute],
    extremes: Extremes,
    strength: float,
    progress: Progress,
) -> tuple[Edited, ...]:
    """Renders attributes anew, each by itself and in the search's direction.

    Args:
        model: The model that the search explained.
        images: Held-out images.
        attributes: Of the search.
        extremes: Of the search.
        strength: Of the edits: 1 reaches the extreme.
        progress: Tells how far it is.
    """
    device = model.generator.const.device
    plain: list[Pixels] = []
    changed: list[list[Pixels]] = [[] for _ in attributes]
    for part in progress(list(images.split(_BATCH)), "edits"):
        styles = model.generator.styles(model.encode(part.to(device)))
        plain.append(to_uint8(model.generator.synthesis(styles)).cpu())
        for pixels, attribute in zip(changed, attributes, strict=True):
            moved = moved_towards(styles, attribute, extremes, strength)
            pixels.append(to_uint8(model.generator.synthesis(moved)).cpu())
    unedited = torch.cat(plain)
    return tuple(
        Edited(attribute.name, unedited, torch.cat(pixels))
        for attribute, pixels in zip(attributes, changed, strict=True)
    )


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
        "worst group and heed the cue less, at little cost over all images. Both classifiers judge "
        "the same images; a change is the mean over images of the second less the first.",
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
    rows = [_accuracy_row("all", "All images", judged, everything)]
    members, parts = torch.tensor(groups.members), []
    for label, class_name in enumerate(judged.class_names):
        for position, side in enumerate(groups.sides):
            rows_in = (judged.labels == label) & (members == position)
            parts.append(
                _accuracy_row(f"{class_name}: {side}", f"{class_name}, {side}", judged, rows_in)
            )
    return Table(
        f"accuracy_by_{groups.name}",
        f"Accuracy by class and {groups.title}",
        "Share of test images called what their label says, with Wilson's interval. A group of "
        f"fewer than {LEAST_IMAGES} images is shown, but never called the worst.",
        (_BEFORE, _AFTER, Column("change", "Change", "Paired; above 0 is better.")),
        (*rows, *parts, _worst_row(parts)),
    )


def _accuracy_row(name: str, title: str, judged: Judged, rows: Bool[Tensor, " n"]) -> Row:
    before, after = judged.before[rows], judged.after[rows]
    few = len(before) < LEAST_IMAGES
    reading = f"Fewer than {LEAST_IMAGES} images: never called the worst." if few else ""
    change = mean(after.double() - before.double())
    return Row(name, title, reading, (share(before), share(after), change))


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


def effect_table(
    edits: Sequence[Edited],
    before: FrozenClassifier,
    after: FrozenClassifier,
    target: str,
) -> Table:
    """How far each edit moves both classifiers' log odds of a class.

    Args:
        edits: On images that no attribute was selected on.
        before: The classifier that was explained.
        after: The retrained one.
        target: The class that the edits move to.

    Raises:
        InputError: If there is no such class.
    """
    if target not in before.class_names:
        raise InputError(f"target must be one of {', '.join(before.class_names)}, got '{target}'")
    position = before.class_names.index(target)
    rows = []
    for edit in edits:
        effects, relative = [], []
        for classifier in (before, after):
            plain, changed = (
                log_odds(_logits(classifier, from_uint8(pixels)), position).double()
                for pixels in (edit.plain, edit.changed)
            )
            effects.append(changed - plain)
            spread = float(plain.std()) if len(plain) > 1 else 0.0
            relative.append(mean(effects[-1] / spread) if spread > 0 else None)
        cells = (mean(effects[0]), mean(effects[1]), mean(effects[1] - effects[0]), *relative)
        rows.append(Row(edit.name, edit.name, "", cells, base="reconstruction"))
    return Table(
        "attribute_effects",
        f"What the attributes do to the log odds of {target}",
        "Mean change of the log odds when an attribute alone is changed, the same pixels for both "
        "classifiers. A classifier may be more or less sure of everything, so the last two columns "
        "divide by the standard deviation of its own log odds over the unedited images: at 0 an "
        "attribute is not heeded.",
        (
            _BEFORE,
            _AFTER,
            Column("change", "Change", "Paired; in logits."),
            Column("before_relative", "Before, in standard deviations"),
            Column("after_relative", "After, in standard deviations"),
        ),
        tuple(rows),
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


@torch.no_grad()
def _logits(classifier: FrozenClassifier, images: Images) -> Logits:
    """On the CPU."""
    device = classifier.adapter.mean.device
    return torch.cat([classifier(part.to(device)).cpu() for part in images.split(_BATCH)])

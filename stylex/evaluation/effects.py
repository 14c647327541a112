"""What edits do to a classifier's log odds, before and after it was retrained.

The same pixels are judged twice, so that differences are paired.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from stylex.classifier.frozen import FrozenClassifier
from stylex.errors import InputError
from stylex.estimates import mean
from stylex.evaluation.attributes import Attribute, Extremes, moved_towards
from stylex.evaluation.edits import Edits
from stylex.evaluation.reliance import log_odds
from stylex.evaluation.tables import Column, Row, Table
from stylex.imaging import from_uint8, to_uint8
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.types import Images, Logits, Pixels

_BATCH = 256


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
        plain.append(to_uint8(model.render(styles)).cpu())
        for pixels, attribute in zip(changed, attributes, strict=True):
            moved = moved_towards(styles, attribute, extremes, strength)
            pixels.append(to_uint8(model.render(moved)).cpu())
    unedited = torch.cat(plain)
    return tuple(
        Edited(attribute.name, unedited, torch.cat(pixels))
        for attribute, pixels in zip(attributes, changed, strict=True)
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
                log_odds(logits_of(classifier, from_uint8(pixels)), position).double()
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
            Column("before", "Before"),
            Column("after", "After"),
            Column("change", "Change", "Paired; in logits."),
            Column("before_relative", "Before, in standard deviations"),
            Column("after_relative", "After, in standard deviations"),
        ),
        tuple(rows),
    )


@torch.no_grad()
def logits_of(classifier: FrozenClassifier, images: Images) -> Logits:
    """A classifier's logits of any number of images, on the CPU."""
    device = classifier.adapter.mean.device
    return torch.cat([classifier(part.to(device)).cpu() for part in images.split(_BATCH)])

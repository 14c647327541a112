"""What an attribute does to the labels that are not explained, of a classifier of many labels."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from stylex.estimates import Estimate, mean
from stylex.model import StylEx
from stylex.search.counterfactuals import move
from stylex.search.selection import Pick
from stylex.search.statistics import BLOCK, Statistics
from stylex.types import Styles


@dataclass(frozen=True)
class LabelChange:
    """What an edit does to one other label, on images that its selection did not see.

    Attributes:
        name: Of the label.
        logit: Mean change of its logit.
        probability: Mean change of its sigmoid.
    """

    name: str
    logit: Estimate
    probability: Estimate

    def as_json(self) -> dict[str, Any]:
        """All parts by name."""
        return asdict(self)


@torch.no_grad()
def changes_of_others(
    model: StylEx,
    statistics: Statistics,
    picks: Sequence[Pick],
    rows: Int64[Tensor, " n"],
    strength: float,
) -> list[tuple[LabelChange, ...] | None]:
    """Measures the other labels with every pick alone; costs a pass per pick and image.

    Args:
        model: Under explanation.
        statistics: Of all reference images.
        picks: The attributes, in the order reported.
        rows: Held-out rows of `statistics`.
        strength: Of the search.

    Returns:
        For every pick all labels but the explained one, the most changed probability first; none
        of a classifier whose outputs are its classes.
    """
    reading = model.classifier.reading
    if reading.output is None:
        return [None] * len(picks)
    styles = statistics.styles[rows]
    base = _outputs(model, styles)
    found: list[tuple[LabelChange, ...] | None] = []
    for pick in picks:
        moved = move(styles, [pick], statistics.extremes, strength)
        outputs = _outputs(model, moved)
        logits, probabilities = outputs - base, outputs.sigmoid() - base.sigmoid()
        changes = [
            LabelChange(name, mean(logits[:, i]), mean(probabilities[:, i]))
            for i, name in enumerate(reading.names_of(outputs.shape[1]))
            if i != reading.output
        ]
        found.append(tuple(sorted(changes, key=lambda each: -abs(each.probability.value or 0.0))))
    return found


def _outputs(model: StylEx, styles: Styles) -> Float[Tensor, "n o"]:
    device = model.generator.const.device
    parts = [
        model.classifier.outputs(model.render(part.to(device))).float().cpu()
        for part in styles.split(BLOCK)
    ]
    return torch.cat(parts)

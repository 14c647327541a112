"""Several classifiers before one model: where they come from, and which of them judges.

Styles and reconstructions stay those of the model with its own classifier; only what an engine
measures is another classifier's, while that one is seated.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from stylex.classifier.frozen import FrozenClassifier
from stylex.search.crew import Crew, Member
from stylex.search.statistics import BLOCK
from stylex.types import Logits, Styles


@dataclass
class Panel(Member):
    """What a process holds when several classifiers judge.

    Attributes:
        classifiers: The reference first; on the model's device.
    """

    classifiers: Sequence[FrozenClassifier] = ()

    def __post_init__(self) -> None:
        """Remembers the model's own classifier."""
        self.own = self.model.classifier


def panel_of(crew: Crew) -> Panel:
    """What this process of a crew holds."""
    assert isinstance(crew.member, Panel)
    return crew.member


def _seat(crew: Crew, position: int | None) -> None:
    """Makes a classifier the model's, none its own; an engine measures under one alone."""
    panel = panel_of(crew)
    panel.model.classifier = panel.own if position is None else panel.classifiers[position]
    panel.engine = panel.baseline = None


@contextmanager
def seated(crew: Crew, position: int) -> Iterator[None]:
    """One classifier judges inside the block; after an error the others end with their own."""
    crew.call(_seat, position)
    try:
        yield
    except BaseException:
        _seat(crew, None)  # the others may be amid a task
        raise
    crew.call(_seat, None)


@torch.no_grad()
def judged(crew: Crew, styles: Styles) -> list[tuple[Logits, Logits]]:
    """Every classifier's logits of all images and of their reconstructions, in shared blocks."""
    panel = panel_of(crew)
    device, autocast = panel.model.generator.const.device, panel.computing.get("autocast")
    shape = (2, len(panel.classifiers), len(styles), panel.own.num_classes)
    found = torch.zeros(shape)
    blocks = torch.arange(len(styles)).split(BLOCK)
    for j in panel.progress(crew.share(len(blocks)), "classifiers"):
        rows = blocks[j]
        with torch.autocast(device.type, autocast, autocast is not None):
            originals = panel.images[rows].to(device)
            rebuilt = panel.model.render(styles[rows].to(device))
            for c, classifier in enumerate(panel.classifiers):
                found[0, c, rows] = classifier(originals).float().cpu()
                found[1, c, rows] = classifier(rebuilt).float().cpu()
    logits, base = crew.merge(found)
    return list(zip(logits, base, strict=True))

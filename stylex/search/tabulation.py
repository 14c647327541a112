"""Tables of effects for the images of a study: exhaustive on disk, or screened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.search.crew import Crew
from stylex.search.edits import Edits
from stylex.search.journal import Baseline, Journal
from stylex.search.scores import Logit, LogProbability, Score
from stylex.search.screening import ScreenedTable, Screening, covariates
from stylex.search.selection import Gain
from stylex.search.statistics import Statistics
from stylex.search.table import EffectTable, fill
from stylex.types import Logits, Styles


class Tabulation:
    """Opens tables of effects and counts what they cost.

    Attributes:
        journal: Measures edits of the unedited images, by their rows in the statistics.
        coordinates: Flat coordinates that are searched.
        classes: Whose effects are kept, in the order of a table's last axis.
        screened: Tables that were opened by screening, in order.
        exhaustive_passes: What the tables opened would have cost without screening.
    """

    def __init__(
        self,
        crew: Crew,
        statistics: Statistics,
        coordinates: Sequence[int],
        classes: Sequence[int],
        screening: Screening | None,
        strength: float,
        folder: Path,
        made_by: Mapping[str, Any],
    ) -> None:
        """Prepares tables.

        Args:
            crew: The processes that measure.
            statistics: Of the reference images.
            coordinates: Flat coordinates to search, 0 to m − 1.
            classes: Classes whose effects a selection needs; a screened table keeps all.
            screening: How sure to be; none measures everything.
            strength: Of the edits.
            folder: Where measurements are kept.
            made_by: What makes them; a folder filled by something else is refused.
        """
        self.crew, self.statistics, self.folder = crew, statistics, folder
        self.coordinates, self.screening, self.strength = coordinates, screening, strength
        everything = range(statistics.base_logits.shape[1])
        self.classes = tuple(everything if screening is not None else classes)
        self.made_by = dict(made_by)
        self.screened: list[ScreenedTable] = []
        self.exhaustive_passes = 0
        baseline = Baseline(statistics.styles, statistics.base_logits, statistics.extremes)
        self.journal = self._journal(baseline)
        self._filled_passes = 0
        self._others: list[Journal] = []

    @property
    def passes(self) -> int:
        """Generator passes made by all tables and journals."""
        return self._filled_passes + sum(j.passes for j in (self.journal, *self._others))

    def gain(self, score: type[Logit] | type[LogProbability], target: int, logits: Logits) -> Gain:
        """The gain of a class's score in the tables opened here."""
        return Gain(score(self.classes.index(target)), logits[:, self.classes])

    def table(
        self, rows: Int64[Tensor, " n"], score: Score, name: str
    ) -> "EffectTable | ScreenedTable":
        """A table of unedited images.

        Args:
            rows: Of the statistics.
            score: What its edits are to raise, of all classes' logits.
            name: Of the group that keeps an exhaustive table.
        """
        self.exhaustive_passes += len(rows) * 2 * len(self.coordinates)
        if self.screening is not None:
            return self._screened(self.journal, rows, score)
        path = self.folder / name
        made_by = {**self.made_by, "images": self.statistics.indices[rows].tolist()}
        self._filled_passes += len(rows) * (2 * len(self.coordinates) + 1)
        self.journal.open()
        arguments = (rows.tolist(), list(self.coordinates), list(self.classes), self.strength)
        self.crew.call(_fill, path, *arguments, made_by)
        return EffectTable.read(path)

    def moved_table(
        self, styles: Styles, logits: Logits, score: Score, free: Bool[Tensor, "2 m"]
    ) -> "EffectTable | ScreenedTable":
        """A table of images that were edited before, for some free edits.

        Args:
            styles: Of the images as they are now.
            logits: Of these.
            score: What edits are to raise.
            free: Edits to measure.
        """
        journal = self._journal(Baseline(styles, logits, self.statistics.extremes))
        self._others.append(journal)
        rows = torch.arange(len(styles))
        coordinates = free.any(dim=0).nonzero()[:, 0]
        self.exhaustive_passes += len(rows) * 2 * len(coordinates)
        if self.screening is not None:
            return self._screened(journal, rows, score)
        return EffectTable.measured(journal.measure, rows, coordinates.tolist(), self.strength)

    def predicted(
        self, journal: Journal, rows: Int64[Tensor, " n"], score: Score
    ) -> Float[Tensor, "n 2 m"]:
        """First-order estimates of every edit's gain on a journal's images."""
        slopes = journal.slopes(rows, score)[:, self.coordinates]
        here = journal.baseline.styles[rows][:, self.coordinates]
        step = journal.baseline.extremes[:, None, self.coordinates] - here
        change = (self.strength * slopes * step).transpose(0, 1)
        return score.possible(journal.baseline.base_logits[rows][:, None, None], change)

    def _screened(self, journal: Journal, rows: Tensor, score: Score) -> ScreenedTable:
        assert self.screening is not None
        baseline = journal.baseline
        styles, logits = baseline.styles[rows], baseline.base_logits[rows]
        predicted = self.predicted(journal, rows, score)

        def measure(edits: Edits) -> Tensor:
            return journal.measure(
                Edits(rows[edits.images], edits.coordinates, edits.directions, edits.strengths)
            )

        facts = covariates(torch.cat((logits, styles), dim=1))
        found = ScreenedTable(measure, predicted, facts, self.strength, self.screening)
        self.screened.append(found)
        return found

    def _journal(self, baseline: Baseline) -> Journal:
        return Journal(baseline, self.folder / "measured", self.made_by, self.crew)


def _fill(
    crew: Crew,
    path: Path,
    rows: list[int],
    coordinates: list[int],
    classes: list[int],
    strength: float,
    made_by: dict[str, Any],
) -> None:
    fill(
        path, crew.engine(), rows, coordinates, classes, strength=strength, made_by=made_by,
        progress=crew.member.progress, rank=crew.place.rank, world_size=crew.place.size,
    )  # fmt: skip
    crew.wait()

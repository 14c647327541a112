"""A selection put to a table: which edits move some images to a class, by each selector."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.progress import Progress
from stylex.search import selection
from stylex.search.joint import RankedTable, select_in_rounds
from stylex.search.results import Settings
from stylex.search.scores import Logit, LogProbability, Rise
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.search.tabulation import Tabulation
from stylex.types import Logits, Styles


@dataclass(frozen=True)
class Question:
    """Which edits move some images to a class.

    Attributes:
        tables: Where tables come from.
        table: Effects on the unedited images.
        rows: Of the statistics: the images.
        stable: Which of them count.
        target: The class to move to.
        statistics: Of all reference images.
        settings: Of the search.
        passes: Filter of a candidate.
        progress: Wraps long loops.
    """

    tables: Tabulation
    table: RankedTable
    rows: Int64[Tensor, " h"]
    stable: Bool[Tensor, " h"]
    target: int
    statistics: Statistics
    settings: Settings
    passes: selection.Filter
    progress: Progress

    @property
    def base_logits(self) -> Logits:
        """Of the images' unedited reconstructions."""
        return self.statistics.base_logits[self.rows]


def ask_joint(question: Question) -> list[Pick]:
    """The joint selector's answer."""
    settings, tables = question.settings, question.tables

    def open_table(styles: Styles, logits: Logits, free: Bool[Tensor, "2 m"]) -> selection.Table:
        return tables.moved_table(styles, logits, LogProbability(question.target), free)

    return select_in_rounds(
        question.table,
        question.statistics.styles[question.rows],
        question.base_logits,
        question.statistics.extremes,
        question.target,
        open_table=open_table,
        judge=tables.journal.logits,
        num_attributes=settings.num_attributes,
        picks_per_round=settings.picks_per_round,
        num_candidates=settings.num_candidates,
        strength=settings.strength,
        stable=question.stable,
        passes=question.passes,
        progress=question.progress,
    )


def ask_paper(question: Question) -> list[Pick]:
    """The paper's selector's answer."""
    return selection.select_paper(
        question.table,
        question.tables.gain(Logit, question.target, question.base_logits),
        question.settings.num_attributes,
        question.settings.threshold,
        question.settings.drop_inconsistent,
        stable=question.stable,
        passes=question.passes,
        progress=question.progress,
    )


def ask_notebook(question: Question) -> list[Pick]:
    """The notebook's selector's answer towards one class; unstable images' effects are 0."""
    return selection.select_notebook(
        question.table,
        question.tables.gain(Rise, question.target, question.base_logits),
        question.settings.num_attributes,
        question.settings.max_image_effect,
        counted=question.stable,
        passes=question.passes,
    )


def ask_notebook_pair(there: Question, back: Question) -> list[Pick]:
    """The notebook's selector's answer for a pair of classes: there, and the way back."""

    def column(pick: Pick) -> Float[Tensor, "n k"]:
        found = []
        for part in (there, back):
            everything = torch.ones_like(part.stable)
            found.append(part.table.column(pick, everything) * part.stable[:, None])
        return torch.cat(found)

    at = there.tables.classes.index
    return selection.merge_directions(
        column,
        at(back.target),
        at(there.target),
        ask_notebook(there),
        ask_notebook(back),
        there.settings.num_attributes,
    )

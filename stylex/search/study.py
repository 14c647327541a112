"""One search: the questions that can be put to a model and its reference images."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, share
from stylex.gan.residual import Discriminator
from stylex.search import selection
from stylex.search.counterfactuals import (
    Counterfactuals,
    most_rising,
    move,
    render,
    show,
    strengths_tried,
)
from stylex.search.crew import Crew
from stylex.search.discrimination import DiscriminatorFilter
from stylex.search.edits import Edits
from stylex.search.evidence import Evidence, gather
from stylex.search.other_labels import LabelChange, changes_of_others
from stylex.search.questions import (
    Question,
    ask_joint,
    ask_notebook,
    ask_notebook_pair,
    ask_paper,
)
from stylex.search.rankers import compare_rankers
from stylex.search.results import Attribute, Explanation, SelectionReport, Settings
from stylex.search.scores import Logit, LogProbability, Rise, Score
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.search.tabulation import Tabulation
from stylex.types import Logits, Styles

LEAST_IMAGES = (
    8  # called the source: three to select on, three to show, and some that do not show it
)
SCORES: dict[str, Callable[[int], Score]] = {
    "joint": LogProbability,
    "paper": Logit,
    "notebook": Rise,
}
IMAGE_ROUNDS = 20  # in which one image's edits are measured, to show how far they are,
IMAGE_ROUND = 64  # and their least edits
FILTERED_IMAGES = 10  # judged per direction by the discriminator filter (official notebook)
FILTERED_EFFECT = 0.2  # logits; of the images that it judges (official notebook)
FILTERED_STRENGTH = 2.0  # of the judged edits (official notebook)


def class_index(class_names: tuple[str, ...], name: str) -> int:
    """Index of a class, by its name in any case.

    Raises:
        InputError: If there is no such class.
    """
    lower = [n.lower() for n in class_names]
    if str(name).lower() not in lower:
        raise InputError(f"a class must be one of {', '.join(class_names)}, got '{name}'")
    return lower.index(str(name).lower())


def most_confused_pair(statistics: Statistics) -> tuple[int, int]:
    """The classes (from, to) whose images get the highest mean probability of another class."""
    probabilities = statistics.base_logits.softmax(dim=1)
    said = probabilities.argmax(dim=1)
    num_classes = probabilities.shape[1]
    table = torch.zeros(num_classes, num_classes)
    for k in range(num_classes):
        if (said == k).sum() >= LEAST_IMAGES:
            table[k] = probabilities[said == k].mean(dim=0)
    if not table.any():
        raise InputError(
            f"the search needs at least {LEAST_IMAGES} images that the classifier calls the same, "
            f"got {int(said.bincount().max())}; give more images"
        )
    return divmod(int(table.fill_diagonal_(0).argmax()), num_classes)


class Search:
    """One search: a model, the reference images' statistics, and the settings."""

    def __init__(
        self,
        crew: Crew,
        statistics: Statistics,
        settings: Settings,
        folder: Path,
        made_by: dict[str, Any],
        discriminator: Discriminator | None,
    ) -> None:
        """Prepares a search.

        Args:
            crew: The processes that search.
            statistics: Of the reference images.
            settings: Of the search.
            folder: Where measurements go.
            made_by: What makes them.
            discriminator: Judge of the discriminator filter; none switches the filter off.
        """
        self.crew, self.model, self.statistics = crew, crew.member.model, statistics
        self.settings, self.folder, self.made_by = settings, folder, made_by
        self.discriminator = discriminator
        called = crew.member.called
        self.said = statistics.base_logits.argmax(dim=1) if called is None else called
        self.coordinates = self.model.generator.layout.searched(settings.torgb)

    def tabulation(self, source: int | None, target: int) -> Tabulation:
        """Tables for a question; a selection of logits needs no other class than its own."""
        everything = range(len(self.model.class_names))
        few = [target] if source is None else [target, source]
        return Tabulation(
            self.crew,
            self.statistics,
            self.coordinates,
            everything if self.settings.selector == "joint" else few,
            self.settings.screening(),
            self.settings.strength,
            self.folder,
            self.made_by,
        )

    def rows_called(self, wanted: Bool[Tensor, " n"], what: str) -> Int64[Tensor, " r"]:
        """The first images that the classifier calls as wanted, in their reconstruction.

        Raises:
            InputError: If they are too few to select on one half and measure on the other.
        """
        rows = wanted.nonzero()[: self.settings.num_images, 0]
        if len(rows) < LEAST_IMAGES:
            raise InputError(
                f"the search needs at least {LEAST_IMAGES} images that the classifier calls "
                f"{what}, "
                f"got {len(rows)}; give more images or another class"
            )
        return rows

    def explain_class(self, source: int | None, target: int) -> Explanation:
        """Attributes that move many images: selected on one half, measured on the other."""
        names = self.model.class_names
        if source == target:
            raise InputError(f"source and target must be two classes, got '{names[target]}' twice")
        wanted = (self.said != target) if source is None else (self.said == source)
        what = f"anything but '{names[target]}'" if source is None else f"'{names[source]}'"
        rows = self.rows_called(wanted, what)
        random = torch.Generator().manual_seed(self.settings.seed)
        order = torch.randperm(len(rows), generator=random)
        half = len(rows) // 2
        selecting, held = rows[order[:half].sort().values], rows[order[half:].sort().values]
        tables = self.tabulation(source, target)
        picks, report = self.select(tables, selecting, source, target)
        if not picks:
            raise InputError(
                f"no coordinate moves the decision towards '{names[target]}' on the {half} "
                "images selected on; "
                "give more images, another selector or another pair"
            )
        rankings = self._rankings(tables, picks, selecting, held, target, report.passes)
        return self._explained(
            tables, picks, rows, held, source, target, selection=report, rankings=rankings
        )

    def explain_image(self, index: int, target: int | None) -> Explanation:
        """Attributes of one image: the best alone, and the fewest that flip it together."""
        positions = (self.statistics.indices == index).nonzero()[:, 0]
        if not len(positions):
            last = int(self.statistics.indices.max())
            raise InputError(f"image must be a position in the data from 0 to {last}, got {index}")
        row, names = positions[:1], self.model.class_names
        source = int(self.said[row])
        if target is None:
            target = int(self.statistics.base_logits[row[0]].topk(2).indices[1])
        if target == source:
            raise InputError(
                f"image {index} is already called '{names[target]}'; give another target"
            )
        tables = self.tabulation(None, target)
        # One image has no others that speak for it: every edit is measured.
        edits = Edits.grid(row, torch.tensor(self.coordinates), self.settings.strength)
        tables.exhaustive_passes += len(edits)
        size = max(IMAGE_ROUND, -(-len(edits) // IMAGE_ROUNDS))
        parts = self.crew.member.progress(torch.arange(len(edits)).split(size), "edits")
        changes = torch.cat([tables.journal.measure(edits.select(part)) for part in parts])
        gains = changes[:, target].reshape(2, len(self.coordinates))
        picks = selection.independent(gains, self.settings.num_attributes)
        if not picks:
            raise InputError(
                f"no coordinate moves image {index} towards '{names[target]}'; give another target"
            )
        report = self._report(tables, 0, None)
        styles = self.statistics.styles[row]

        def lead(some: list[Pick]) -> float:
            logits = self._judged(tables, styles, some)[0]
            others = logits.clone()
            others[target] = float("-inf")
            return float(logits[target] - others.max())

        chosen, flipped = selection.subset(picks, lead)
        subset = tuple(picks.index(pick) + 1 for pick in chosen) if flipped else None
        return self._explained(
            tables, picks, row, row, source, target, selection=report, subset=subset
        )

    def select(
        self,
        tables: Tabulation,
        selecting: Int64[Tensor, " h"],
        source: int | None,
        target: int,
    ) -> tuple[list[Pick], SelectionReport]:
        """Picks that move some images to the target, and what they cost.

        Args:
            tables: Of the question, see `tabulation`.
            selecting: Rows of the statistics, of images that the classifier calls the source.
            source: Class moved from; none stands for all others.
            target: Class to move to.
        """
        selector = self.settings.selector
        question = self._question(tables, selecting, target, "effects.zarr")
        asked = [question]
        if selector == "notebook" and source is not None:
            name = self.model.class_names[target]
            rows = self.rows_called(self.said == target, f"'{name}'")
            rows = rows[: (len(rows) + 1) // 2]
            asked.append(self._question(tables, rows, source, "effects-back.zarr", question.passes))
            picks = ask_notebook_pair(*asked)
        else:
            picks = {"joint": ask_joint, "paper": ask_paper, "notebook": ask_notebook}[selector](
                question
            )
        passes = question.passes
        rejected = tuple(passes.rejected) if isinstance(passes, DiscriminatorFilter) else None
        return picks, self._report(tables, sum(int((~q.stable).sum()) for q in asked), rejected)

    def _question(
        self,
        tables: Tabulation,
        rows: Int64[Tensor, " h"],
        target: int,
        name: str,
        passes: selection.Filter | None = None,
    ) -> Question:
        """A question with its table; `name` is that of an exhaustive table's group.

        Raises:
            InputError: If every image is unstable.
        """
        settings = self.settings
        table = tables.table(rows, SCORES[settings.selector](target), name)
        stable = table.stable(settings.unstable_change, settings.unstable_share)
        if not stable.any():
            raise InputError(
                f"a stable image has at most {settings.unstable_share:.2%} of its effects beyond "
                f"{settings.unstable_change:g} logits, got none among {len(rows)}; raise "
                "unstable_change or unstable_share"
            )
        return Question(
            tables,
            table,
            rows,
            stable,
            target,
            self.statistics,
            settings,
            passes or self._filter(table, rows, tables.classes.index(target)),
            self.crew.member.progress,
        )

    def _filter(
        self, table: selection.Table, rows: Int64[Tensor, " h"], target: int
    ) -> selection.Filter:
        if self.discriminator is None:
            return selection.anything
        everything = torch.ones(len(rows), dtype=torch.bool)
        return DiscriminatorFilter(
            self.model,
            self.discriminator,
            self.statistics,
            rows.tolist(),
            lambda pick: table.column(pick, everything)[:, target],
            most_change=self.settings.discriminator_change,
            least_effect=FILTERED_EFFECT,
            num_images=FILTERED_IMAGES,
            strength=FILTERED_STRENGTH,
        )

    def _report(
        self, tables: Tabulation, num_unstable: int, rejected: tuple[int, ...] | None
    ) -> SelectionReport:
        screened = bool(tables.screened)
        return SelectionReport(
            "screened" if screened else "exhaustive",
            tables.passes,
            tables.exhaustive_passes,
            self.settings.confidence if screened else None,
            tuple(decision for table in tables.screened for decision in table.decisions),
            num_unstable,
            rejected,
        )

    def _rankings(
        self,
        tables: Tabulation,
        picks: list[Pick],
        selecting: Int64[Tensor, " h"],
        held: Int64[Tensor, " m"],
        target: int,
        passes: int,
    ) -> tuple[Any, ...]:
        settings = self.settings
        if not settings.rankers:
            return ()
        return tuple(
            compare_rankers(
                self.model,
                tables.journal,
                self.statistics,
                selecting,
                held,
                target,
                picks,
                passes_of_search=passes,
                coordinates=self.coordinates,
                strength=settings.strength,
                names=settings.rankers,
                num=settings.num_attributes,
                seed=settings.seed,
                progress=self.crew.member.progress,
            )
        )

    def _explained(
        self,
        tables: Tabulation,
        picks: list[Pick],
        rows: Int64[Tensor, " r"],
        held: Int64[Tensor, " h"],
        source: int | None,
        target: int,
        *,
        subset: tuple[int, ...] | None = None,
        **found: Any,  # noqa: ANN401  the explanation's other parts
    ) -> Explanation:
        settings, names = self.settings, self.model.class_names
        evidence, correlation, interactions = gather(
            self.model,
            tables.journal,
            self.statistics,
            picks,
            held,
            target,
            strength=settings.strength,
            moved=settings.moved,
            num_random=settings.num_random,
            seed=settings.seed,
        )
        others = changes_of_others(self.model, self.statistics, picks, held, settings.strength)
        together = picks if subset is None else [picks[rank - 1] for rank in subset]
        shown = held[: settings.num_shown]
        return Explanation(
            source=None if source is None else names[source],
            target=names[target],
            class_names=names,
            attributes=self._described(picks, evidence, others, rows, target),
            sufficiency=self._sufficiency(tables, picks, held, target),
            subset=subset,
            together=self._render(shown, together, settings.strength, target),
            statistics=self.statistics,
            effects=self._effects(tables, picks, held),
            rows=tuple(rows.tolist()),
            held=tuple(held.tolist()),
            rank_correlation=correlation,
            interactions=interactions,
            rankings=found.pop("rankings", ()),
            **found,
        )

    def _effects(
        self, tables: Tabulation, picks: list[Pick], rows: Int64[Tensor, " h"]
    ) -> Float[Tensor, "h a k"]:
        image = rows.repeat_interleave(len(picks))
        coordinate, direction = torch.tensor(picks).repeat(len(rows), 1).unbind(dim=1)
        strength = torch.full(image.shape, self.settings.strength)
        changes = tables.journal.measure(Edits(image, coordinate, direction, strength))
        return changes.reshape(len(rows), len(picks), -1)

    def _described(
        self,
        picks: list[Pick],
        evidence: tuple[Evidence, ...],
        others: list[tuple[LabelChange, ...] | None],
        rows: Int64[Tensor, " r"],
        target: int,
    ) -> tuple[Attribute, ...]:
        layout = self.model.generator.layout
        return tuple(
            Attribute(
                rank,
                pick.coordinate,
                layout.name(pick.coordinate),
                *layout.locate(pick.coordinate),
                ("smallest", "largest")[pick.direction],
                figures,
                self._show(pick, rows, target),
                changes,
            )
            for rank, (pick, figures, changes) in enumerate(
                zip(picks, evidence, others, strict=True), start=1
            )
        )

    def _show(self, pick: Pick, rows: Int64[Tensor, " r"], target: int) -> Counterfactuals | None:
        strengths = strengths_tried(self.settings.shown_strength, self.settings.strength)
        if len(rows) == 1:
            return most_rising(self._render(rows, [pick], at, target) for at in strengths)
        return show(
            self.model,
            self.statistics.indices[rows],
            self.statistics.styles[rows],
            pick,
            self.statistics.extremes,
            strengths=strengths,
            target=target,
            most=self.settings.num_shown,
            least_rise=self.settings.least_rise,
        )

    def _render(
        self, rows: Int64[Tensor, " r"], picks: list[Pick], strength: float, target: int
    ) -> Counterfactuals:
        return render(
            self.model,
            self.statistics.indices[rows],
            self.statistics.styles[rows],
            picks,
            self.statistics.extremes,
            strength,
            target,
        )

    def _judged(self, tables: Tabulation, styles: Styles, picks: list[Pick]) -> Logits:
        moved = move(styles, picks, self.statistics.extremes, self.settings.strength)
        return tables.journal.logits(moved)

    def _sufficiency(
        self, tables: Tabulation, picks: list[Pick], rows: Int64[Tensor, " h"], target: int
    ) -> dict[int, Estimate]:
        styles = self.statistics.styles[rows]
        return {
            count: share(self._judged(tables, styles, picks[:count]).argmax(dim=1) == target)
            for count in range(1, len(picks) + 1)
        }

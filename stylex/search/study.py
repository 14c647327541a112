"""One search: the questions that can be put to a model and its reference images."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.model import StylEx
from stylex.search import selection
from stylex.search.counterfactuals import Counterfactuals, edited_logits, render, show
from stylex.search.effects import Progress, effects_on_disk
from stylex.search.joint import select_in_rounds
from stylex.search.results import Attribute, Explanation, Settings
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Effects, Logits

LEAST_IMAGES = (
    8  # called the source: three to select on, three to show, and some that do not show it
)


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
        model: StylEx,
        statistics: Statistics,
        settings: Settings,
        folder: Path,
        made_by: dict[str, Any],
        progress: Progress,
    ) -> None:
        """Prepares a search whose effects go to `folder`."""
        self.model, self.statistics, self.settings = model, statistics, settings
        self.folder, self.made_by, self.progress = folder, made_by, progress
        self.said = statistics.base_logits.argmax(dim=1)

    def effects(self, rows: list[int]) -> Effects:
        """Exhaustive effects of some images, on disk and resumed."""
        layout = self.model.generator.layout
        return effects_on_disk(
            self.folder / "effects.zarr",
            self.model,
            self.statistics,
            rows,
            layout.searched(self.settings.torgb),
            strength=self.settings.strength,
            batch_size=self.settings.batch_size,
            made_by=self.made_by,
            progress=self.progress,
        )

    def rows_called(self, wanted: Bool[Tensor, " n"], what: str) -> list[int]:
        """The first images that the classifier calls as wanted, in their reconstruction.

        Raises:
            InputError: If they are too few to select on one half and measure on the other.
        """
        rows = wanted.nonzero()[: self.settings.num_images, 0].tolist()
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
        pair = self.settings.selector == "notebook" and source is not None
        back = self.rows_called(self.said == target, f"'{names[target]}'") if pair else []
        effects = self.effects(rows + back)
        order = torch.randperm(
            len(rows), generator=torch.Generator().manual_seed(self.settings.seed)
        )
        half = len(rows) // 2
        selecting, held = order[:half].sort().values, order[half:].sort().values
        picks = self._select(effects, rows, back, selecting, source, target)
        if not picks:
            raise InputError(
                f"no coordinate moves the decision towards '{names[target]}' on the {half} "
                "images selected on; "
                "give more images, another selector or another pair"
            )
        all_rows = torch.tensor(rows)
        attributes = self._describe(picks, effects[: len(rows)], all_rows, held, target)
        sufficiency = self._sufficiency(picks, all_rows[held], target)
        shown = all_rows[held][: self.settings.num_shown]
        together = self._render(shown, picks, self.settings.strength, target)
        return Explanation(
            None if source is None else names[source],
            names[target],
            attributes,
            sufficiency,
            None,
            together,
            self.statistics,
            effects,
            tuple(rows + back),
        )

    def explain_image(self, index: int, target: int | None) -> Explanation:
        """Attributes of one image: the best alone, and the fewest that flip it together."""
        positions = (self.statistics.indices == index).nonzero()[:, 0].tolist()
        if not positions:
            last = int(self.statistics.indices.max())
            raise InputError(f"image must be a position in the data from 0 to {last}, got {index}")
        row = positions[0]
        names = self.model.class_names
        source = int(self.said[row])
        if target is None:
            target = int(self.statistics.base_logits[row].topk(2).indices[1])
        if target == source:
            raise InputError(
                f"image {index} is already called '{names[target]}'; give another target"
            )
        effects = self.effects([row])
        picks = selection.independent(effects[0, :, :, target], self.settings.num_attributes)
        if not picks:
            raise InputError(
                f"no coordinate moves image {index} towards '{names[target]}'; give another target"
            )
        styles = self.statistics.styles[row : row + 1]

        def lead(some: list[Pick]) -> float:
            logits = self._edited(styles, some, self.settings.strength)[0]
            others = logits.clone()
            others[target] = float("-inf")
            return float(logits[target] - others.max())

        chosen, flipped = selection.subset(picks, lead)
        ranks = tuple(picks.index(pick) + 1 for pick in chosen)
        rows = torch.tensor([row])
        shown = chosen if flipped else picks
        together = self._render(rows, shown, self.settings.strength, target)
        return Explanation(
            names[source],
            names[target],
            self._describe(picks, effects, rows, torch.tensor([0]), target),
            self._sufficiency(picks, rows, target),
            ranks if flipped else None,
            together,
            self.statistics,
            effects,
            (row,),
        )

    def _select(
        self,
        effects: Effects,
        rows: list[int],
        back: list[int],
        selecting: Int64[Tensor, " h"],
        source: int | None,
        target: int,
    ) -> list[Pick]:
        settings, count = self.settings, self.settings.num_attributes
        base = self.statistics.base_logits[rows][selecting]
        mine = effects[: len(rows)][selecting]
        if settings.selector == "joint":
            return select_in_rounds(
                self.model,
                self.statistics.styles[rows][selecting],
                mine,
                base,
                self.statistics.extremes,
                target,
                num_attributes=count,
                picks_per_round=settings.picks_per_round,
                num_candidates=settings.num_candidates,
                strength=settings.strength,
                batch_size=settings.batch_size,
            )
        if settings.selector == "paper":
            return selection.select_paper(
                mine[..., target], count, settings.threshold, settings.drop_inconsistent
            )
        theirs = effects[len(rows) :][: (len(back) + 1) // 2]
        both = torch.cat((mine, theirs))
        most = int(settings.unstable_share * both[0].numel())
        stable = selection.stable_images(both, settings.unstable_change, most)
        both = both * stable[:, None, None, None]
        towards = selection.select_notebook(
            both[: len(mine), ..., target], count, settings.max_image_effect
        )
        if source is None:
            return towards
        there = both[len(mine) :, ..., source]
        return selection.merge_directions(
            both,
            source,
            target,
            towards,
            selection.select_notebook(there, count, settings.max_image_effect),
            count,
        )

    def _describe(
        self,
        picks: list[Pick],
        effects: Effects,
        rows: Int64[Tensor, " n"],
        held: Int64[Tensor, " m"],
        target: int,
    ) -> tuple[Attribute, ...]:
        layout = self.model.generator.layout
        base = self.statistics.base_logits[rows]
        found = []
        for rank, (coordinate, direction) in enumerate(picks, start=1):
            change = effects[held, direction, coordinate]  # [m k]
            layer, channel = layout.locate(coordinate)
            found.append(
                Attribute(
                    rank,
                    coordinate,
                    layout.name(coordinate),
                    layer,
                    channel,
                    ("smallest", "largest")[direction],
                    mean(change[:, target]),
                    share((base[held] + change).argmax(dim=1) == target),
                    self._show(Pick(coordinate, direction), rows, target),
                )
            )
        return tuple(found)

    def _show(self, pick: Pick, rows: Int64[Tensor, " n"], target: int) -> Counterfactuals | None:
        if len(rows) == 1:
            return self._render(rows, [pick], self.settings.shown_strength, target)
        return show(
            self.model,
            self.statistics.indices[rows],
            self.statistics.styles[rows],
            pick,
            self.statistics.extremes,
            strength=self.settings.shown_strength,
            target=target,
            most=self.settings.num_shown,
            least_rise=self.settings.least_rise,
        )

    def _render(
        self, rows: Int64[Tensor, " n"], picks: list[Pick], strength: float, target: int
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

    def _edited(self, styles: Tensor, picks: list[Pick], strength: float) -> Logits:
        return edited_logits(
            self.model, styles, picks, self.statistics.extremes, strength, self.settings.batch_size
        )

    def _sufficiency(
        self, picks: list[Pick], rows: Int64[Tensor, " n"], target: int
    ) -> dict[int, Estimate]:
        styles = self.statistics.styles[rows]
        found = {}
        for count in range(1, len(picks) + 1):
            logits = self._edited(styles, picks[:count], self.settings.strength)
            found[count] = share(logits.argmax(dim=1) == target)
        return found

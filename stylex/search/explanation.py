"""The whole search: statistics → effects → selection → counterfactuals, in memory or in a folder.

`stylex.explain` is this module's `explain`; the door `search.py` calls the same function with a
folder.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from stylex.artifacts import digest, write_json
from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.model import StylEx
from stylex.search import selection
from stylex.search.counterfactuals import Counterfactuals, edited_logits, render, show
from stylex.search.effects import Progress, effects_on_disk, quiet
from stylex.search.joint import select_in_rounds
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics, collect
from stylex.types import Effects, Images, Logits

Selector = Literal["joint", "paper", "notebook"]
SELECTORS = ("joint", "paper", "notebook")
LEAST_IMAGES = (
    8  # called the source: three to select on, three to show, and some that do not show it
)


@dataclass(frozen=True)
class Attribute:
    """One attribute of an explanation.

    Attributes:
        rank: 1 for the attribute picked first.
        coordinate: Flat style coordinate.
        name: The coordinate as people read it, such as `16px conv1 #12`.
        layer: Its layer, counted from 0.
        channel: Its channel in the layer.
        direction: The extreme it is moved to.
        effect: Mean change of the target's logit on images that the selection did not see.
        flips: Share of those images whose decision becomes the target by this attribute alone.
        shown: Images that show it; none if fewer than three do.
    """

    rank: int
    coordinate: int
    name: str
    layer: int
    channel: int
    direction: Literal["smallest", "largest"]
    effect: Estimate
    flips: Estimate
    shown: Counterfactuals | None

    @property
    def pick(self) -> Pick:
        """Coordinate and direction as the search writes them."""
        return Pick(self.coordinate, ("smallest", "largest").index(self.direction))

    def as_json(self) -> dict[str, Any]:
        """All but the pictures, which lie in the file that `shown` names."""
        return {
            "rank": self.rank,
            "coordinate": self.coordinate,
            "name": self.name,
            "layer": self.layer,
            "channel": self.channel,
            "direction": self.direction,
            "effect": self.effect.as_json(),
            "flips": self.flips.as_json(),
            "shown": None if self.shown is None else f"counterfactuals/{self.rank:02d}.safetensors",
        }


@dataclass(frozen=True)
class Explanation:
    """What moves a classifier's decision to a class.

    Attributes:
        source: Class moved from; none stands for all others.
        target: Class moved to.
        attributes: In the order of selection.
        sufficiency: By number of attributes moved together, the share of held-out images that
            become the target.
        subset: For one image, the ranks of the attributes that flip it together; none otherwise.
        together: Images with all attributes (or the subset) changed together.
        statistics: Of the reference images.
        effects: Exhaustive effects of the explained images.
        rows: Rows of `statistics` that the effects belong to.
    """

    source: str | None
    target: str
    attributes: tuple[Attribute, ...]
    sufficiency: dict[int, Estimate]
    subset: tuple[int, ...] | None
    together: Counterfactuals | None
    statistics: Statistics
    effects: Effects
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Settings:
    """Settings of a search; configs/search/default.yaml says what each means."""

    selector: Selector
    num_attributes: int
    num_images: int
    picks_per_round: int
    num_candidates: int
    threshold: float
    drop_inconsistent: bool
    max_image_effect: float
    unstable_change: float
    unstable_share: float
    quantile: float
    torgb: bool
    strength: float
    shown_strength: float
    num_shown: int
    least_rise: float
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        """Refuses settings that no search can have."""
        if self.selector not in SELECTORS:
            raise InputError(
                f"selector must be one of {', '.join(SELECTORS)}, got '{self.selector}'"
            )
        for name in (
            "num_attributes",
            "num_images",
            "picks_per_round",
            "num_candidates",
            "num_shown",
            "batch_size",
        ):
            if getattr(self, name) < 1:
                raise InputError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.shown_strength <= 2 * self.strength:
            raise InputError(
                "shown_strength must be above 0 and at most twice the search's strength "
                f"({self.strength}), "
                f"got {self.shown_strength}"
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


def write_explanation(
    found: Explanation, folder: Path, settings: Settings, facts: dict[str, Any]
) -> None:
    """Writes attributes.json and counterfactuals/, replacing those of an earlier selection."""
    pictures = folder / "counterfactuals"
    for old in pictures.glob("*.safetensors"):
        old.unlink()
    for attribute in found.attributes:
        if attribute.shown is not None:
            metadata = {"name": attribute.name, "target": found.target}
            attribute.shown.save(pictures / f"{attribute.rank:02d}.safetensors", metadata)
    if found.together is not None:
        found.together.save(pictures / "together.safetensors", {"target": found.target})
    write_json(
        folder / "attributes.json",
        {
            **facts,
            "source": found.source,
            "target": found.target,
            "selector": settings.selector,
            "strength": settings.strength,
            "shown_strength": settings.shown_strength,
            "num_images": len(found.rows),
            "subset": None if found.subset is None else list(found.subset),
            "sufficiency": {str(k): v.as_json() for k, v in found.sufficiency.items()},
            "attributes": [attribute.as_json() for attribute in found.attributes],
        },
    )


@contextmanager
def _folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given  # made by the first file in it: a refused question leaves nothing
    else:
        with tempfile.TemporaryDirectory() as name:
            yield Path(name)


def explain(
    model: StylEx,
    images: Images,
    target: str | None = None,
    source: str | None = None,
    image: int | None = None,
    k: int = 10,
    *,
    selector: Selector = "joint",
    num_images: int = 48,
    picks_per_round: int = 2,
    num_candidates: int = 40,
    threshold: float = 1.0,
    drop_inconsistent: bool = True,
    max_image_effect: float = 0.5,
    unstable_change: float = 2.0,
    unstable_share: float = 0.0326,
    quantile: float = 0.0,
    torgb: bool = False,
    strength: float = 1.0,
    shown_strength: float = 2.0,
    num_shown: int = 6,
    least_rise: float = 0.05,
    batch_size: int = 256,
    seed: int = 0,
    output_dir: str | Path | None = None,
    made_by: dict[str, Any] | None = None,
    progress: Progress = quiet,
) -> Explanation:
    """Finds the attributes that move the classifier's decision to a class, or those of one image.

    The defaults are those of configs/search/default.yaml, where each is explained.

    Args:
        model: From `stylex.load`.
        images: Reference images; extremes are taken over all of them.
        target: Class to move to; none takes the most confused pair, or an image's second class.
        source: Class to move from (one-vs-one); none takes all others (one-vs-all).
        image: Position in `images` of the one image to explain; none explains a class.
        k: Number of attributes.
        selector: `joint`, `paper` or `notebook`.
        num_images: Most images explained per class.
        picks_per_round: Of the joint selector: picks between two measurements.
        num_candidates: Of the joint selector: coordinates measured anew in each round.
        threshold: Of the paper's selector, in logits.
        drop_inconsistent: Of the paper's selector.
        max_image_effect: Of the notebook's selector, in logits.
        unstable_change: Of the notebook's selector, in logits.
        unstable_share: Of the notebook's selector, share of an image's entries.
        quantile: 0 takes raw extremes.
        torgb: Whether ToRGB coordinates are searched, too.
        strength: Of the search; 1 reaches the extreme.
        shown_strength: Of the pictures, at most twice the search's.
        num_shown: Most images per attribute.
        least_rise: Least rise of the target's probability in a picture.
        batch_size: Edited images per forward pass.
        seed: Of the cut into two halves.
        output_dir: Folder for all files; a stopped search goes on there. None keeps nothing.
        made_by: Facts of the model and data; effects made by others are refused.
        progress: Wraps long loops.

    Raises:
        InputError: If a class, an image or a setting is not to be had.
    """
    settings = Settings(
        selector, k, num_images, picks_per_round, num_candidates, threshold, drop_inconsistent,
        max_image_effect, unstable_change, unstable_share, quantile, torgb, strength,
        shown_strength, num_shown, least_rise, batch_size, seed,
    )  # fmt: skip
    names = model.class_names
    to, start = (None if c is None else class_index(names, c) for c in (target, source))
    facts = {
        **(made_by or {}),
        "classifier": model.classifier.fingerprint(),
        "model": digest(model.state_dict()),
        "reference": digest({"images": images}),
        "quantile": quantile,
    }
    with _folder(None if output_dir is None else Path(output_dir)) as folder:
        batches = progress(images.split(batch_size), "images")
        statistics = collect(model, batches, list(range(len(images))), quantile)
        search = Search(model, statistics, settings, folder, facts, progress)
        if image is not None and start is not None:
            raise InputError(f"an image has its own source, got '{source}'; give image or source")
        if image is not None:
            found = search.explain_image(image, to)
        else:
            if to is None and start is None:
                start, to = most_confused_pair(statistics)
            elif to is None:
                others = statistics.base_logits[search.said == start].softmax(dim=1).mean(dim=0)
                others[start] = -1
                to = int(others.argmax())
            found = search.explain_class(start, to)
        if output_dir is not None:
            statistics.save(
                folder / "statistics.safetensors", {k: str(v) for k, v in facts.items()}
            )
            write_explanation(found, folder, settings, facts)
    return found

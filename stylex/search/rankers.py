"""Other ways to rank what moves a decision, on AttFind's images and on its scale.

Single style coordinates from exemplars (StyleSpace) or at random; directions of the latent space
from the generator's weights (SeFa) or from the classifier's gradient (GANalyze). A direction's
edit is AttFind's: it sets an image's projection to the smallest or largest of the reference
images. Directions have no part in the appended probabilities: moving those tells the generator
the class, and finds no attribute.
Sources: Wu et al. 2021 (arXiv:2011.12799); Shen & Zhou 2021 (arXiv:2007.06600); Goetschalckx et
    al. 2019 (arXiv:1906.10112).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.estimates import Estimate, mean, share
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.search.counterfactuals import alone_and_together
from stylex.search.directions import (
    Direction,
    LatentEdit,
    ganalyze_direction,
    moved_latents,
    style_directions,
)
from stylex.search.engine import Evaluator
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Logits, Styles

RANKERS = ("attfind", "stylespace", "sefa", "ganalyze", "random")
TOWARDS = ("smallest", "largest")
MOST_EXEMPLARS = 30  # StyleSpace finds its channels with 10 to 30
MOST_SINGULAR_VECTORS = 64  # measured both ways before SeFa's are ranked
GANALYZE_STEPS, GANALYZE_BATCH = 300, 8
# Adam's long run prefers directions whose slope is the same everywhere, and these move little.
GANALYZE_LEARNING_RATE = 0.005


@dataclass(frozen=True)
class Ranking:
    """What a ranker puts first, measured on held-out images.

    Attributes:
        name: The ranker, one of RANKERS.
        ranked: What it ranked, best first, as people read it, such as `8px conv1 #23 -> largest`.
        effect: Mean change of the target's logit by the first alone.
        sufficiency: By number moved together, the share of images that become the target.
        passes: Images synthesised to rank, beyond the statistics that all rankers share; a
            backward pass counts as two.
        alone: Styles of the held-out images with each edit by itself.
        together: The same with the first edit, the first two, and so on.
    """

    name: str
    ranked: tuple[str, ...]
    effect: Estimate
    sufficiency: dict[int, Estimate]
    passes: int
    alone: Float[Tensor, "k h s"]
    together: Float[Tensor, "k h s"]

    @property
    def flips(self) -> Estimate:
        """Share of images whose decision becomes the target by the first alone."""
        return self.sufficiency[1]

    def as_json(self) -> dict[str, Any]:
        """All parts by name but the styles."""
        return {
            "name": self.name,
            "ranked": list(self.ranked),
            "effect": self.effect.as_json(),
            "flips": self.flips.as_json(),
            "sufficiency": {str(k): v.as_json() for k, v in self.sufficiency.items()},
            "passes": self.passes,
        }


def stylespace_channels(
    styles: Float[Tensor, "n s"],
    exemplars: Bool[Tensor, " n"],
    num: int,
    coordinates: Sequence[int],
) -> list[Pick]:
    """Coordinates whose values set exemplars apart from all images, relative to their spread.

    With δ = (s − mean) / std over all images, a coordinate's score is |mean δ| / std δ over the
    exemplars; its direction is the sign of mean δ. A coordinate that never varies scores 0.

    Args:
        styles: Of all reference images.
        exemplars: Which of them have the attribute, such as the class to move to.
        num: Most picks to return.
        coordinates: Flat coordinates to rank.

    Raises:
        InputError: If there are fewer than two exemplars.

    Source: Wu et al. 2021 (arXiv:2011.12799), section 5.
    """
    if exemplars.sum() < 2:
        raise InputError(
            "StyleSpace's ranking needs at least 2 images that the classifier calls the target, "
            f"got {int(exemplars.sum())}; give more images or leave 'stylespace' out"
        )
    ranked = styles[:, list(coordinates)]
    deltas = ((ranked - ranked.mean(dim=0)) / ranked.std(dim=0))[exemplars]  # [e s]
    means = deltas.mean(dim=0)
    scores = (means.abs() / deltas.std(dim=0)).nan_to_num(nan=0.0)
    order = scores.argsort(descending=True, stable=True)[:num].tolist()
    return [Pick(coordinates[i], int(means[i] > 0)) for i in order]


def most_certain(logits: Float[Tensor, "n k"], target: int, most: int) -> Bool[Tensor, " n"]:
    """Exemplars of a class: the images called it with the highest probability, at most so many."""
    probability = logits.softmax(dim=1)[:, target]
    called = logits.argmax(dim=1) == target
    order = probability.masked_fill(~called, -1.0).argsort(descending=True, stable=True)
    chosen = torch.zeros_like(called)
    chosen[order[:most]] = True
    return chosen & called


def random_picks(coordinates: Sequence[int], num: int, seed: int) -> list[Pick]:
    """Different coordinates, each towards a random extreme; at most `num`."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(coordinates), generator=generator)[:num].tolist()
    directions = torch.randint(2, (len(order),), generator=generator).tolist()
    return [Pick(coordinates[i], d) for i, d in zip(order, directions, strict=True)]


def rank_edits(
    effect: Callable[[LatentEdit], float],
    directions: Sequence[Direction],
    num: int,
    progress: Progress,
) -> list[tuple[int, int]]:
    """Measures every direction both ways and ranks the better way of each by its effect.

    Args:
        effect: Mean effect of an edit on the target's logit.
        directions: To measure.
        num: Most to return.
        progress: Wraps the loop over directions.

    Returns:
        Position in `directions` and extreme, best first; only the first may lower the logit.
    """
    found = []
    for i in progress(range(len(directions)), "directions"):
        found.append(max((effect(LatentEdit(directions[i], t)), -i, t) for t in (0, 1)))
    best = sorted(found, reverse=True)[:num]
    return [(-i, t) for rank, (value, i, t) in enumerate(best) if rank == 0 or value > 0]


@dataclass(frozen=True)
class _Study:
    """What all rankers are measured with, on the held-out rows."""

    model: StylEx
    engine: Evaluator
    statistics: Statistics
    held: Int64[Tensor, " h"]
    target: int
    strength: float

    def of_picks(self, name: str, picks: Sequence[Pick], passes: int) -> Ranking:
        """Measures a ranker of coordinates."""
        layout = self.model.generator.layout
        labels = [f"{layout.name(c)} -> {TOWARDS[d]}" for c, d in picks]
        styles, extremes = self.statistics.styles[self.held], self.statistics.extremes
        moved = alone_and_together(styles, picks, extremes, self.strength)
        return self._ranking(name, labels, *moved, passes)

    def of_edits(
        self, name: str, edits: Sequence[LatentEdit], labels: Sequence[str], passes: int
    ) -> Ranking:
        """Measures a ranker of directions."""
        alone = [self.moved([edit], self.held) for edit in edits]
        together = [self.moved(edits[: i + 1], self.held) for i in range(len(edits))]
        return self._ranking(name, labels, torch.stack(alone), torch.stack(together), passes)

    @torch.no_grad()
    def moved(self, edits: Sequence[LatentEdit], rows: Int64[Tensor, " m"]) -> Styles:
        """Styles of some images with edits in the latent space, on the CPU."""
        moved = moved_latents(self.statistics.latents[rows], edits, self.strength)
        generator = self.model.generator
        return generator.styles(moved.to(generator.const.device)).cpu()

    def effect(self, edit: LatentEdit, rows: Int64[Tensor, " m"]) -> float:
        """Mean change of the target's logit."""
        edited = self.engine.logits(self.moved([edit], rows))
        return float((edited - self.statistics.base_logits[rows])[:, self.target].mean())

    def _ranking(
        self,
        name: str,
        labels: Sequence[str],
        alone: Float[Tensor, "k h s"],
        together: Float[Tensor, "k h s"],
        passes: int,
    ) -> Ranking:
        edited: list[Logits] = [self.engine.logits(styles) for styles in together]
        change = edited[0] - self.statistics.base_logits[self.held]
        sufficiency = {
            count: share(logits.argmax(dim=1) == self.target)
            for count, logits in enumerate(edited, start=1)
        }
        effect = mean(change[:, self.target])
        return Ranking(name, tuple(labels), effect, sufficiency, passes, alone, together)


def compare_rankers(
    model: StylEx,
    engine: Evaluator,
    statistics: Statistics,
    selecting: Int64[Tensor, " m"],
    held: Int64[Tensor, " h"],
    target: int,
    picks_of_search: Sequence[Pick],
    *,
    passes_of_search: int,
    coordinates: Sequence[int],
    strength: float,
    names: Sequence[str],
    num: int,
    seed: int,
    progress: Progress,
) -> list[Ranking]:
    """Puts rankers on one scale: effect and sufficiency on held-out images, and the cost.

    StyleSpace takes the images called the target as exemplars. SeFa's directions are measured
    like coordinates, on the rows selected on. GANalyze, made for endless samples, trains on all
    images but those held out.

    Args:
        model: The model under explanation.
        engine: Measures edited styles.
        statistics: Of the reference images.
        selecting: Rows of `statistics` that the search selected on.
        held: Rows to measure on, of images that the classifier does not call the target.
        target: The class to move to.
        picks_of_search: AttFind's, best first.
        passes_of_search: Images synthesised to find them.
        coordinates: Flat coordinates that the search ranked; StyleSpace and chance rank the same.
        strength: Of all edits; 1 reaches the extreme.
        names: Rankers to compare, of RANKERS.
        num: Most to move together.
        seed: Of random picks and GANalyze.
        progress: Wraps long loops.

    Returns:
        One ranking per name, in their order.

    Raises:
        InputError: If a ranker is unknown, there is nothing to compare, or the images do not
            suffice.
    """
    for name in names:
        if name not in RANKERS:
            raise InputError(f"rankers must be among {', '.join(RANKERS)}, got '{name}'")
    if num < 1 or not picks_of_search:
        raise InputError(
            "rankers are compared on at least 1 attribute of the search, got "
            f"{min(num, len(picks_of_search))}; ask for more, or leave the comparison out"
        )
    study = _Study(model, engine, statistics, held, target, strength)

    def stylespace() -> Ranking:
        exemplars = most_certain(statistics.base_logits, target, MOST_EXEMPLARS)
        picks = stylespace_channels(statistics.styles, exemplars, num, coordinates)
        return study.of_picks("stylespace", picks, 0)

    def sefa() -> Ranking:
        latents, before = statistics.latents, engine.passes
        code_dim = latents.shape[1] - len(model.class_names)
        found = style_directions(model.generator, latents, MOST_SINGULAR_VECTORS, code_dim)
        best = rank_edits(lambda edit: study.effect(edit, selecting), found, num, progress)
        passes = engine.passes - before
        labels = [f"singular vector {i + 1} -> {TOWARDS[towards]}" for i, towards in best]
        return study.of_edits("sefa", [LatentEdit(found[i], t) for i, t in best], labels, passes)

    def ganalyze() -> Ranking:
        free = torch.ones(len(statistics.latents), dtype=torch.bool)
        free[held] = False
        trained = ganalyze_direction(
            model,
            statistics.latents[free],
            target,
            steps=GANALYZE_STEPS,
            batch_size=GANALYZE_BATCH,
            learning_rate=GANALYZE_LEARNING_RATE,
            seed=seed,
            progress=progress,
        )
        edit = LatentEdit(Direction.over(trained.vector, statistics.latents), 1)
        passes = int(free.sum()) + 3 * GANALYZE_STEPS * GANALYZE_BATCH
        return study.of_edits("ganalyze", [edit], ["GANalyze"], passes)

    rankings: dict[str, Callable[[], Ranking]] = {
        "attfind": lambda: study.of_picks("attfind", picks_of_search[:num], passes_of_search),
        "stylespace": stylespace,
        "sefa": sefa,
        "ganalyze": ganalyze,
        "random": lambda: study.of_picks("random", random_picks(coordinates, num, seed), 0),
    }
    return [rankings[name]() for name in names]

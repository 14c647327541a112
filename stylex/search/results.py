"""What a search finds, the settings it was found with, and the files that keep both."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal, get_args

from jaxtyping import Float
from torch import Tensor

from stylex.artifacts import write_json
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.ranges import check_finite, check_ranges
from stylex.search.counterfactuals import Counterfactuals
from stylex.search.evidence import Evidence, Interaction
from stylex.search.other_labels import LabelChange
from stylex.search.ranges import SEARCH
from stylex.search.rankers import RANKERS, Ranking
from stylex.search.screening import Decision, Screening
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics

Selector = Literal["joint", "paper", "notebook"]
EffectsKind = Literal["screened", "exhaustive"]
Extremes = Literal["min_max", "quantile"]
CHOICES = {"selector": Selector, "effects": EffectsKind, "extremes": Extremes}
EDITS = "edits"  # the folder of what is handed over to an evaluation


@dataclass(frozen=True)
class Settings:
    """Settings of a search; the defaults are those of configs/search/default.yaml.

    Attributes:
        selector: `joint`, `paper` or `notebook`.
        num_attributes: Most attributes.
        num_images: Most images explained per class: one half selects, the other measures.
        effects: `screened` measures as far as the selection needs, `exhaustive` everything.
        audit_images: Of a screening: images that every edit is measured on at least.
        confidence: Of a screening: of each comparison of two edits, one-sided.
        tolerance: Of a screening: edits whose mean gains differ by less are as good as each other;
            in logits, for the joint selector in units of log-probability.
        picks_per_round: Of the joint selector: picks between two measurements.
        num_candidates: Of the joint selector: coordinates measured anew in each round.
        threshold: Of the paper's selector: an image is explained by a greater effect, in logits.
        drop_inconsistent: Of the paper's selector: no score where both directions raise the target.
        max_image_effect: Of the notebook's selector: limit of an image's accumulated effect, in
            logits.
        unstable_change: An effect beyond this, in logits, is large.
        unstable_share: An image with a greater share of large effects is unstable and left out; the
            notebook's selector sets its effects to 0.
        discriminator_change: Of the discriminator filter: greatest change of its output that
            passes, in logits of being real.
        extremes: `min_max` takes the smallest and largest values, `quantile` quantiles.
        quantile: Which quantiles: this and 1 less this.
        torgb: Whether ToRGB coordinates are searched, too.
        strength: Of the search: 1 sets a coordinate to its extreme.
        shown_strength: Greatest of the pictures, at most twice the search's.
        num_shown: Most images per attribute.
        num_swept: Most of them that are drawn at 31 strengths, too.
        num_edited: Most held-out images whose edits are saved for an evaluation; 0 saves none.
        least_rise: Least rise of the target's probability in a picture.
        moved: An image is moved by an effect above this, in logits.
        num_random: Random classifiers of the significance test; 0 leaves it out.
        rankers: Other ways to rank that are compared with the search.
        seed: Of the two halves, the order in which images are drawn, and random classifiers.
    """

    selector: Selector = "joint"
    num_attributes: int = 10
    num_images: int = 100
    effects: EffectsKind = "screened"
    audit_images: int = 4
    confidence: float = 0.99
    tolerance: float = 0.002
    picks_per_round: int = 2
    num_candidates: int = 40
    threshold: float = 1.0
    drop_inconsistent: bool = True
    max_image_effect: float = 0.5
    unstable_change: float = 2.0
    unstable_share: float = 0.032555
    discriminator_change: float = 0.2
    extremes: Extremes = "min_max"
    quantile: float = 0.01
    torgb: bool = False
    strength: float = 1.0
    shown_strength: float = 2.0
    num_shown: int = 6
    num_swept: int = 4
    num_edited: int = 100
    least_rise: float = 0.05
    moved: float = 0.2
    num_random: int = 20
    rankers: tuple[str, ...] | list[str] = ()
    seed: int = 0

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> "Settings":
        """Settings by name, the others as shipped.

        Raises:
            InputError: If there is no such setting, or no search can have it.
        """
        known = [field.name for field in fields(cls)]
        for name in given:
            if name not in known:
                raise InputError(f"a setting must be one of {', '.join(known)}, got '{name}'")
        return cls(**given)

    def __post_init__(self) -> None:
        """Refuses settings that no search can have."""
        for name, kind in CHOICES.items():
            if getattr(self, name) not in get_args(kind):
                options = ", ".join(get_args(kind))
                raise InputError(f"{name} must be one of {options}, got '{getattr(self, name)}'")
        check_finite(vars(self))
        check_ranges(vars(self), SEARCH)
        if not 0 < self.shown_strength <= 2 * self.strength:
            raise InputError(
                "shown_strength must be above 0 and at most twice the search's strength "
                f"({self.strength}), "
                f"got {self.shown_strength}"
            )
        for name in self.rankers:
            if name not in RANKERS:
                raise InputError(f"rankers must be among {', '.join(RANKERS)}, got '{name}'")
        self.screening()

    @property
    def reach(self) -> float:
        """Quantile of the extremes; 0 takes the smallest and largest values."""
        return self.quantile if self.extremes == "quantile" else 0.0

    def screening(self) -> Screening | None:
        """How sure a screened search is; none for an exhaustive one."""
        screening = Screening(self.audit_images, self.confidence, self.tolerance, self.seed)
        return screening if self.effects == "screened" else None


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
        evidence: Figures on images that the selection did not see.
        shown: Images that show it; none if fewer than three do.
        other_labels: What it does to the labels that are not explained; none of a classifier
            whose outputs are its classes.
    """

    rank: int
    coordinate: int
    name: str
    layer: int
    channel: int
    direction: Literal["smallest", "largest"]
    evidence: Evidence
    shown: Counterfactuals | None
    other_labels: tuple[LabelChange, ...] | None = None

    @property
    def shown_strength(self) -> float | None:
        """Strength of its pictures; none if it has none."""
        return None if self.shown is None else self.shown.strength

    @property
    def effect(self) -> Estimate:
        """Mean change of the target's logit."""
        return self.evidence.effect

    @property
    def flips(self) -> Estimate:
        """Share of images whose decision becomes the target by this attribute alone."""
        return self.evidence.flips

    @property
    def pick(self) -> Pick:
        """Coordinate and direction as the search writes them."""
        return Pick(self.coordinate, ("smallest", "largest").index(self.direction))

    def as_json(self) -> dict[str, Any]:
        """All but the pictures, which lie in the file that `shown` names."""
        evidence = self.evidence.as_json()
        others = self.other_labels
        return {
            "rank": self.rank,
            "coordinate": self.coordinate,
            "name": self.name,
            "layer": self.layer,
            "channel": self.channel,
            "direction": self.direction,
            "effect": evidence.pop("effect"),
            "flips": evidence.pop("flips"),
            "evidence": evidence,
            "shown": None if self.shown is None else f"counterfactuals/{self.rank:02d}.safetensors",
            "shown_strength": self.shown_strength,
            **({} if others is None else {"other_labels": [each.as_json() for each in others]}),
        }


@dataclass(frozen=True)
class Explanation:
    """What moves a classifier's decision to a class.

    Attributes:
        source: Class moved from; none stands for all others.
        target: Class moved to.
        class_names: Of all classes, in the order of their probabilities.
        attributes: In the order of selection.
        sufficiency: By number of attributes moved together, the share of held-out images that
            become the target.
        subset: For one image, the ranks of the attributes that flip it together; none otherwise.
        together: Images with all attributes (or the subset) changed together.
        statistics: Of the reference images.
        effects: Exact effects of each attribute alone, on the images measured on.
        rows: Rows of `statistics` of the images explained, in order; `held` says which of them
            were measured on.
        held: Rows of `statistics` of the images measured on.
        rank_correlation: Mean Spearman correlation of the attributes' orders on random halves.
        interactions: Of pairs of attributes.
        selection: How it was selected: effects, passes and their saving, decisions, images and
            coordinates left out.
        rankings: Other ways to rank, if they were asked for.
    """

    source: str | None
    target: str
    class_names: tuple[str, ...]
    attributes: tuple[Attribute, ...]
    sufficiency: dict[int, Estimate]
    subset: tuple[int, ...] | None
    together: Counterfactuals | None
    statistics: Statistics
    effects: Float[Tensor, "h a k"]
    rows: tuple[int, ...]
    held: tuple[int, ...]
    rank_correlation: float | None
    interactions: tuple[Interaction, ...]
    selection: "SelectionReport"
    rankings: tuple[Ranking, ...]


@dataclass(frozen=True)
class SelectionReport:
    """What a selection cost and how sure it is.

    Attributes:
        effects: `screened` or `exhaustive`.
        passes: Generator passes made to select; a backward pass counts as two.
        exhaustive_passes: Passes of the same selection without screening.
        confidence: Of each comparison of two edits; none for an exhaustive selection.
        decisions: Of every pick that a screening decided, inconsistent and rejected ones included.
        num_unstable: Images left out as unstable.
        rejected: Coordinates that the discriminator rejected; none if it was not asked.
    """

    effects: EffectsKind
    passes: int
    exhaustive_passes: int
    confidence: float | None
    decisions: tuple[Decision, ...]
    num_unstable: int
    rejected: tuple[int, ...] | None

    @property
    def saving(self) -> float:
        """How many times fewer passes than exhaustive."""
        return self.exhaustive_passes / self.passes

    def as_json(self) -> dict[str, Any]:
        """All parts by name."""
        return {**asdict(self), "saving": self.saving}


def write_explanation(
    found: Explanation, folder: Path, settings: Settings, facts: dict[str, Any]
) -> None:
    """Writes statistics, attributes.json and counterfactuals/; an earlier selection's images go."""
    found.statistics.save(
        folder / "statistics.safetensors", {name: str(value) for name, value in facts.items()}
    )
    pictures = folder / "counterfactuals"
    for old in (*pictures.glob("*.safetensors"), *(folder / EDITS).glob("*.safetensors")):
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
            "class_names": list(found.class_names),
            "selector": settings.selector,
            "strength": settings.strength,
            "shown_strength": settings.shown_strength,
            "num_images": len(found.rows),
            "subset": None if found.subset is None else list(found.subset),
            "sufficiency": {str(k): v.as_json() for k, v in found.sufficiency.items()},
            "attributes": [
                {**attribute.as_json(), "effects": effects}
                for attribute, effects in zip(
                    found.attributes, found.effects.mean(dim=0).tolist(), strict=True
                )
            ],
            "rank_correlation": found.rank_correlation,
            "interactions": [pair.as_json() for pair in found.interactions],
            "selection": found.selection.as_json(),
            "rankings": [ranking.as_json() for ranking in found.rankings],
        },
    )

"""What a search finds, the settings it was found with, and the files that keep both."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stylex.artifacts import write_json
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.search.counterfactuals import Counterfactuals
from stylex.search.selection import Pick
from stylex.search.statistics import Statistics
from stylex.types import Effects

Selector = Literal["joint", "paper", "notebook"]
SELECTORS = ("joint", "paper", "notebook")


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

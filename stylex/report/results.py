"""What a search left in its folder, read back and checked: numbers, pictures and provenance."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.types import Pixels

FIGURES = ("agreement", "reconstruction_l1", "classifier_accuracy")  # of metrics.json, on the page
MADE_BY = ("model", "checkpoint", "classifier", "data", "seed", "config", "versions", "platform")


@dataclass(frozen=True)
class Pictures:
    """Images that show one edit.

    Attributes:
        indices: Positions of the images in their data set.
        unchanged: Unedited reconstructions.
        changed: The same with the edit.
        before: The target's probability for each unedited reconstruction.
        after: The target's probability for each edited one.
    """

    indices: tuple[int, ...]
    unchanged: Pixels
    changed: Pixels
    before: tuple[float, ...]
    after: tuple[float, ...]


@dataclass(frozen=True)
class Evidence:
    """What else speaks for an attribute, on images that the selection did not see.

    Attributes:
        moved: Share of images whose target's logit rises noticeably.
        doses: Mean change of that logit at rising strengths.
        monotone: Whether no stronger edit does less.
        saturating: Whether it does, but flattens.
        q: Against classifiers of random weights; none if that was not asked, or for one image.
        ranks: 5 % and 95 % quantile of the attribute's rank on random halves of the images; none
            for one image.
        near: Share of the reference images whose value lies near the extreme.
    """

    moved: Estimate
    doses: tuple[tuple[float, Estimate], ...]
    monotone: bool
    saturating: bool
    q: float | None
    ranks: tuple[float, float] | None
    near: Estimate


@dataclass(frozen=True)
class Selection:
    """What the selection cost, and how sure it is.

    Attributes:
        effects: `screened` or `exhaustive`.
        passes: Generator passes made.
        exhaustive_passes: Generator passes that measuring everything would have made.
        bound: No edit's mean gain exceeds that of the one picked by more than this, with 95 %
            confidence for each pick, in the selector's unit; none if nothing was screened.
        num_unstable: Images left out as unstable.
        num_rejected: Coordinates that the discriminator rejected; none if it was not asked.
    """

    effects: str
    passes: int
    exhaustive_passes: int
    bound: float | None
    num_unstable: int
    num_rejected: int | None


@dataclass(frozen=True)
class Attribute:
    """One style coordinate with its direction, its numbers and its pictures.

    Attributes:
        rank: 1 for the attribute picked first.
        name: The coordinate as people read it, such as `16px conv1 #12`.
        layer: Its layer, counted from 0.
        channel: Its channel in the layer.
        direction: The extreme it is moved to, `smallest` or `largest`.
        effect: Mean change of the target's logit on images that the selection did not see.
        flips: Share of those images whose decision becomes the target by this attribute alone.
        evidence: What else speaks for it.
        pictures: Images that show it; none if too few do.
        shown_strength: Of these pictures; none if there are none.
    """

    rank: int
    name: str
    layer: int
    channel: int
    direction: str
    effect: Estimate
    flips: Estimate
    evidence: Evidence
    pictures: Pictures | None
    shown_strength: float | None

    @property
    def layer_name(self) -> str:
        """The layer's name without the channel."""
        return self.name.rsplit(" #", 1)[0]


@dataclass(frozen=True)
class Results:
    """Everything that the report shows.

    Attributes:
        source: Class moved from; none stands for all others.
        target: Class moved to.
        selector: How the attributes were picked.
        strength: Of the search and of all attributes together: 1 reaches the extreme.
        shown_strength: Greatest of the attributes' pictures that was tried.
        num_images: Images searched; 1 when one image is explained.
        subset: For one image, the ranks of the attributes that flip it together; none otherwise.
        sufficiency: By number of attributes moved together, the share of images that flip.
        attributes: In the order of selection.
        selection: What finding them cost.
        together: Images with all attributes (or the subset) changed together.
        metrics: Fidelity over all images.
        provenance: What made the results.
    """

    source: str | None
    target: str
    selector: str
    strength: float
    shown_strength: float
    num_images: int
    subset: tuple[int, ...] | None
    sufficiency: dict[int, Estimate]
    attributes: tuple[Attribute, ...]
    selection: Selection
    together: Pictures | None
    metrics: dict[str, Estimate]
    provenance: dict[str, Any]

    @property
    def is_one_image(self) -> bool:
        """Whether a single image is explained, so that shares and intervals say nothing."""
        return self.num_images == 1

    @property
    def shown_strengths(self) -> set[float]:
        """Different strengths of the attributes' pictures."""
        return {a.shown_strength for a in self.attributes if a.shown_strength is not None}

    @property
    def explained_image(self) -> int | None:
        """Position of the image that is explained; none if it is a class, or nothing shows it."""
        if not self.is_one_image:
            return None
        every = (self.together, *(a.pictures for a in self.attributes))
        return next((pictures.indices[0] for pictures in every if pictures is not None), None)

    @property
    def num_together(self) -> int:
        """How many attributes `together` changes."""
        return len(self.attributes if self.subset is None else self.subset)


def read_results(folder: Path) -> Results:
    """Reads a search's folder.

    Args:
        folder: Where `search.py` wrote.

    Raises:
        InputError: If a file is missing, broken or lacks an entry.
    """
    found = _read_json(folder / "attributes.json")
    metrics = _read_json(folder / "metrics.json")
    made_by = _read_json(folder / "provenance.json")
    together = folder / "counterfactuals" / "together.safetensors"
    source = f"'{folder / 'attributes.json'}'"
    return Results(
        **{
            name: _entry(found, name, source)
            for name in ("source", "target", "selector", "num_images")
        },
        strength=_entry(found, "strength", source, float),
        shown_strength=_entry(found, "shown_strength", source, float),
        subset=_entry(
            found, "subset", source, lambda ranks: None if ranks is None else tuple(ranks)
        ),
        sufficiency=_entry(
            found,
            "sufficiency",
            source,
            lambda shares: {int(k): _estimate(v) for k, v in shares.items()},
        ),
        attributes=tuple(
            _attribute(facts, folder, source) for facts in _entry(found, "attributes", source)
        ),
        selection=_entry(found, "selection", source, _selection),
        together=_pictures(together) if together.is_file() and found["attributes"] else None,
        metrics={
            name: _entry(metrics, name, f"'{folder / 'metrics.json'}'", _estimate)
            for name in FIGURES
        },
        provenance={
            name: _entry(made_by, name, f"'{folder / 'provenance.json'}'") for name in MADE_BY
        },
    )


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"a report needs '{path.name}', got no '{path}'; run search.py with this folder"
        )
    try:
        value = json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(
            f"'{path}' must be readable JSON, got {error}; run search.py again"
        ) from error
    if not isinstance(value, dict):
        raise InputError(
            f"'{path}' must hold named entries, got a list or a value; run search.py again"
        )
    return value


def _entry(
    facts: Mapping[str, Any],
    name: str,
    source: str,
    convert: Callable[[Any], Any] = lambda value: value,  # what json gave
) -> Any:  # noqa: ANN401  any JSON value
    try:
        return convert(facts[name])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        problem = "none" if name not in facts else "one that cannot be read"
        raise InputError(
            f"{source} must have a '{name}', got {problem}; run search.py again"
        ) from error


def _estimate(facts: Mapping[str, Any]) -> Estimate:
    interval = facts["interval"]
    value, num_images = facts["value"], int(facts["num_images"])
    return Estimate(
        None if value is None else float(value),
        num_images,
        None if interval is None else (float(interval[0]), float(interval[1])),
    )


def _evidence(facts: Mapping[str, Any]) -> Evidence:
    response, ranks = facts["dose_response"], facts["rank"]
    return Evidence(
        moved=_estimate(facts["moved"]),
        doses=tuple((float(d["strength"]), _estimate(d["effect"])) for d in response["doses"]),
        monotone=bool(response["monotone"]),
        saturating=bool(response["saturating"]),
        q=None if facts["q"] is None else float(facts["q"]),
        ranks=None if ranks is None else (float(ranks["interval"][0]), float(ranks["interval"][1])),
        near=_estimate(facts["extreme"]["near"]),
    )


def _selection(facts: Mapping[str, Any]) -> Selection:
    bounds = [float(decision["bound"]) for decision in facts["decisions"]]
    rejected = facts["rejected"]
    return Selection(
        str(facts["effects"]),
        int(facts["passes"]),
        int(facts["exhaustive_passes"]),
        max(bounds) if bounds else None,
        int(facts["num_unstable"]),
        None if rejected is None else len(rejected),
    )


def _attribute(facts: Mapping[str, Any], folder: Path, source: str) -> Attribute:
    shown = _entry(facts, "shown", source)
    return Attribute(
        **{
            name: _entry(facts, name, source)
            for name in ("rank", "name", "layer", "channel", "direction")
        },
        effect=_entry(facts, "effect", source, _estimate),
        flips=_entry(facts, "flips", source, _estimate),
        evidence=_entry(facts, "evidence", source, _evidence),
        pictures=None if shown is None else _pictures(folder / shown),
        shown_strength=_entry(
            facts, "shown_strength", source, lambda at: None if shown is None else float(at)
        ),
    )


def _pictures(path: Path) -> Pictures:
    tensors, _ = read_tensors(path, "a picture file of the search")
    missing = {"indices", "unchanged", "changed", "probabilities"} - tensors.keys()
    if missing:
        raise InputError(f"'{path}' must have '{min(missing)}', got none; run search.py again")
    unchanged, changed = tensors["unchanged"], tensors["changed"]
    indices, probabilities = tensors["indices"], tensors["probabilities"]
    fits = (
        unchanged.dtype == changed.dtype == torch.uint8
        and unchanged.ndim == 4
        and unchanged.shape == changed.shape
        and unchanged.shape[1] in (1, 3)
        and len(unchanged) == len(indices) > 0
        and probabilities.shape == (len(indices), 2)
    )
    if not fits:
        shapes = f"{tuple(unchanged.shape)} and {tuple(changed.shape)}"
        raise InputError(
            f"'{path}' must hold pairs of 8-bit images with two probabilities each, got images of "
            f"{shapes} with probabilities of {tuple(probabilities.shape)}; run search.py again"
        )
    before, after = probabilities.t().tolist()
    return Pictures(tuple(indices.tolist()), unchanged, changed, tuple(before), tuple(after))

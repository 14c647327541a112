"""What a search left in its folder, read back and checked: numbers, pictures and provenance."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import read_json
from stylex.errors import InputError
from stylex.estimates import Estimate
from stylex.report.evaluation import Evaluation, read_evaluation
from stylex.report.pictures import (
    Gallery,
    Pictures,
    Reconstructions,
    Sweep,
    read_gallery,
    read_pictures,
    read_reconstructions,
    read_sweep,
)
from stylex.report.wing import Wing, find_wing

FIGURES = ("agreement", "reconstruction_l1", "classifier_accuracy")  # of metrics.json, on the page
NAMES_FILE = "names.json"
LONGEST_NAME = 60
MADE_BY = ("model", "checkpoint", "classifier", "data", "seed", "config", "versions", "platform")


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
        coordinate: Flat style coordinate.
        name: The coordinate as people read it, such as `16px conv1 #12`.
        layer: Its layer, counted from 0.
        channel: Its channel in the layer.
        direction: The extreme it is moved to, `smallest` or `largest`.
        effect: Mean change of the target's logit on images that the selection did not see.
        effects: Mean change of every class's logit on those images.
        flips: Share of those images whose decision becomes the target by this attribute alone.
        evidence: What else speaks for it.
        pictures: Images that show it; none if too few do.
        shown_strength: Of these pictures; none if there are none.
        sweep: Some of these images at many strengths; none if there are none.
        given_name: What people call it, from names.json; none if they have not said.
        others: Of a classifier of many labels, the mean change of each other label's probability,
            by its name; empty of others.
    """

    rank: int
    coordinate: int
    name: str
    layer: int
    channel: int
    direction: str
    effect: Estimate
    effects: tuple[float, ...]
    flips: Estimate
    evidence: Evidence
    pictures: Pictures | None
    shown_strength: float | None
    sweep: Sweep | None
    given_name: str | None
    others: tuple[tuple[str, Estimate], ...] = ()

    @property
    def key(self) -> str:
        """What names.json calls it."""
        return f"{self.name} → {self.direction}"

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
        class_names: Of all classes, in the order of probabilities.
        selector: How the attributes were picked.
        strength: Of the search and of all attributes together: 1 reaches the extreme.
        shown_strength: Greatest of the attributes' pictures that was tried.
        num_images: Images searched; 1 when one image is explained.
        subset: For one image, the ranks of the attributes that flip it together; none otherwise.
        sufficiency: By number of attributes moved together, the share of images that flip.
        attributes: In the order of selection; at least one.
        selection: What finding them cost.
        together: Images with all attributes (or the subset) changed together.
        gallery: Images that were not chosen, with every attribute's knob.
        reconstructions: Images and what the model makes of them.
        metrics: Fidelity over all images.
        provenance: What made the results.
        evaluation: What was measured of the edits; none if the search was not evaluated.
        wing: What other methods say of the classifier; none if none was asked.
    """

    source: str | None
    target: str
    class_names: tuple[str, ...]
    selector: str
    strength: float
    shown_strength: float
    num_images: int
    subset: tuple[int, ...] | None
    sufficiency: dict[int, Estimate]
    attributes: tuple[Attribute, ...]
    selection: Selection
    together: Pictures
    gallery: Gallery
    reconstructions: Reconstructions
    metrics: dict[str, Estimate]
    provenance: dict[str, Any]
    evaluation: Evaluation | None
    wing: Wing | None

    @property
    def is_one_image(self) -> bool:
        """Whether a single image is explained, so that shares and intervals say nothing."""
        return self.num_images == 1

    @property
    def explained_image(self) -> int | None:
        """Position of the image that is explained; none if it is a class."""
        return self.gallery.indices[0] if self.is_one_image else None

    @property
    def num_together(self) -> int:
        """How many attributes `together` changes."""
        return len(self.attributes if self.subset is None else self.subset)


def read_results(folder: Path, output: Path | None = None) -> Results:
    """Reads a search's folder, and what people call its attributes if there is a names.json.

    Args:
        folder: Where `search.py` wrote.
        output: Where the report is written; a names.json there counts first.

    Raises:
        InputError: If a file is missing, broken or lacks an entry.
    """
    found = _read_json(folder / "attributes.json")
    metrics = _read_json(folder / "metrics.json")
    made_by = _read_json(folder / "provenance.json")
    pictures = folder / "counterfactuals"
    source = f"'{folder / 'attributes.json'}'"
    class_names = _entry(found, "class_names", source, tuple)
    names = read_names(folder / NAMES_FILE)
    if output is not None:
        names |= read_names(output / NAMES_FILE)
    return Results(
        **{
            name: _entry(found, name, source)
            for name in ("source", "target", "selector", "num_images")
        },
        class_names=class_names,
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
            _attribute(facts, folder, len(class_names), names, source)
            for facts in _entry(found, "attributes", source)
        ),
        selection=_entry(found, "selection", source, _selection),
        together=read_pictures(pictures / "together.safetensors"),
        gallery=read_gallery(pictures / "gallery.safetensors", len(class_names)),
        reconstructions=read_reconstructions(
            pictures / "reconstructions.safetensors", len(class_names)
        ),
        metrics={
            name: _entry(metrics, name, f"'{folder / 'metrics.json'}'", _estimate)
            for name in FIGURES
        },
        provenance={
            name: _entry(made_by, name, f"'{folder / 'provenance.json'}'") for name in MADE_BY
        },
        evaluation=read_evaluation(folder),
        wing=find_wing(folder),
    )


def read_names(path: Path) -> dict[str, str]:
    """What people call attributes, by `Attribute.key`; empty where nothing was named.

    Args:
        path: A names.json as the page saves it.

    Raises:
        InputError: If a name is none.
    """
    if not path.is_file():
        return {}
    names = read_json(path, "save it from the page again")
    for key, name in names.items():
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise InputError(
                f"a name in '{path}' must be a text of at most {LONGEST_NAME} letters, got "
                f"'{str(name)[:40]}' for '{key}'; name it on the page again"
            )
    return {key: " ".join(name.split()) for key, name in names.items() if name.strip()}


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise InputError(
            f"a report needs '{path.name}', got no '{path}'; run search.py with this folder"
        )
    return read_json(path, "run search.py again")


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


def _others(facts: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, Estimate], ...]:
    return tuple((str(each["name"]), _estimate(each["probability"])) for each in facts)


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


def _attribute(
    facts: Mapping[str, Any], folder: Path, num_classes: int, names: Mapping[str, str], source: str
) -> Attribute:
    shown = _entry(facts, "shown", source)
    sweep = None if shown is None else folder / str(shown).replace(".", "-sweep.", 1)
    plain = {
        name: _entry(facts, name, source)
        for name in ("rank", "coordinate", "name", "layer", "channel", "direction")
    }
    return Attribute(
        **plain,
        effect=_entry(facts, "effect", source, _estimate),
        effects=_entry(facts, "effects", source, tuple),
        flips=_entry(facts, "flips", source, _estimate),
        evidence=_entry(facts, "evidence", source, _evidence),
        pictures=None if shown is None else read_pictures(folder / shown),
        shown_strength=_entry(
            facts, "shown_strength", source, lambda at: None if shown is None else float(at)
        ),
        sweep=read_sweep(sweep, num_classes) if sweep is not None and sweep.is_file() else None,
        given_name=names.get(f"{plain['name']} → {plain['direction']}"),
        others=_entry({"other_labels": (), **facts}, "other_labels", source, _others),
    )

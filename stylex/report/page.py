"""One self-contained page of HTML: knobs, pictures and numbers, for who opens no other file.

The page asks nothing of any server: styles, script, pictures and probabilities lie inside it, and
its content security policy refuses everything else.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stylex.artifacts import replacing
from stylex.estimates import Estimate
from stylex.report import wording
from stylex.report.caveats import caveats
from stylex.report.results import LONGEST_NAME, Attribute, Results
from stylex.report.sprites import Classes, sheet, thumbnail
from stylex.report.templates import asset, environment

CHART_WIDTH, CHART_HEIGHT, CHART_LEFT, CHART_TOP = 640, 200, 76, 12  # of the plot itself
MOST_LABELS = 16
BAR_WIDTH = 140
CURVE_WIDTH, CURVE_HEIGHT = 170, 64


@dataclass(frozen=True)
class Point:
    """A point of a chart with its interval, in the chart's coordinates."""

    number: float
    share: Estimate
    x: float
    y: float
    low: float
    high: float
    is_labelled: bool


@dataclass(frozen=True)
class Curve:
    """A small chart of effect against strength, in its own coordinates.

    Attributes:
        points: From strength 0 on.
        band: Corners of the area between the intervals' ends.
        zero: Height of no effect.
        at: Where the search's strength lies.
    """

    points: tuple[Point, ...]
    band: tuple[tuple[float, float], ...]
    zero: float
    at: float


@dataclass(frozen=True)
class Part:
    """One search on the page: its results, and what the template draws beside them.

    Attributes:
        number: Of the search on the page, from 0.
        results: Its files.
        warnings: Its weak points.
        points: Shares of flipped images by number of attributes.
        bars: Effects on one scale, by rank.
        curves: Dose-response curves, by rank; none where there is no interval to draw.
        columns: Classes of the effect matrix.
        shades: Of the effect matrix: how far each mean lies between 0 and the greatest, by rank.
        sheets: Numbers of the sheets: of every attribute's sweep (none if it has none) and gallery.
        ladder: Number of the ladder's sheet.
        originals: The gallery's images and copies, as data URIs.
        copies: Images and copies spread over the data, as data URIs.
        facts: What made the results.
    """

    number: int
    results: Results
    warnings: list[str]
    points: list[Point]
    bars: dict[int, dict[str, float]]
    curves: dict[int, Curve]
    columns: tuple[int, ...]
    shades: dict[int, list[float]]
    sheets: list[tuple[int | None, int]]
    ladder: int
    originals: list[tuple[str, str]]
    copies: list[tuple[str, str]]
    facts: list[tuple[str, str]]


def write_page(path: Path, searches: Sequence[Results]) -> None:
    """Writes the page of one search, or of several of the same model.

    Args:
        path: The file.
        searches: What was read from their folders; at least one.
    """
    templates = environment()
    templates.filters["zip"] = zip
    evaluated = ["evaluation.css"] if any(each.evaluation for each in searches) else []
    compared = ["wing.css"] if searches[0].wing else []
    template = templates.get_template("page.html")
    sheets: list[dict[str, Any]] = []
    shown = [_classes(results) for results in searches]
    parts = [part(i, r, c, sheets) for i, (r, c) in enumerate(zip(searches, shown, strict=True))]
    text = template.render(
        parts=parts,
        first=searches[0],
        warnings=_warnings(parts),
        words=wording,
        chart={"width": CHART_WIDTH, "height": CHART_HEIGHT, "left": CHART_LEFT, "top": CHART_TOP},
        curve={"width": CURVE_WIDTH, "height": CURVE_HEIGHT},
        bar_width=BAR_WIDTH,
        longest_name=LONGEST_NAME,
        styles=[asset(name) for name in ("page.css", *evaluated, *compared)],
        scripts=[asset(name) for name in ("knobs.js", "page.js", "study.js")],
        data={
            "searches": [_spoken(p, c) for p, c in zip(parts, shown, strict=True)],
            "sheets": sheets,
        },
    )
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def part(number: int, results: Results, classes: Classes, sheets: list[dict[str, Any]]) -> Part:
    """Prepares one search; its sheets are added to the page's."""
    numbers: list[tuple[int | None, int]] = []
    gallery, copies = results.gallery, results.reconstructions

    def add(*what: Any) -> int:  # noqa: ANN401  what `sheet` takes
        sheets.append(sheet(*what))
        return len(sheets) - 1

    for i, attribute in enumerate(results.attributes):
        swept = attribute.sweep
        own = None
        if swept is not None:
            own = add(swept.frames, swept.probabilities, classes, swept.indices, swept.positions)
        knob = gallery.sweep(i)
        whole = add(knob.frames, knob.probabilities, classes, knob.indices, knob.positions)
        numbers.append((own, whole))
    steps = range(len(gallery.ladder_ranks) + 1)
    ladder = add(gallery.ladder, gallery.ladder_probabilities, classes, gallery.indices, steps)
    columns = tuple(sorted(classes.indices))
    means = {a.rank: [a.effects[k] for k in columns] for a in results.attributes}
    most = max(abs(mean) for row in means.values() for mean in row) or 1.0
    return Part(
        number=number,
        results=results,
        warnings=caveats(results),
        points=chart(results),
        bars=bars(results),
        curves=curves(results),
        columns=columns,
        shades={rank: [mean / most for mean in row] for rank, row in means.items()},
        sheets=numbers,
        ladder=ladder,
        originals=[
            (thumbnail(image), thumbnail(copy))
            for image, copy in zip(gallery.images, gallery.ladder[:, 0], strict=True)
        ],
        copies=[
            (thumbnail(image), thumbnail(copy))
            for image, copy in zip(copies.images, copies.reconstructions, strict=True)
        ],
        facts=facts(results),
    )


def _classes(results: Results) -> Classes:
    names = results.class_names
    wanted = [names.index(results.target)]
    if results.source is not None:
        wanted.append(names.index(results.source))
    seen = [a.sweep.probabilities for a in results.attributes if a.sweep is not None]
    gallery = results.gallery
    return Classes.most_probable(
        wanted, [gallery.probabilities, gallery.image_probabilities, *seen]
    )


def _warnings(parts: Sequence[Part]) -> list[tuple[str, str]]:
    """All weak points with the search that they are of; those of all searches once, of none."""
    found: dict[tuple[str, str], None] = {}  # in order
    for each in parts:
        for text in each.warnings:
            is_common = all(text in other.warnings for other in parts)
            found["" if is_common else wording.move(each.results), text] = None
    return list(found)


def _spoken(part: Part, classes: Classes) -> dict[str, Any]:
    """A search as the page's script needs it."""
    results = part.results
    evaluation = results.evaluation
    return {
        "target": results.target,
        "source": results.source,
        "from": wording.source(results),
        "classes": [results.class_names[k] for k in classes.indices],
        "others": classes.num_others,
        "attributes": [
            {
                "rank": a.rank,
                "key": a.key,
                "coordinate": a.coordinate,
                "name": a.given_name or "",
                "sweep": own,
                "gallery": whole,
            }
            for a, (own, whole) in zip(results.attributes, part.sheets, strict=True)
        ],
        "ladder": part.ladder,
        "ladderRanks": list(results.gallery.ladder_ranks),
        **({"flagged": evaluation.flagged} if evaluation and evaluation.flagged else {}),
    }


def chart(results: Results) -> list[Point]:
    """Places the shares of flipped images by number of attributes on the chart."""
    step = CHART_WIDTH / max(1, len(results.sufficiency))
    every = math.ceil(len(results.sufficiency) / MOST_LABELS)
    points = []
    for i, (number, share) in enumerate(sorted(results.sufficiency.items())):
        if share.value is None or share.interval is None:
            continue
        y, low, high = (
            CHART_TOP + CHART_HEIGHT * (1 - value) for value in (share.value, *share.interval)
        )
        points.append(
            Point(number, share, CHART_LEFT + step * (i + 0.5), y, low, high, i % every == 0)
        )
    return points


def bars(results: Results) -> dict[int, dict[str, float]]:
    """Places every attribute's effect and interval on one scale, by rank; `zero` is no effect."""
    intervals = {
        a.rank: (a.effect.value, *(a.effect.interval or (a.effect.value, a.effect.value)))
        for a in results.attributes
        if a.effect.value is not None
    }
    ends = [0.0, *(value for row in intervals.values() for value in row)]
    low, span = min(ends), max(max(ends) - min(ends), 1e-9)

    def place(value: float) -> float:
        return round(4 + (BAR_WIDTH - 8) * (value - low) / span, 1)

    return {
        rank: {"value": place(v), "low": place(a), "high": place(b), "zero": place(0.0)}
        for rank, (v, a, b) in intervals.items()
    }


def curves(results: Results) -> dict[int, Curve]:
    """Places every attribute's dose-response curve, all on one scale."""
    measured = {a.rank: _doses(a) for a in results.attributes}
    ends = [0.0, *(value for doses in measured.values() for dose in doses for value in dose[1:])]
    low, span = min(ends), max(max(ends) - min(ends), 1e-9)
    reach = max(dose[0] for doses in measured.values() for dose in doses)

    def x(strength: float) -> float:
        return round(4 + (CURVE_WIDTH - 8) * strength / reach, 1)

    def y(value: float) -> float:
        return round(4 + (CURVE_HEIGHT - 8) * (1 - (value - low) / span), 1)

    found = {}
    for rank, doses in measured.items():
        points = tuple(
            Point(s, Estimate(v, 0, None), x(s), y(v), y(a), y(b), False) for s, v, a, b in doses
        )
        corners = [(p.x, p.high) for p in points] + [(p.x, p.low) for p in reversed(points)]
        found[rank] = Curve(points, tuple(corners), y(0.0), x(results.strength))
    return found


def _doses(attribute: Attribute) -> list[tuple[float, float, float, float]]:
    """Strength, effect and interval's ends, from no effect at strength 0 on."""
    found = [(0.0, 0.0, 0.0, 0.0)]
    for strength, effect in attribute.evidence.doses:
        value = effect.value or 0.0
        found.append((strength, value, *(effect.interval or (value, value))))
    return found


def facts(results: Results) -> list[tuple[str, str]]:
    """What made the results."""
    made_by, config = results.provenance, results.provenance["config"]
    versions: dict[str, Any] = made_by["versions"]
    found = [
        ("Model", made_by["checkpoint"]),
        ("Weights fingerprint", made_by["model"]),
        ("Classifier fingerprint", made_by["classifier"]),
        ("Data fingerprint", made_by["data"]),
        ("Split of the data", config.get("split")),
        ("Selector", results.selector),
        ("Strength of the search", wording.times(results.strength)),
        ("Greatest strength of pictures", wording.times(results.shown_strength)),
        ("Seed", made_by["seed"]),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
        ("Platform", made_by["platform"]),
    ]
    return [(name, str(value)) for name, value in found if value is not None]

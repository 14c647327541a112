"""One self-contained page of HTML: all that the search found, for who opens no other file."""

import base64
import io
import math
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL import Image

from stylex.artifacts import replacing
from stylex.estimates import Estimate
from stylex.report import wording
from stylex.report.results import Attribute, Pictures, Results

EMBEDDED_PX = 1400  # wider figures are embedded as reduced copies; the files keep all pixels
CHART_WIDTH, CHART_HEIGHT, CHART_LEFT, CHART_TOP = 640, 200, 76, 12  # of the plot itself
MOST_LABELS = 16
BAR_WIDTH = 140


@dataclass(frozen=True)
class Embedded:
    """A picture inside the page.

    Attributes:
        uri: Its bytes as a data URI.
        width: In pixels.
        height: In pixels.
        file: The file that it is a copy of, from the page's folder.
    """

    uri: str
    width: int
    height: int
    file: str


@dataclass(frozen=True)
class Card:
    """An attribute, or all of them, with its pictures on the page.

    Attributes:
        attribute: Which one; none for all together.
        pictures: What the files were made from; none if it is not shown.
        animation: The GIF.
        strip: The figure.
    """

    attribute: Attribute | None
    pictures: Pictures | None
    animation: Embedded | None
    strip: Embedded | None


@dataclass(frozen=True)
class Point:
    """A point of the chart with its interval, in the chart's coordinates."""

    number: int
    share: Estimate
    x: float
    y: float
    low: float
    high: float
    is_labelled: bool


def write_page(folder: Path, results: Results) -> None:
    """Writes index.html from the results and the pictures that lie in the folder already.

    Args:
        folder: The search's folder.
        results: What was read from it.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["zip"] = zip
    template = environment.from_string(
        files("stylex.report").joinpath("page.html").read_text("utf-8")
    )
    overview = folder / "figures" / "overview.png"
    text = template.render(
        results=results,
        words=wording,
        cards=[card(folder, a, a.pictures, f"{a.rank:02d}") for a in results.attributes],
        together=card(folder, None, results.together, "together"),
        overview=embed(folder, overview) if overview.is_file() else None,
        points=chart(results),
        bars=bars(results),
        chart={"width": CHART_WIDTH, "height": CHART_HEIGHT, "left": CHART_LEFT, "top": CHART_TOP},
        bar_width=BAR_WIDTH,
        facts=facts(results),
        settings=results.provenance["config"],
    )
    with replacing(folder / "index.html") as temporary:
        temporary.write_text(text, encoding="utf-8")


def card(folder: Path, attribute: Attribute | None, pictures: Pictures | None, name: str) -> Card:
    """Embeds the pictures of one attribute, or of all together."""
    if pictures is None:
        return Card(attribute, None, None, None)
    animation, strip = folder / "animations" / f"{name}.gif", folder / "figures" / f"{name}.png"
    return Card(attribute, pictures, embed(folder, animation), embed(folder, strip))


def embed(folder: Path, path: Path) -> Embedded:
    """Reads a picture into a data URI; a wide figure becomes a reduced copy."""
    file = path.relative_to(folder).as_posix()
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as picture:
        kind, (width, height) = picture.format or "", picture.size
        if kind == "PNG" and width > EMBEDDED_PX:
            size = (EMBEDDED_PX, round(height * EMBEDDED_PX / width))
            buffer = io.BytesIO()
            picture.resize(size, Image.Resampling.LANCZOS).save(buffer, format="WEBP", quality=90)
            kind, content, (width, height) = "WEBP", buffer.getvalue(), size
    code = base64.b64encode(content).decode()
    return Embedded(f"data:image/{kind.lower()};base64,{code}", width, height, file)


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


def facts(results: Results) -> list[tuple[str, str]]:
    """What made the results, as the footer lists it."""
    made_by, config = results.provenance, results.provenance["config"]
    versions: dict[str, Any] = made_by["versions"]
    found = [
        ("Model", made_by["model"]),
        ("Weights fingerprint", made_by["checkpoint"]),
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

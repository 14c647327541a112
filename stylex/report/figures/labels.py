"""Names and numbers of the figures in words, and in their file names."""

import re
import unicodedata
from collections.abc import Sequence

from stylex.estimates import Estimate
from stylex.report import wording
from stylex.report.results import Attribute, Results

MOST_LETTERS = 40  # of a class in a sentence or a file's name


def title(attribute: Attribute) -> str:
    """What people call an attribute, in quotes, or else its coordinate."""
    return attribute.name if attribute.given_name is None else f"“{attribute.given_name}”"


def direction(attribute: Attribute) -> str:
    """Which way an attribute is moved in its pictures, and how far."""
    at = "" if attribute.shown_strength is None else f", {wording.drawn_at(attribute)}"
    return f"→ {attribute.direction}{at}"


def short(name: str) -> str:
    """A class's name for a sentence: in one line, shortened with “…” if it is very long."""
    name = " ".join("".join(c if c.isprintable() else " " for c in name).split())
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 1].rstrip()}…"


def target(results: Results) -> str:
    """The class moved to."""
    return short(results.target)


def source(results: Results) -> str:
    """The class moved from, or what stands for all others."""
    return short(wording.source(results))


def points(change: float) -> str:
    """A change of a probability in percentage points, with its sign."""
    whole = round(100 * change)
    return f"{'+' if whole > 0 else '−' if whole < 0 else '±'}{abs(whole)} points"


def with_interval(estimate: Estimate, *, is_share: bool) -> str:
    """A figure and its 95 % interval: `+1.59 [+1.33, +1.82]`."""
    said = wording.percent if is_share else wording.logits
    if estimate.interval is None:
        return said(estimate.value)
    low, high = (said(limit) for limit in estimate.interval)
    return f"{said(estimate.value)} [{low}, {high}]"


def measured_on(results: Results) -> str:
    """On which images, and how far moved, an attribute's numbers are measured."""
    at = f"measured at strength {wording.times(results.strength)}"
    if results.is_one_image:
        return f"{at} on this image"
    return f"{at} on {results.attributes[0].effect.num_images} images not selected on"


def file_name(results: Results) -> str:
    """The image, if it is one, and the classes, in letters that are safe in a file's name."""
    names = (results.source or "others", results.target)
    pair = "-to-".join(_safe(name) or "class" for name in names)
    image = results.explained_image
    return pair if image is None else f"image-{image}-{pair}"


def file_names(searches: Sequence[Results]) -> list[str]:
    """A part of file names for each search, all different; one search alone needs none."""
    if len(searches) == 1:
        return [""]
    pairs = [file_name(results) for results in searches]
    repeats = [pairs[:i].count(pair) for i, pair in enumerate(pairs)]
    return [f"{pair}-{n + 1}" if n else pair for pair, n in zip(pairs, repeats, strict=True)]


def _safe(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower()
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:MOST_LETTERS].strip("-")

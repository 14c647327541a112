"""An evaluation of a search, written as `python -m stylex.evaluation` does, without measuring."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from stylex.artifacts import write_json

METHODS = ("StylEx", "Separation", "Components", "Random", "Variance", "Gradient", "Inconsistent")


def figure(value: float | None, num_images: int, half: float | None = None) -> dict[str, Any]:
    """A figure as evaluation.json holds it, with an interval of this half width."""
    interval = None if half is None or value is None else [value - half, value + half]
    return {"value": value, "num_images": num_images, "interval": interval}


def named(title: str, **entries: Any) -> dict[str, Any]:  # noqa: ANN401  any JSON value
    """Something with a name, a title and a sentence on how to read it."""
    return {"name": title.lower(), "title": title, "reading": f"{title} is read so.", **entries}


def row(title: str, *cells: object, base: str = "") -> dict[str, Any]:
    """A row of figures on images."""
    return named(title, unit="images", base=base, reading="Share of something.", cells=[*cells])


def sections() -> list[dict[str, Any]]:
    """Two questions: one figure a row, and seven methods; every kind of cell."""
    fidelity = [
        row("Decisions kept", figure(0.94, 2000, 0.01)),
        row("Fréchet distance", figure(31.7142, 2000), base="original"),
        row("Worst class", "Shirt, of whose copies few are called so"),
        row("Identity", None),
    ]
    flips = [figure(0.1 * k, 200, 0.05) for k in range(1, 7)]
    rises = [figure(0.5 * k, 150 if k == 7 else 200, 0.6) for k in range(1, 8)]
    comparison = [
        row("Flips", *flips, figure(None, 0), base="reconstruction"),
        row("Rise of the logit", *rises, base="reconstruction"),
        row("Needs labels", *["no"] * 6, "yes, of both classes"),
    ]
    return [
        named(
            "Are the copies true?",
            tables=[named("All images", columns=[named("Value")], rows=fidelity)],
        ),
        named(
            "Do others explain more?",
            tables=[
                named("Seven methods", columns=[named(m) for m in METHODS], rows=comparison),
            ],
        ),
    ]


def write_evaluation(
    folder: Path,
    *,
    facts: dict[str, Any] | None = None,
    change: Callable[[dict[str, Any]], object] = lambda found: None,
) -> Path:
    """Writes an evaluation into a search's folder, changed if asked; gives the folder."""
    made_by = {"split": "test", "seed": 0, "flagged_positions": [40, 300]}
    found = {"schema": 1, "facts": made_by if facts is None else facts, "sections": sections()}
    change(found)
    write_json(folder / "evaluation.json", found)
    return folder

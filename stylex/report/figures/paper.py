"""All figures for papers, from what searches of one model left."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from stylex.errors import InputError
from stylex.report.figures.attributes import draw_attributes
from stylex.report.figures.charts import draw_doses, draw_intervals
from stylex.report.figures.grids import draw_image, draw_ladder, draw_reconstructions
from stylex.report.figures.labels import file_names
from stylex.report.figures.matrix import draw_effects
from stylex.report.figures.sheet import WIDTH_PX, Sheet, style
from stylex.report.results import Results

FORMATS = ("png", "pdf")
Draw = Callable[[int], Sheet]


def write_figures(
    folder: Path,
    searches: Sequence[Results],
    formats: Sequence[str],
    columns: int,
    progress: Callable[[Iterable[Any], str], Iterable[Any]],
) -> list[Path]:
    """Writes figures/NAME.FORMAT, each as wide as one or two columns of text.

    Args:
        folder: Where `figures` is made.
        searches: Of one model, such as from a class to another and back; at least one.
        formats: `png` (300 dots per inch), `pdf` (with its fonts) or both.
        columns: 1 (3.3 in) or 2 (6.9 in), which fit common templates of papers.
        progress: Wraps the loop over the figures.

    Returns:
        The files written.

    Raises:
        InputError: If a format or the number of columns is another.
    """
    check_formats(formats, columns)
    written = []
    for name, draw in progress(list(_figures(searches)), "figures"):
        with style():
            sheet = draw(columns)
            for ending in formats:
                written.append(folder / "figures" / f"{name}.{ending}")
                sheet.save(written[-1])
    return written


def check_formats(formats: Sequence[str], columns: int) -> None:
    """Refuses formats and widths that figures cannot have; see `write_figures`."""
    if columns not in WIDTH_PX:
        raise InputError(
            f"columns of figures must be 1 (3.3 in) or 2 (6.9 in), got {columns}; give one of them"
        )
    for ending in formats:
        if ending not in FORMATS:
            raise InputError(
                f"formats of figures must be among {', '.join(FORMATS)}, got '{ending}'; give "
                "one or both"
            )


def _figures(searches: Sequence[Results]) -> Iterator[tuple[str, Draw]]:
    """Names of all figures, and what draws them."""
    yield "attributes", partial(draw_attributes, searches)
    for results, pair in zip(searches, file_names(searches), strict=True):
        suffix = f"-{pair}" if pair else ""
        image = f"image-{results.gallery.indices[0]}{suffix}"
        yield pair if pair and results.is_one_image else image, partial(draw_image, results)
        named = {
            "effects": draw_effects,
            "dose-response": draw_doses,
            "intervals": draw_intervals,
            "ladder": draw_ladder,
            "reconstructions": draw_reconstructions,
        }
        if results.is_one_image:
            del named["intervals"]  # there is nothing to average over
        for name, draw in named.items():
            yield f"{name}{suffix}", partial(draw, results)

"""All pictures of a search, from its files alone."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from stylex.report import wording
from stylex.report.animation import Style, flicker
from stylex.report.codec import write_film
from stylex.report.figure import Row, write_overview, write_strip
from stylex.report.page import write_page
from stylex.report.results import read_results


def write_report(folder: Path, progress: Callable[[Iterable[Any], str], Iterable[Any]]) -> None:
    """Writes animations/*.gif, figures/*.png and index.html into a search's folder.

    Pictures that an earlier report left there, and this one has not, are removed.

    Args:
        folder: With attributes.json, counterfactuals/, metrics.json and provenance.json.
        progress: Wraps the loop over the attributes.

    Raises:
        InputError: If one of these files is missing or broken.
    """
    results = read_results(folder)
    style, move = Style("row", inset=False, frame_ms=600), wording.move(results)
    written = set()
    for attribute in progress(results.attributes, "pictures"):
        if attribute.pictures is not None:
            name = f"{attribute.rank:02d}"
            caption = wording.attribute_caption(results, attribute)
            finding = wording.attribute_finding(results, attribute)
            edit = f"{wording.edit(attribute)} · strength {wording.drawn_at(attribute)}"
            film = flicker(attribute.pictures, move, edit, results.target, style)
            write_film(folder / "animations" / f"{name}.gif", film)
            write_strip(
                folder / "figures" / f"{name}.png",
                attribute.pictures,
                results.target,
                caption,
                finding,
            )
            written |= {f"{name}.gif", f"{name}.png"}
    if results.together is not None:
        caption, finding = wording.together_caption(results), wording.together_finding(results)
        edit = f"{wording.together(results)} · strength {wording.times(results.strength)}"
        film = flicker(results.together, move, edit, results.target, style)
        write_film(folder / "animations" / "together.gif", film)
        write_strip(
            folder / "figures" / "together.png", results.together, results.target, caption, finding
        )
        written |= {"together.gif", "together.png"}
    if results.attributes:
        caption, legend = wording.overview_caption(results), wording.overview_legend(results)
        rows = [Row(wording.attribute_lines(results, a), a.pictures) for a in results.attributes]
        write_overview(folder / "figures" / "overview.png", rows, caption, legend)
        written.add("overview.png")
    _remove_others(folder, written)
    write_page(folder, results)


def _remove_others(folder: Path, written: set[str]) -> None:
    """Removes the reports' pictures, and no others, that are not in `written`."""
    for place in (
        "animations/[0-9]*.gif",
        "animations/together.gif",
        "figures/[0-9]*.png",
        "figures/together.png",
    ):
        for path in folder.glob(place):
            if path.name not in written:
                path.unlink()

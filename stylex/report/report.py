"""All pictures of finished searches, from their files alone."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from stylex.artifacts import read_json, write_json
from stylex.errors import InputError
from stylex.progress import Progress
from stylex.ranges import NUMBER, SIZE, check_ranges
from stylex.report import wording
from stylex.report.animations.animation import Film, Style, flicker, sweep
from stylex.report.animations.codec import check_format, write_film
from stylex.report.figures.labels import file_names
from stylex.report.figures.paper import check_formats, write_figures
from stylex.report.page import write_page
from stylex.report.results import Results, read_results

WRITTEN_FILE = "report.json"  # what a report wrote, so that the next one leaves nothing stale
FOLDERS = ("animations", "figures")
COMMON = ("model", "classifier", "data set", "strength")  # of the searches on one page


@dataclass(frozen=True)
class Rendering:
    """How searches are drawn; see configs/report/default.yaml.

    Attributes:
        format: Of the animations: `gif`, `webp`, `apng`, `mp4`.
        panels: Most images of an animation.
        layout: Panels in a `row`, or as `square` as can be.
        inset: Whether a magnified inset shows the region that changes most.
        frame_ms: Of a flicker, from 600 to 1000.
        sweep: Whether each attribute gets a sweep, too.
        figures: Formats of the figures: `png`, `pdf`.
        columns: Width of the figures, in columns of a paper.
    """

    format: Sequence[str]
    panels: int
    layout: str
    inset: bool
    frame_ms: int
    sweep: bool
    figures: Sequence[str]
    columns: int

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> "Rendering":
        """Settings by name; a single format may stand for a list of one.

        Raises:
            InputError: If nothing can be drawn so.
        """
        found = dict(settings)
        for name in ("format", "figures"):
            if isinstance(found[name], str):
                found[name] = [found[name]]
        check_ranges(found, {"panels": SIZE, "frame_ms": NUMBER, "columns": NUMBER}, "report.")
        rendering = cls(**found)
        rendering.check()
        return rendering

    def check(self) -> None:
        """Refuses what cannot be drawn, before anything is computed or written."""
        if self.panels < 1:
            raise InputError(f"panels of an animation must be at least 1, got {self.panels}")
        self.style  # noqa: B018  which refuses what it cannot be
        check_formats(self.figures, self.columns)
        for name in self.format:
            check_format(name)

    @property
    def style(self) -> Style:
        """That of animations."""
        return Style(self.layout, self.inset, self.frame_ms)


def write_report(
    folders: Sequence[Path], output: Path, rendering: Rendering, progress: Progress
) -> None:
    """Writes animations/, figures/ and index.html.

    Files that an earlier report left in the output folder, and this one has not, are removed.

    Args:
        folders: Of the searches, by one model; at least one.
        output: Where the pictures go; with one search commonly its own folder.
        rendering: How they are drawn.
        progress: Wraps the loops over attributes and figures.

    Raises:
        InputError: If a search's file is missing or broken, or the searches cannot be on one page.
    """
    searches = [read_results(folder, output) for folder in folders]
    _check(folders, searches)
    written: list[Path] = []
    for results, pair in zip(searches, file_names(searches), strict=True):
        prefix = f"{pair}-" if pair else ""
        films = list(_films(results, rendering))
        for name, draw in progress(films, "animations"):
            film = draw()
            for ending in rendering.format:
                written.append(output / "animations" / f"{prefix}{name}.{ending}")
                write_film(written[-1], film)
    written += write_figures(output, searches, rendering.figures, rendering.columns, progress)
    _remove_stale(output, written)
    write_page(output / "index.html", searches)


def _check(folders: Sequence[Path], searches: Sequence[Results]) -> None:
    """Refuses searches that one page cannot speak of."""
    asked: list[str] = []
    for folder, results in zip(folders, searches, strict=True):
        for what, made_by, first in zip(
            COMMON, _made_by(results), _made_by(searches[0]), strict=True
        ):
            if made_by != first:
                raise InputError(
                    f"searches on one page must be of one {what}, got '{folders[0]}' of {first} "
                    f"and '{folder}' of {made_by}; make a page for each"
                )
        question = wording.move(results)
        if question in asked:
            raise InputError(
                f"searches on one page must ask different questions, got {question} twice; make "
                "a page for each"
            )
        asked.append(question)


def _made_by(results: Results) -> tuple[object, ...]:
    facts = results.provenance
    return facts["model"], facts["classifier"], facts["data"], results.strength


def _films(results: Results, rendering: Rendering) -> Iterator[tuple[str, Callable[[], Film]]]:
    """Names of all animations, and what draws them."""
    move, target = wording.move(results), results.target
    index, style, number = results.class_names.index(target), rendering.style, rendering.panels
    for attribute in results.attributes:
        name = f"{attribute.rank:02d}"
        if attribute.pictures is not None:
            pictures, caption = (
                attribute.pictures.first(number),
                wording.attribute_caption(attribute),
            )
            yield name, partial(flicker, pictures, move, caption, target, style)
        if attribute.sweep is not None and rendering.sweep:
            swept, caption = attribute.sweep.first(number), wording.edit(attribute)
            yield f"{name}-sweep", partial(sweep, swept, index, move, caption, target, style)
    together, caption = results.together.first(number), wording.together_caption(results)
    yield "together", partial(flicker, together, move, caption, target, style)


def _remove_stale(output: Path, written: Sequence[Path]) -> None:
    """Removes what the last report wrote and this one did not; remembers what this one wrote."""
    names = sorted(path.relative_to(output).as_posix() for path in written)
    record = output / WRITTEN_FILE
    earlier = read_json(record, "delete it") if record.is_file() else {}
    for name in earlier.get("files", []):
        place = Path(str(name))
        if name not in names and len(place.parts) == 2 and place.parts[0] in FOLDERS:
            (output / place).unlink(missing_ok=True)
    write_json(record, {"files": names})

"""All pictures of finished searches, from their files alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from stylex.artifacts import read_json, write_json
from stylex.errors import InputError
from stylex.progress import Progress
from stylex.report import wording
from stylex.report.animation import Style, flicker, sweep, write_film
from stylex.report.figures import write_figures
from stylex.report.page import write_page
from stylex.report.results import Results, read_results

WRITTEN_FILE = "report.json"  # what a report wrote, so that the next one leaves nothing stale
FOLDERS = ("animations", "figures")


@dataclass(frozen=True)
class Rendering:
    """How searches are drawn; see configs/report/default.yaml.

    Attributes:
        format: Of the animations: `gif`, `webp`, `apng`, `mp4`.
        layout: Panels in a `row`, or as `square` as can be.
        inset: Whether a magnified inset shows the region that changes most.
        frame_ms: Of a flicker, from 600 to 1000.
        sweep: Whether each attribute gets a sweep, too.
        figures: Formats of the figures: `png`, `pdf`.
        columns: Width of the figures, in columns of a paper.
    """

    format: Sequence[str]
    layout: Literal["row", "square"]
    inset: bool
    frame_ms: int
    sweep: bool
    figures: Sequence[str]
    columns: int

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
        InputError: If a search's file is missing or broken, a format is unknown, or the searches
            are of different models.
    """
    searches = [read_results(folder) for folder in folders]
    _check_model(folders, searches)
    rendering.style  # noqa: B018  refused before anything is written
    written = [
        path
        for results in searches
        for path in _write_animations(
            output / "animations", _prefix(results, searches), results, rendering, progress
        )
    ]
    written += write_figures(output, searches, rendering.figures, rendering.columns, progress)
    _remove_stale(output, written)
    write_page(output / "index.html", searches)


def _check_model(folders: Sequence[Path], searches: Sequence[Results]) -> None:
    models = [results.provenance["model"] for results in searches]
    for folder, model in zip(folders, models, strict=True):
        if model != models[0]:
            raise InputError(
                f"searches on one page must be of one model, got '{folders[0]}' of {models[0]} and "
                f"'{folder}' of {model}; make a page for each"
            )


def _prefix(results: Results, searches: Sequence[Results]) -> str:
    return "" if len(searches) == 1 else f"{wording.slug(results)}-"


def _write_animations(
    folder: Path, prefix: str, results: Results, rendering: Rendering, progress: Progress
) -> list[Path]:
    move, style = wording.move(results), rendering.style
    target = results.class_names.index(results.target)
    films = {}
    for attribute in results.attributes:
        caption, name = wording.attribute_caption(attribute), f"{prefix}{attribute.rank:02d}"
        if attribute.pictures is not None:
            films[name] = flicker(attribute.pictures, move, caption, results.target, style)
        if attribute.sweep is not None and rendering.sweep:
            caption = wording.edit(attribute)
            films[f"{name}-sweep"] = sweep(
                attribute.sweep, target, move, caption, results.target, style
            )
    films[f"{prefix}together"] = flicker(
        results.together, move, wording.together_caption(results), results.target, style
    )
    paths = []
    for name, film in progress(films.items(), "animations"):
        for format_ in rendering.format:
            paths.append(folder / f"{name}.{format_}")
            write_film(paths[-1], film)
    return paths


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

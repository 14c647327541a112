"""The attribution wing's results on a page: the same images under every method."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from stylex.artifacts import read_json, replacing
from stylex.errors import InputError
from stylex.report.templates import asset, environment

WING_FOLDER, WING_FILE = "attribution", "wing.json"
SCHEMA = 1
TEXTS = ("name", "title", "family", "place", "reading", "refusal")
LOSSLESS_PX = 96  # pictures up to this size keep every pixel on the page
QUALITY = 88  # of WebP beyond


@dataclass(frozen=True)
class Picture:
    """A picture on the page.

    Attributes:
        uri: The picture itself.
        width: In its own pixels.
        height: In its own pixels.
        caption: Below it; may be empty.
    """

    uri: str
    width: int
    height: int
    caption: str


@dataclass(frozen=True)
class Sheet:
    """Pictures of a method that are seen together.

    Attributes:
        pictures: In order.
        columns: How many stand side by side.
    """

    pictures: tuple[Picture, ...]
    columns: int


@dataclass(frozen=True)
class Figures:
    """A table of a method.

    Attributes:
        columns: Headings.
        rows: Cells as they are shown.
        reading: How to read it.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    reading: str


@dataclass(frozen=True)
class Method:
    """A method's results.

    Attributes:
        name: Of its files.
        title: In the literature.
        family: The question it answers.
        place: In the usual taxonomy, on one line.
        reading: How to read it.
        seconds: It took.
        refusal: Why it gives nothing of this classifier; empty if it does.
        maps: One per image; empty if it gives none.
        sheets: Its other pictures.
        tables: Its numbers.
    """

    name: str
    title: str
    family: str
    place: str
    reading: str
    seconds: float
    refusal: str
    maps: tuple[Picture, ...]
    sheets: tuple[Sheet, ...]
    tables: tuple[Figures, ...]

    @property
    def is_more_than_a_map(self) -> bool:
        """Whether it gives pictures or numbers of its own, or says why it gives nothing."""
        return bool(self.sheets or self.tables or self.refusal)


@dataclass(frozen=True)
class Wing:
    """What the page shows.

    Attributes:
        network: The classifier's kind.
        stylex: The place of StylEx itself in the usual taxonomy.
        images: That are explained.
        methods: In the order in which they ran.
    """

    network: str
    stylex: str
    images: tuple[Picture, ...]
    methods: tuple[Method, ...]

    @property
    def mapped(self) -> tuple[Method, ...]:
        """The methods that give a map of every image."""
        return tuple(method for method in self.methods if method.maps)

    @property
    def families(self) -> dict[str, list[Method]]:
        """Methods by the question that they answer, in order."""
        found: dict[str, list[Method]] = {}
        for method in self.methods:
            found.setdefault(method.family, []).append(method)
        return found


def find_wing(folder: Path) -> Wing | None:
    """The wing's results in a search's folder, if there are any."""
    own = folder / WING_FOLDER
    return read_wing(own) if (own / WING_FILE).is_file() else None


def read_wing(folder: Path) -> Wing:
    """Reads what `python -m stylex.attribution` wrote.

    Raises:
        InputError: If a file is missing, broken or lacks an entry.
    """
    path = folder / WING_FILE
    remedy = "run python -m stylex.attribution again"
    if not path.is_file():
        raise InputError(f"a wing's folder needs {WING_FILE}, got none in '{folder}'; {remedy}")
    facts = read_json(path, remedy)
    if facts.get("schema") != SCHEMA:
        raise InputError(f"'{path}' must have schema {SCHEMA}, got {facts.get('schema')}; {remedy}")
    try:
        return Wing(
            network=str(facts["network"]),
            stylex=str(facts["stylex"]),
            images=tuple(_picture(folder, i["file"], i["caption"]) for i in facts["images"]),
            methods=tuple(_method(folder, method) for method in facts["methods"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"'{path}' must be whole, got {error!r}; {remedy}") from error


def _method(folder: Path, facts: Mapping[str, Any]) -> Method:
    texts = {key: str(facts[key]) for key in TEXTS}
    parts = facts["parts"]
    maps, *more = [p for p in parts if p["kind"] == "maps"] or [None]
    drawn = [*more, *(part for part in parts if part["kind"] == "pictures")]
    return Method(
        **texts,
        seconds=float(facts["seconds"]),
        maps=() if maps is None else _pictures(folder, maps),
        sheets=tuple(_sheet(folder, part) for part in drawn),
        tables=tuple(_figures(part) for part in parts if part["kind"] == "table"),
    )


def _sheet(folder: Path, facts: Mapping[str, Any]) -> Sheet:
    return Sheet(_pictures(folder, facts), int(facts.get("columns", len(facts["files"]))))


def _pictures(folder: Path, facts: Mapping[str, Any]) -> tuple[Picture, ...]:
    pairs = zip(facts["files"], facts["captions"], strict=True)
    return tuple(_picture(folder, *pair) for pair in pairs)


def _figures(facts: Mapping[str, Any]) -> Figures:
    return Figures(
        columns=tuple(str(column) for column in facts["columns"]),
        rows=tuple(tuple(_shown(cell) for cell in row) for row in facts["rows"]),
        reading=str(facts["reading"]),
    )


def _shown(cell: str | int | float | None) -> str:
    if cell is None:
        return "not to be had"
    return f"{cell:.3g}" if isinstance(cell, float) else str(cell)


def _picture(folder: Path, file: str, caption: str) -> Picture:
    path = folder / Path(file).name  # never beyond the folder
    try:
        with Image.open(path, formats=("PNG",)) as opened:
            image = opened.convert("RGB")
    except OSError as error:
        raise InputError(
            f"a wing's picture must be a readable PNG file, got '{path}'; run python -m "
            "stylex.attribution again"
        ) from error
    content = io.BytesIO()
    image.save(content, "WEBP", lossless=max(image.size) <= LOSSLESS_PX, quality=QUALITY)
    text = base64.b64encode(content.getvalue()).decode()
    return Picture(f"data:image/webp;base64,{text}", *image.size, caption)


def write_wing_page(path: Path, wing: Wing) -> None:
    """Writes a page of the wing alone, self-contained as the report's."""
    styles = [asset(name) for name in ("page.css", "wing.css")]
    text = environment().get_template("wing-page.html").render(wing=wing, styles=styles)
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

"""Which images carry a cue that may go along with a class: by their drawing, a table or the model.

Accuracy is stated for each class on each side: a mean over all images hides those few where the cue
and the class part.
"""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from stylex.data.datasets import ImageFolder, ImageSet
from stylex.data.drawn import MARK, DrawnSet
from stylex.errors import InputError
from stylex.evaluation.attributes import Attribute, Extremes, is_above
from stylex.model import StylEx
from stylex.progress import Progress


@dataclass(frozen=True)
class Groups:
    """On which side of something every image of a set lies.

    Attributes:
        name: Key in the file, such as `watermark`.
        title: What the sides are of, as people read it.
        sides: The sides' names, in the order of the tables.
        members: Of every image the position of its side.
    """

    name: str
    title: str
    sides: tuple[str, ...]
    members: tuple[int, ...]


def planted_groups(data: DrawnSet) -> Groups:
    """Drawings with and without the planted watermark.

    Raises:
        InputError: If none is planted.
    """
    if data.planted is None:
        raise InputError(
            "groups by the watermark need drawings with one, got data.planted=null; give "
            "data=faces-shortcut"
        )
    column = [factor.name for factor in data.factors].index(MARK)
    members = data.values[:, column].long().tolist()
    return Groups(MARK, "the watermark", ("without watermark", "with watermark"), tuple(members))


def style_groups(
    model: StylEx,
    data: ImageSet,
    attribute: Attribute,
    extremes: Extremes,
    batch_size: int,
    progress: Progress,
) -> Groups:
    """Images below and above the middle of an attribute's range, as the model's encoder sees them.

    Args:
        model: The model that the search explained.
        data: The images.
        attribute: Of the search.
        extremes: Of the search.
        batch_size: Images that go through the encoder at once.
        progress: Tells how far it is.
    """
    device, members = model.generator.const.device, []
    with torch.no_grad():
        for positions in progress(list(torch.arange(len(data)).split(batch_size)), "groups"):
            images, _ = data.batch(positions.tolist())
            styles = model.generator.styles(model.encode(images.to(device)))
            members += is_above(styles, attribute, extremes).long().tolist()
    sides = (f"{attribute.name} below the middle", f"{attribute.name} above the middle")
    return Groups(f"attribute_{attribute.rank}", attribute.name, sides, tuple(members))


def listed_groups(path: Path, data: ImageSet) -> Groups:
    """Groups of a CSV file with the columns `position` or `file`, and `group`.

    A position counts the images of the split from 0; a file is relative to the data's folder. Rows
    of other images are passed over, so that one table serves all splits.

    Args:
        path: The CSV file.
        data: The images; each needs a row.

    Raises:
        InputError: If the file is no such table or an image has no row.
    """
    rows = _read_rows(path)
    if "position" in rows[0]:
        key, wanted = "position", [str(position) for position in range(len(data))]
    elif isinstance(data, ImageFolder):
        key, wanted = "file", data.paths
    else:
        raise InputError(
            f"groups by file need a folder of images, got another data set for '{path}'; give the "
            "column position"
        )
    listed = {row[key]: row["group"] for row in rows if row["group"]}
    missing = [name for name in wanted if name not in listed]
    if missing:
        raise InputError(
            f"every image of the split needs a row in '{path}', got none for {len(missing)} of "
            f"{len(wanted)}, the first of them {key} '{missing[0]}'; add them"
        )
    sides = tuple(sorted({listed[name] for name in wanted}))
    members = tuple(sides.index(listed[name]) for name in wanted)
    return Groups("listed", f"the groups of {path.name}", sides, members)


def _read_rows(path: Path) -> Sequence[dict[str, str]]:
    if not path.is_file():
        raise InputError(f"groups must be an existing CSV file, got '{path}'; correct the path")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"groups must be a CSV file, got '{path}' ({error})") from error
    named = set(rows[0]) if rows else set()
    if "group" not in named or not named & {"file", "position"}:
        raise InputError(
            f"groups must have the columns file or position, and group, got "
            f"{', '.join(str(name) for name in rows[0]) if rows else 'no rows'} in '{path}'; name "
            "them so in the first line"
        )
    return rows

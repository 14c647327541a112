"""Counterfactual training images: each with one attribute turned over, its label kept.

Together with the images they were made of, they carry the attribute as often with one class as with
another, so that a classifier trained on both cannot tell the classes apart by it.

The set is a folder data set with one sub-folder a class. It is written beside its place, as
`.NAME.DIGEST.partial`, and takes its name when it is whole; the same command goes on with a stopped
one.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylex.artifacts import digest, harmless, provenance, read_json, replacing, write_json
from stylex.data.datasets import ImageFolder, ImageSet
from stylex.errors import InputError
from stylex.evaluation.attributes import SIDES, Attribute, Extremes, is_above, turned_over
from stylex.imaging import to_uint8, write_png
from stylex.model import StylEx
from stylex.progress import Progress
from stylex.types import Images, Pixels, Styles

AUGMENTATION_FILE, GROUPS_FILE = "augmentation.json", "groups.csv"
COLUMNS = ("file", "class", "attribute", "side_before", "side_after")
BASES = ("reconstruction", "original")
_RESERVED = '/\\:*?"<>|\0'  # in some file system's names


@dataclass(frozen=True)
class Making:
    """How an augmentation is made.

    Attributes:
        strength: Of the edits: 1 reaches the extreme.
        base: What is changed: the model's `reconstruction`, or the `original`, which gets the
            difference between the edited and the unedited reconstruction. The second keeps what
            the model does not reconstruct, so that less tells these images from the others.
        share: Share of the training images that are changed, in (0, 1].
        most_images: Most of them; none for no limit.
        batch_size: Images that go through the model at once.
        seed: Which images are drawn if not all are.
    """

    strength: float = 1.0
    base: str = "reconstruction"
    share: float = 1.0
    most_images: int | None = None
    batch_size: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be made."""
        if self.base not in BASES:
            raise InputError(f"base must be {' or '.join(BASES)}, got '{self.base}'")
        if not 0 < self.share <= 1:
            raise InputError(f"share must be above 0 and at most 1, got {self.share}")
        if self.strength <= 0:
            raise InputError(f"strength must be above 0, got {self.strength}")
        for name in ("most_images", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"{name} must be at least 1, got {value}")

    def positions(self, count: int) -> list[int]:
        """Which of so many images are changed, in rising order."""
        wanted = max(1, round(count * self.share))
        wanted = min(wanted, self.most_images or wanted)
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self.seed))
        return sorted(order[:wanted].tolist())


def write_augmentation(
    model: StylEx,
    data: ImageSet,
    attributes: Sequence[Attribute],
    extremes: Extremes,
    folder: Path,
    making: Making,
    made_by: Mapping[str, Any],
    progress: Progress,
) -> dict[str, Any]:
    """Writes `CLASS/POSITION-aRANK.png`, groups.csv and augmentation.json.

    Args:
        model: The model that the search explained, on its device.
        data: The train split that it was trained on.
        attributes: Each is turned over by itself: so many images are written of every one.
        extremes: Of the search.
        folder: The set; a new one, or one that the same call wrote.
        making: How it is made.
        made_by: Facts for augmentation.json, such as the search's folder.
        progress: Tells how far it is.

    Returns:
        What augmentation.json holds.

    Raises:
        InputError: If the data is no train split or does not fit the model, a class has a name that
            no folder can have, or the folder holds something else or lies in the data's.
    """
    check_augmentable(model, data)
    request = {
        **made_by,
        "model": digest(model.state_dict()),
        "data": data.fingerprint,
        "attributes": [attribute.as_json() for attribute in attributes],
        "extremes": extremes[:, [attribute.coordinate for attribute in attributes]].T.tolist(),
        **{k: v for k, v in asdict(making).items() if k != "batch_size"},
    }
    mark = hashlib.sha256(json.dumps(request).encode()).hexdigest()[:16]
    if isinstance(data, ImageFolder) and folder.resolve().is_relative_to(data.root.resolve()):
        raise InputError(
            f"an augmentation must lie outside the data's folder '{data.root}', where it would be "
            f"a class, got '{folder}'; give another folder"
        )
    finished = _finished(folder, mark)
    if finished is not None:
        return finished
    partial = folder.parent / f".{folder.name}.{mark}.partial"
    positions = making.positions(len(data))
    rows: list[tuple[str, ...]] = []
    chunks = list(torch.tensor(positions).split(making.batch_size))
    for chunk in progress(chunks, "augmentation"):
        rows += _write_chunk(model, data, chunk, attributes, extremes, partial, making)
    with replacing(partial / GROUPS_FILE) as temporary, temporary.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *(map(harmless, row) for row in rows)])
    counts = {"num_images": len(positions), "num_written": len(rows), "groups": _counts(rows)}
    facts = provenance(request=mark, **request, **counts)
    write_json(partial / AUGMENTATION_FILE, facts)
    partial.replace(folder)
    return facts


def check_augmentable(model: StylEx, data: ImageSet) -> None:
    """Refuses data that no augmentation can be made of.

    Raises:
        InputError: If it is no train split, does not fit the model, or a class's name can be no
            folder's.
    """
    if data.split != "train":
        raise InputError(
            f"an augmentation is made of the train split, got '{data.split}'; nothing that a "
            "classifier is judged on may be trained on"
        )
    have = (data.resolution, data.channels, data.class_names)
    want = (model.resolution_px, model.channels, model.class_names)
    if have != want:
        raise InputError(
            f"the data must fit the model ({want[0]} px, {want[1]} channels, classes "
            f"{', '.join(want[2])}), got {have[0]} px, {have[1]} channels, classes "
            f"{', '.join(have[2])}; give the data that it was trained for"
        )
    for name in data.class_names:
        if not name or name != name.strip(" .") or set(name) & set(_RESERVED):
            raise InputError(
                f"a class must have a name that a folder can have, got '{name}'; rename it: no "
                "point or space at its ends, none of " + " ".join(_RESERVED[:-1])
            )


def _finished(folder: Path, mark: str) -> dict[str, Any] | None:
    """What an earlier call for the same wrote; none if the folder is free."""
    if folder.is_dir() and not any(folder.iterdir()):
        return None
    file = folder / AUGMENTATION_FILE
    if file.is_file():
        facts = read_json(file, "remove the folder")
        if facts.get("request") == mark:
            return facts
    if folder.exists():
        raise InputError(
            f"an augmentation needs a folder of its own, got '{folder}', which holds something "
            "else; give another folder"
        )
    return None


@torch.no_grad()
def _write_chunk(
    model: StylEx,
    data: ImageSet,
    positions: Tensor,
    attributes: Sequence[Attribute],
    extremes: Extremes,
    folder: Path,
    making: Making,
) -> list[tuple[str, ...]]:
    """Writes what is missing of some images; gives all their rows of groups.csv."""
    images, labels = data.batch(positions.tolist())
    images = images.to(model.generator.const.device)
    styles = model.generator.styles(model.encode(images))
    names = [data.class_names[label] for label in labels.tolist()]
    rows: list[tuple[str, ...]] = []
    for attribute in attributes:
        files = [
            f"{name}/{position}-a{attribute.rank}.png"
            for name, position in zip(names, positions.tolist(), strict=True)
        ]
        if not all((folder / file).is_file() for file in files):
            pixels = _changed(model, images, styles, attribute, extremes, making)
            for file, picture in zip(files, pixels, strict=True):
                write_png(folder / file, picture)
        above = is_above(styles, attribute, extremes).tolist()
        rows += [
            (file, name, attribute.name, SIDES[side], SIDES[not side])
            for file, name, side in zip(files, names, above, strict=True)
        ]
    return rows


def _changed(
    model: StylEx,
    images: Images,
    styles: Styles,
    attribute: Attribute,
    extremes: Extremes,
    making: Making,
) -> Pixels:
    """Images with an attribute turned over."""
    moved = turned_over(styles, attribute, extremes, making.strength)
    changed = model.render(moved)
    if making.base == "original":
        changed = images + changed - model.render(styles)
    return to_uint8(changed).cpu()


def _counts(rows: Sequence[tuple[str, ...]]) -> dict[str, dict[str, dict[str, int]]]:
    """How many images of each class lay on each side of each attribute before."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    for _, name, attribute, before, _ in rows:
        sides = found.setdefault(attribute, {}).setdefault(name, dict.fromkeys(SIDES, 0))
        sides[before] += 1
    return found

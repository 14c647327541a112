"""A finished search's attributes, as its files say them, and on which side of one an image lies."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from stylex.artifacts import read_json, read_tensors
from stylex.errors import InputError
from stylex.types import Styles

ATTRIBUTES_FILE, STATISTICS_FILE = "attributes.json", "statistics.safetensors"
DIRECTIONS = ("smallest", "largest")
SIDES = ("below", "above")  # the middle between a coordinate's extremes
Extremes = Float[Tensor, "2 s"]


@dataclass(frozen=True)
class Attribute:
    """One attribute of a search.

    Attributes:
        rank: 1 for the attribute picked first.
        coordinate: Flat style coordinate.
        name: The coordinate as people read it.
        direction: The extreme that the search moves it to: `smallest` or `largest`.
    """

    rank: int
    coordinate: int
    name: str
    direction: str

    def as_json(self) -> dict[str, Any]:
        """All parts by name."""
        return asdict(self)


def read_stated(file: Path, *entries: str) -> dict[str, Any]:
    """Reads what a finished search states in one of its JSON files.

    Args:
        file: In the search's folder.
        entries: Names that it must have.

    Raises:
        InputError: If the folder holds no finished search, or the file lacks an entry.
    """
    if not file.is_file():
        raise InputError(
            f"an evaluation reads a finished search, got no {file.name} in '{file.parent}'; "
            "run search.py first"
        )
    stated = read_json(file, "search again")
    missing = [name for name in entries if name not in stated]
    if missing:
        raise InputError(f"'{file}' must say {', '.join(missing)}, got nothing; search again")
    return stated


def read_attributes(folder: Path, ranks: Sequence[int]) -> tuple[Attribute, ...]:
    """Reads some of a finished search's attributes.

    Args:
        folder: Of the search.
        ranks: From 1; at least one, none twice.

    Raises:
        InputError: If the folder holds no finished search, or the search has no such ranks.
    """
    found = {
        entry["rank"]: Attribute(
            entry["rank"], entry["coordinate"], entry["name"], entry["direction"]
        )
        for entry in read_stated(folder / ATTRIBUTES_FILE, "attributes")["attributes"]
    }
    if not ranks or len(set(ranks)) != len(ranks) or not set(ranks) <= set(found):
        raise InputError(
            f"attributes must be different ranks of the search, 1 to {len(found)}, got "
            f"{list(ranks)}; give attributes=[1]"
        )
    return tuple(found[rank] for rank in ranks)


def read_extremes(folder: Path) -> Extremes:
    """Reads the smallest and largest value that every style coordinate had in a search.

    Raises:
        InputError: If the folder holds no finished search.
    """
    tensors, _ = read_tensors(folder / STATISTICS_FILE, "the search's statistics")
    if "extremes" not in tensors:
        raise InputError(
            f"a search's {STATISTICS_FILE} must hold extremes, got none in '{folder}'; search again"
        )
    return tensors["extremes"]


def is_above(styles: Styles, attribute: Attribute, extremes: Extremes) -> Bool[Tensor, " b"]:
    """Which images lie above the middle between an attribute's extremes."""
    middle = extremes[:, attribute.coordinate].mean()
    return styles[:, attribute.coordinate] > middle.to(styles.device)


def turned_over(
    styles: Styles, attribute: Attribute, extremes: Extremes, strength: float
) -> Styles:
    """Moves every image to an attribute's other side; leaves the input untouched.

    What has the attribute loses it, what lacks it gets it: each image goes to the extreme that is
    farther from its own value.

    Args:
        styles: Styles of the images.
        attribute: Its coordinate alone is moved.
        extremes: Smallest and largest value of every coordinate.
        strength: 1 reaches the extreme, 2 goes as far beyond it.
    """
    column = attribute.coordinate
    smallest, largest = extremes.to(styles.device)[:, column]
    goal = torch.where(is_above(styles, attribute, extremes), smallest, largest)
    moved = styles.clone()
    moved[:, column] += strength * (goal - styles[:, column])
    return moved


def moved_towards(
    styles: Styles, attribute: Attribute, extremes: Extremes, strength: float
) -> Styles:
    """Moves every image as the search does, to the attribute's own extreme."""
    column = attribute.coordinate
    goal = extremes.to(styles.device)[DIRECTIONS.index(attribute.direction), column]
    moved = styles.clone()
    moved[:, column] += strength * (goal - styles[:, column])
    return moved

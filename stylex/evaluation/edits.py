"""Edited images that a search saved, as files say them: what every evaluation is made on.

A search writes `edits/METHOD.safetensors`: its own attributes as `stylex`, those of other ways to
rank under their names. All pixels are uint8, so every judgement is of what was saved.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Int64
from torch import Tensor

from stylex.artifacts import read_tensors
from stylex.errors import InputError
from stylex.types import Pixels

FOLDER = "edits"
_TENSORS = ("positions", "images", "reconstructions", "edited", "together")
_FACTS = ("names", "source", "target", "class_names", "strength")


@dataclass(frozen=True)
class Edits:
    """Images not selected on, each with a method's edits.

    Attributes:
        method: Its name, such as `stylex`.
        names: Of its edits, in the method's order; at most as many as were asked for.
        source: Class moved from; none stands for all others.
        target: Class moved to.
        class_names: In the order of the logits.
        strength: Of the edits.
        positions: Of the images, in their split of the data.
        images: Originals, [n c h w].
        reconstructions: The model's copies, the base of all edits, [n c h w].
        edited: Each edit alone, [k n c h w].
        together: The first edit, the first two, and so on, [k n c h w].
    """

    method: str
    names: tuple[str, ...]
    source: str | None
    target: str
    class_names: tuple[str, ...]
    strength: float
    positions: Int64[Tensor, " n"]
    images: Pixels
    reconstructions: Pixels
    edited: tuple[Pixels, ...]
    together: tuple[Pixels, ...]


def read_edits(folder: Path) -> dict[str, Edits]:
    """Reads the edits of every method in a search's folder, by method, `stylex` first.

    Raises:
        InputError: If there are none, or a file is no such file.
    """
    paths = sorted((folder / FOLDER).glob("*.safetensors"), key=lambda p: (p.stem != "stylex", p))
    if not paths:
        raise InputError(
            f"an evaluation reads a finished search with edits, got none in '{folder}'; run "
            "search.py with search.num_edited above 0"
        )
    return {path.stem: _read(path) for path in paths}


def _read(path: Path) -> Edits:
    tensors, metadata = read_tensors(path, "edits")
    missing = [name for name in _TENSORS if name not in tensors]
    missing += [name for name in _FACTS if name not in metadata]
    if missing:
        raise InputError(
            f"a file of edits must hold {', '.join(missing)}, got none in '{path}'; search again"
        )
    return Edits(
        method=path.stem,
        names=tuple(json.loads(metadata["names"])),
        source=metadata["source"] or None,
        target=metadata["target"],
        class_names=tuple(json.loads(metadata["class_names"])),
        strength=float(metadata["strength"]),
        positions=tensors["positions"],
        images=tensors["images"],
        reconstructions=tensors["reconstructions"],
        edited=tuple(tensors["edited"]),
        together=tuple(tensors["together"]),
    )

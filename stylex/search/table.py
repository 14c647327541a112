"""The effect of every coordinate on every image, on disk, and its reading in pieces.

Each image's effects are one chunk, written by one process; a stopped run goes on where it was. No
part of the reading holds more than a piece, however many images there are.
Source: Lang et al. 2021 (arXiv:2104.13369), AttFind: all coordinates, both directions.
"""

import json
import math
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
import zarr
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from stylex.errors import InputError
from stylex.progress import Progress
from stylex.search.edits import Edits
from stylex.search.engine import Engine
from stylex.search.selection import Gain, Pick

PIECE_BYTES = 2**26  # of effects in float32 that are read at once
MOST = 65504.0  # in float16
PATIENCE_S = 600.0  # that a process waits for the first one to make the group
POLL_S = 0.1


@runtime_checkable
class Sliced(Protocol):
    """An array [n 2 m k] that is read by slices of its first axis: zarr, NumPy or a tensor."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of every axis."""

    def __getitem__(self, rows: slice, /) -> Any:  # noqa: ANN401  an array of the same kind
        """Some images."""


class EffectTable:
    """Effects of single edits, in logits, read in pieces.

    Attributes:
        effects: Images, directions (0 towards the smallest value, 1 the largest), coordinates,
            classes.
        coordinates: Flat style coordinates, in the order of the third axis.
        classes: Indices of the classes kept, in the order of the fourth.
    """

    def __init__(self, effects: Sliced, coordinates: Sequence[int], classes: Sequence[int]) -> None:
        """Takes any array.

        Raises:
            InputError: If coordinates and classes do not name the array's axes.
        """
        expected = (effects.shape[0], 2, len(coordinates), len(classes))
        if tuple(effects.shape) != expected:
            raise InputError(
                f"effects must have the shape {expected} of their coordinates and classes, got "
                f"{tuple(effects.shape)}"
            )
        self.effects, self.coordinates, self.classes = effects, tuple(coordinates), tuple(classes)

    @classmethod
    def read(cls, path: Path) -> "EffectTable":
        """The finished group that `fill` left.

        Raises:
            InputError: If there is none, it cannot be read, or images are missing.
        """
        group = _existing(path)
        if group is None:
            raise InputError(f"effects must be an existing zarr group, got '{path}'; measure them")
        done = _readable(path, lambda: group["done"][:])
        if not done.all():
            raise InputError(
                f"effects must be those of all {len(done)} images, got {int(done.sum())} in "
                f"'{path}'; run the same search again"
            )
        facts = dict(group.attrs)["made_by"]
        return _readable(
            path, lambda: cls(group["effects"], facts["coordinates"], facts["classes"])
        )

    @classmethod
    def measured(
        cls,
        measure: Callable[[Edits], Float[Tensor, "e k"]],
        rows: Int64[Tensor, " n"],
        coordinates: Sequence[int],
        strength: float,
    ) -> "EffectTable":
        """A table in memory, of all classes, measured now."""
        changes = measure(Edits.grid(rows, torch.tensor(coordinates), strength))
        effects = changes.reshape(len(rows), 2, len(coordinates), changes.shape[1])
        return cls(effects, coordinates, range(changes.shape[1]))

    @property
    def num_images(self) -> int:
        """Number of images."""
        return self.effects.shape[0]

    @property
    def num_coordinates(self) -> int:
        """Length of the masks of free edits: one more than the greatest coordinate."""
        return max(self.coordinates, default=-1) + 1

    def means(self, gain: Gain, among: Bool[Tensor, " n"]) -> Float[Tensor, "2 m"]:
        """Mean gain of every edit over some images, summed up in float64; −∞ where none is kept.

        Raises:
            InputError: If no image counts.
        """
        if not among.any():
            raise InputError("a mean of effects needs at least one image, got none")
        total = torch.zeros(2, len(self.coordinates), dtype=torch.float64)
        for rows, effects in self._pieces(among):
            total += gain(effects, rows).sum(dim=0, dtype=torch.float64)
        means = torch.full((2, self.num_coordinates), -math.inf)
        means[:, list(self.coordinates)] = (total / among.sum()).float()
        return means

    def best(self, gain: Gain, among: Bool[Tensor, " n"], free: Bool[Tensor, "2 m"]) -> Pick | None:
        """See `selection.Table`; the first one if several share the highest mean."""
        means = self.means(gain, among).masked_fill(~free[:, : self.num_coordinates], -math.inf)
        if means.numel() == 0 or not means.max() > 0:
            return None
        direction, coordinate = divmod(int(means.argmax()), means.shape[1])
        return Pick(coordinate, direction)

    def raises(self, pick: Pick, gain: Gain, among: Bool[Tensor, " n"]) -> bool:
        """See `selection.Table`."""
        return bool(gain(self.column(pick, among), among.nonzero()[:, 0]).double().mean() > 0)

    def column(self, pick: Pick, among: Bool[Tensor, " n"]) -> Float[Tensor, "b k"]:
        """See `selection.Table`."""
        position = self.coordinates.index(pick.coordinate)
        pieces = [e[:, pick.direction, position].clone() for _, e in self._pieces(among)]
        return torch.cat([torch.zeros(0, len(self.classes)), *pieces])

    def stable(self, change: float, share: float) -> Bool[Tensor, " n"]:
        """Images with at most this share of their entries beyond ±`change`.

        An entry is a direction, a coordinate and a class.
        """
        most = int(share * 2 * len(self.coordinates) * len(self.classes))
        counts = [(e.abs() > change).sum(dim=(1, 2, 3)) for _, e in self._pieces()]
        return torch.cat([torch.zeros(0, dtype=torch.int64), *counts]) <= most

    def _pieces(
        self, among: Bool[Tensor, " n"] | None = None
    ) -> Iterator[tuple[Int64[Tensor, " b"], Float[Tensor, "b 2 m k"]]]:
        """Positions and float32 effects of images, all or some, piece by piece."""
        among = torch.ones(self.num_images, dtype=torch.bool) if among is None else among
        one = max(1, 2 * len(self.coordinates) * len(self.classes) * 4)
        for rows in torch.arange(self.num_images).split(max(1, PIECE_BYTES // one)):
            rows = rows[among[rows]]
            if len(rows):
                first, last = int(rows[0]), int(rows[-1])
                piece = torch.as_tensor(self.effects[first : last + 1])
                yield rows, piece[rows - first].float()


def fill(
    path: Path,
    engine: Engine,
    rows: Sequence[int],
    coordinates: Sequence[int],
    classes: Sequence[int],
    *,
    strength: float,
    made_by: dict[str, Any],
    progress: Progress,
    rank: int = 0,
    world_size: int = 1,
    patience_s: float = PATIENCE_S,
) -> None:
    """Measures every coordinate in both directions on images, each image alone.

    The group holds `effects` [n 2 m k] in logits (float16) and `done` [n]. Every process of
    several measures its own images and ends when these are there; the bits are those of one.

    Args:
        path: The group, such as `effects.zarr`; what is in it already is not measured again.
        engine: Measures.
        rows: Images to explain, as rows of the engine's study.
        coordinates: Flat style coordinates to move.
        classes: Classes to keep.
        strength: Of the edits.
        made_by: What made the effects, such as digests of model and images; a group made by
            something else is refused.
        progress: Wraps the loop over images.
        rank: Which process this is; 0 makes the group.
        world_size: Number of processes.
        patience_s: Longest wait of the others for the group.

    Raises:
        InputError: If the group is another search's, cannot be read or does not appear; if an
            effect does not fit float16.
    """
    facts = {
        **made_by,
        "rows": list(rows),
        "coordinates": list(coordinates),
        "classes": list(classes),
        "strength": strength,
    }
    facts = json.loads(json.dumps(facts))
    shape = (len(rows), 2, len(coordinates), len(classes))
    group = _made(path, shape, facts) if rank == 0 else _awaited(path, facts, patience_s)
    effects, done = group["effects"], group["done"]
    mine = range(rank, len(rows), world_size)
    for i in progress([i for i in mine if not _whole(effects, done, i)], "effects"):
        edits = Edits.grid(torch.tensor([rows[i]]), torch.tensor(coordinates), strength)
        found = engine.measure(edits)[:, list(classes)]
        engine.forget()  # no other image needs these states
        if not found.abs().max() <= MOST:
            raise InputError(
                f"effects must be at most {MOST:.0f} to be stored in float16, got "
                f"{float(found.abs().max()):g} on image {rows[i]}; divide the classifier's logits"
            )
        effects[i] = found.reshape(shape[1:]).half().numpy()
        done[i] = True  # after the image's effects are on disk


def _made(path: Path, shape: tuple[int, ...], facts: dict[str, Any]) -> Any:  # noqa: ANN401  zarr.Group
    """The group, made anew if it is not there or was stopped while it was made."""
    group = _fitting(path, facts)
    if group is not None:
        return group
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        group = zarr.open_group(beside / "new", mode="w")
        group.create_array("effects", shape=shape, chunks=(1, *shape[1:]), dtype="float16")
        group.create_array("done", shape=shape[:1], chunks=(1,), dtype="bool")
        group.attrs["made_by"] = facts
        if path.exists():
            path.rename(beside / "old")
        (beside / "new").rename(path)  # whole at once: other processes may be waiting
    finally:
        shutil.rmtree(beside)
    return zarr.open_group(path, mode="r+")


def _awaited(path: Path, facts: dict[str, Any], patience_s: float) -> Any:  # noqa: ANN401  zarr.Group
    until = time.monotonic() + patience_s
    while (group := _fitting(path, facts)) is None:
        if time.monotonic() > until:
            raise InputError(
                f"the process of rank 0 must make '{path}' within {patience_s:g} s, got nothing; "
                "start it on the same folder"
            )
        time.sleep(POLL_S)
    return group


def _fitting(path: Path, facts: dict[str, Any]) -> Any:  # noqa: ANN401  zarr.Group | None
    group = _existing(path)
    if group is None:
        return None
    stored: Any = dict(group.attrs)["made_by"]
    for name, value in facts.items():
        if stored.get(name) != value:
            raise InputError(
                f"output_dir must be new or hold the same search, got another '{name}' in "
                f"'{path.parent}'; give another output_dir"
            )
    return group


def _existing(path: Path) -> Any:  # noqa: ANN401  zarr.Group | None
    """The group, or none if it is not there or was stopped while it was made."""
    if not path.exists():
        return None
    group = _readable(path, lambda: zarr.open_group(path, mode="r+"))
    complete = _readable(
        path, lambda: "made_by" in dict(group.attrs) and "done" in group and "effects" in group
    )
    return group if complete else None


def _readable(path: Path, read: Callable[[], Any]) -> Any:  # noqa: ANN401
    try:
        return read()
    except Exception as error:  # zarr raises many kinds for a broken store
        raise InputError(
            f"effects.zarr must be a readable zarr group, got a broken one at '{path}'; delete it"
        ) from error


def _whole(effects: Any, done: Any, image: int) -> bool:  # noqa: ANN401  zarr.Array
    """Whether an image's effects are there and can be read; a cut file is computed again."""
    try:
        return bool(done[image]) and effects[image] is not None
    except Exception:  # zarr and its codecs raise many kinds
        return False

"""The effect of every style coordinate on every class's logit, for every image, in both directions.

A coordinate is set to its smallest or largest value over the reference images while all others
keep theirs, the image is synthesised again, and the classifier's logits are compared with those of
the unedited reconstruction.
Source: Lang et al. 2021 (arXiv:2104.13369), AttFind.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import zarr
from jaxtyping import Float
from torch import Tensor

from stylex.errors import InputError
from stylex.model import StylEx
from stylex.search.statistics import Statistics
from stylex.types import Effects, Styles

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


@torch.no_grad()
def edit_effects(
    model: StylEx,
    styles: Styles,
    base_logits: Float[Tensor, "b k"],
    extremes: Float[Tensor, "2 s"],
    coordinates: list[int],
    strength: float,
    batch_size: int,
) -> Float[Tensor, "b 2 m k"]:
    """Exact effects of some coordinates on some images.

    Edits of one layer form one batch, over images, directions and coordinates alike; synthesis
    starts at that layer from the images' stored states.

    Args:
        model: The model under explanation.
        styles: Of the images.
        base_logits: Of their unedited reconstructions.
        extremes: Smallest and largest value of every coordinate.
        coordinates: Flat coordinates to move, one at a time.
        strength: 1 sets the coordinate to the extreme; more goes beyond it by as much.
        batch_size: Edited images per forward pass.

    Returns:
        Change of each logit; the second axis is towards the smallest (0) and the largest (1) value.
    """
    device = model.generator.const.device
    styles, extremes = styles.to(device), extremes.to(device)
    states = model.generator.states(styles)
    layout = model.generator.layout
    num_images, num_classes = base_logits.shape
    effects = torch.empty(num_images, 2, len(coordinates), num_classes)
    layers = torch.tensor([layout.locate(c).layer for c in coordinates])
    for layer in layers.unique().tolist():
        # The ToRGB of block b follows convolution 2b: its edits start there.
        start = layer if layer < len(states) else 2 * (layer - len(states))
        positions = (layers == layer).nonzero()[:, 0]
        grid = torch.cartesian_prod(torch.arange(num_images), torch.arange(2), positions)
        for rows in grid.split(batch_size):
            image, direction, position = rows.unbind(dim=1)
            coordinate = torch.tensor(coordinates)[position]
            edited = styles[image].clone()
            here = torch.arange(len(rows))
            value = edited[here, coordinate]
            edited[here, coordinate] = value + strength * (extremes[direction, coordinate] - value)
            made = model.generator.synthesis(edited, start=states[start].select(image.to(device)))
            change = model.classifier(made).cpu() - base_logits[image]
            effects[image, direction, position] = change
    return effects


def effects_on_disk(
    path: Path,
    model: StylEx,
    statistics: Statistics,
    rows: list[int],
    coordinates: list[int],
    *,
    strength: float,
    batch_size: int,
    made_by: dict[str, Any],
    progress: Progress,
) -> Effects:
    """Exhaustive effects of images, kept in a zarr group; a stopped run goes on where it was.

    Args:
        path: The group `effects.zarr`: array `effects` [n 2 s k] in logits, array `done` [n].
        model: The model under explanation.
        statistics: Of the reference images.
        rows: Rows of `statistics` whose images are explained.
        coordinates: Flat coordinates, 0 to s − 1 in order.
        strength: See `edit_effects`.
        batch_size: See `edit_effects`.
        made_by: What made the effects, such as the digests of model and images; a group made by
            something else is refused.
        progress: Wraps the loop over images.

    Raises:
        InputError: If the folder holds the effects of another search, or cannot be read.
    """
    shape = (len(rows), 2, len(coordinates), statistics.base_logits.shape[1])
    facts = {
        **made_by,
        "images": statistics.indices[rows].tolist(),
        "coordinates": len(coordinates),
        "strength": strength,
    }
    group = _open(path, shape, facts)
    effects, done = group["effects"], group["done"]
    left = [i for i in range(len(rows)) if not _whole(effects, done, i)]
    for i in progress(left, "effects"):
        row = rows[i]
        found = edit_effects(
            model,
            statistics.styles[row : row + 1],
            statistics.base_logits[row : row + 1],
            statistics.extremes,
            coordinates,
            strength,
            batch_size,
        )
        effects[i] = found[0].numpy()
        done[i] = True  # after the image's effects are on disk
    return torch.from_numpy(effects[:])


def _open(path: Path, shape: tuple[int, ...], facts: dict[str, Any]) -> Any:  # noqa: ANN401  zarr.Group
    plain = json.loads(json.dumps(facts))
    if path.exists():
        try:
            group = zarr.open_group(path, mode="r+")
            stored: Any = dict(group.attrs).get("made_by")
            complete = "done" in group and "effects" in group
        except Exception as error:  # zarr raises many kinds for a broken store
            raise InputError(
                f"effects.zarr must be a readable zarr group, got a broken one at '{path}'; "
                "delete it"
            ) from error
        if stored is not None and complete:
            for name, value in plain.items():
                if stored.get(name) != value:
                    raise InputError(
                        f"output_dir must be new or hold the same search, got another '{name}' "
                        f"in '{path.parent}'; "
                        "give another output_dir"
                    )
            return group
    group = zarr.open_group(path, mode="w")
    group.create_array("effects", shape=shape, chunks=(1, *shape[1:]), dtype="float32")
    group.create_array("done", shape=shape[:1], chunks=(1,), dtype="bool")
    group.attrs["made_by"] = plain
    return group


def _whole(effects: Any, done: Any, image: int) -> bool:  # noqa: ANN401  zarr.Array
    """Whether an image's effects are there and can be read; a cut file is computed again."""
    try:
        return bool(done[image]) and effects[image] is not None
    except Exception:  # zarr and its codecs raise many kinds
        return False


def quiet(items: Iterable[Any], _what: str) -> Iterator[Any]:
    """A progress that shows nothing."""
    yield from items

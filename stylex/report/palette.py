"""One palette for all frames of a film, so that what does not change does not flicker.

Grey frames keep every level. Colours are grouped by median cut and moved to their groups' means;
each pixel then takes the nearest one, without dithering.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

MOST_COLOURS = 255  # of colour frames; the 256th marks what stays as it was
GREYS = 16  # of them from black to white, for the words
MOST_SAMPLES = 1 << 18  # pixels that the palette is made from
CHUNK = 1 << 14


@dataclass(frozen=True)
class Indexed:
    """Frames with one palette.

    Attributes:
        frames: In mode P.
        colours: The palette: red, green, blue, red ...
        most_off: Largest difference of a pixel's red, green or blue from the frames given, of 255.
        mean_off: Mean difference.
    """

    frames: tuple[Image.Image, ...]
    colours: bytes
    most_off: int
    mean_off: float


def share_palette(frames: Sequence[Image.Image]) -> Indexed:
    """Gives frames of one size and mode, grey or RGB, a palette that fits them all."""
    unique = {id(frame): np.asarray(frame) for frame in frames}
    if frames[0].mode == "L":
        levels = np.flatnonzero(sum(np.bincount(f.ravel(), minlength=256) for f in unique.values()))
        colours = np.repeat(levels[:, None], 3, axis=1).astype(np.uint8)
        table = np.zeros(256, np.uint8)
        table[levels] = np.arange(len(levels))
        most, mean = 0, 0.0
        indices = {key: table[f] for key, f in unique.items()}
    else:
        packed = {key: _pack(f) for key, f in unique.items()}
        counts = np.bincount(
            np.concatenate([p.ravel() for p in packed.values()]), minlength=1 << 24
        )
        found = np.flatnonzero(counts)
        colours = _choose(_unpack(found), counts[found])
        nearest = _nearest(_unpack(found), colours)
        off = np.abs(_unpack(found).astype(np.int16) - colours[nearest])
        most, mean = int(off.max()), float(np.average(off.mean(axis=1), weights=counts[found]))
        table = np.zeros(1 << 24, np.uint8)
        table[found] = nearest
        indices = {key: table[p] for key, p in packed.items()}
    flat = colours.tobytes()
    made = {key: _image(index, flat) for key, index in indices.items()}
    return Indexed(tuple(made[id(frame)] for frame in frames), flat, most, mean)

"""One palette for all frames of a film, so that what does not change does not flicker.

Grey frames keep every level. In colour, median cut and k-means choose for the many pixels, and a
few places are kept for the colours that are then furthest off, so that a small spot keeps its own.
Each pixel takes the nearest colour of the palette, without dithering.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

MOST_COLOURS = 255  # the 256th, where it is free, marks what stays as it was
GREYS = 16  # of these, from black to white, for the words
RARE = 16  # of these, for the colours that are furthest off
MOST_SAMPLES = 1 << 18  # pixels that k-means sees
ROUNDS = 8  # of k-means

Colours = NDArray[np.uint8]  # [number 3]
Codes = NDArray[np.int32]  # a pixel's grey level, or its red, green and blue in one number


@dataclass(frozen=True)
class Indexed:
    """Frames with one palette.

    Attributes:
        frames: In mode P, in the order of the frames given.
        colours: The palette, in the order of the indices.
        most_off: Largest difference of a pixel's red, green or blue from the frames given, of 255.
        mean_off: Their mean difference.
    """

    frames: tuple[Image.Image, ...]
    colours: tuple[tuple[int, int, int], ...]
    most_off: int
    mean_off: float

    @property
    def flat(self) -> list[int]:
        """Red, green, blue, red ... of the palette."""
        return [part for colour in self.colours for part in colour]


def share_palette(frames: Sequence[Image.Image]) -> Indexed:
    """Gives frames of one size, all grey or all RGB, one palette that fits them best."""
    is_grey = frames[0].mode == "L"
    unpack, number = (_repeat, 256) if is_grey else (_unpack, 1 << 24)
    codes = {id(f): np.asarray(f) if is_grey else _pack(np.asarray(f)) for f in frames}
    is_present = np.zeros(number, bool)
    for part in codes.values():
        is_present[part] = True
    present = np.flatnonzero(is_present).astype(np.int32)
    points = unpack(present)
    is_exact = is_grey or len(points) <= MOST_COLOURS
    colours = points if is_exact else _choose(_sample(codes.values()), points)
    chosen = np.arange(len(points)) if is_exact else _nearest(points, colours)
    off = np.abs(points.astype(np.int16) - colours[chosen])
    index, mean_off = np.zeros(number, np.uint8), np.zeros(number, np.float32)
    index[present], mean_off[present] = chosen, off.mean(axis=1)
    indexed = {key: Image.fromarray(index[part]) for key, part in codes.items()}
    for frame in indexed.values():
        frame.putpalette(colours.ravel().tolist())
    return Indexed(
        tuple(indexed[id(frame)] for frame in frames),
        tuple((r, g, b) for r, g, b in colours.tolist()),
        int(off.max()),
        float(np.mean([mean_off[part].mean() for part in codes.values()])),
    )


def _choose(samples: Codes, points: Colours) -> Colours:
    """Colours for all points: greys, means of groups of samples, and the points furthest off."""
    greys = _repeat(np.linspace(0, 255, GREYS).round().astype(np.int32))
    samples = samples[~np.isin(samples, _pack(greys))]
    found, weights = np.unique(samples, return_counts=True)
    seen, strip = _unpack(found).astype(np.float32), Image.fromarray(_unpack(samples)[None])
    groups = strip.quantize(MOST_COLOURS - GREYS - RARE, Image.Quantize.MEDIANCUT)
    colours = np.concatenate([greys, np.array(groups.getpalette(), np.float32).reshape(-1, 3)])
    for _ in range(ROUNDS):
        near = _nearest(seen, colours)
        total = np.bincount(near, weights, len(colours))
        total[:GREYS] = 0  # which stay
        for axis in range(3):
            sums = np.bincount(near, weights * seen[:, axis], len(colours))
            colours[:, axis] = np.where(total > 0, sums / np.maximum(total, 1), colours[:, axis])
    colours = colours.round()
    wide = points.astype(np.float32)
    off = ((wide - colours[_nearest(points, colours)]) ** 2).sum(axis=1)
    for _ in range(RARE):
        worst = wide[off.argmax()]
        colours = np.concatenate([colours, worst[None]])
        off = np.minimum(off, ((wide - worst) ** 2).sum(axis=1))
    return np.unique(colours.astype(np.uint8), axis=0)


def _nearest(points: NDArray[np.generic], colours: NDArray[np.generic]) -> NDArray[np.intp]:
    """Which colour is nearest to each point, by the sum of the squared differences."""
    centres = colours.astype(np.float32)
    lengths = (centres**2).sum(axis=1)
    parts = np.array_split(points, len(points) // 16384 + 1)
    return np.concatenate(
        [(lengths - 2 * part.astype(np.float32) @ centres.T).argmin(axis=1) for part in parts]
    )


def _sample(codes: Iterable[Codes]) -> Codes:
    """Evenly spread pixels of all frames."""
    together = np.concatenate([part.ravel() for part in codes])
    step = len(together) // MOST_SAMPLES
    return together[:: step | 1]  # an odd step does not keep to some columns


def _pack(pixels: NDArray[np.uint8]) -> Codes:
    codes = pixels.astype(np.int32)
    return codes[..., 0] << 16 | codes[..., 1] << 8 | codes[..., 2]


def _repeat(codes: Codes) -> Colours:
    return codes.astype(np.uint8)[:, None].repeat(3, axis=1)


def _unpack(codes: Codes) -> Colours:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)

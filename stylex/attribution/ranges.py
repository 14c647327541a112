"""What the numbers of the methods may be, whichever method they are of."""

from collections.abc import Iterator, Mapping
from typing import Any

from stylex.ranges import AMOUNT, COUNT, NUMBER, POSITIVE, SEED, SHARE, SIZE, Range, check_range

NUMBERS = {  # by the last part of a key
    **dict.fromkeys(("chunk_size", "num_samples", "columns", "steps", "iterations"), SIZE),
    **dict.fromkeys(("octaves", "num_steps", "num_moved", "num_neighbours", "history"), SIZE),
    **dict.fromkeys(("most_filters", "num_strongest", "num_patches"), COUNT),
    **dict.fromkeys(("sheet_px", "size_px", "style_longer_px", "num_images"), SIZE),
    **dict.fromkeys(("noise", "l2", "total_variation_weight", "radius", "decay"), AMOUNT),
    **dict.fromkeys(("learning_rate", "step_size", "step_px", "epsilon_px", "spread"), POSITIVE),
    **dict.fromkeys(("rotation_degrees", "blur_px", "smoothing"), Range(0, 360)),
    **dict.fromkeys(("foreground", "background", "scaling"), SHARE),
    "jitter_px": NUMBER,
    "amplification": POSITIVE,
    "enlargement": Range(0, 16, beyond=True),
    "octave_scale": Range(1, 16, beyond=True),
    "seed": SEED,
}


def check_methods(methods: Mapping[str, Any]) -> None:
    """Refuses numbers with which no method makes sense.

    Args:
        methods: The configuration's `method`.

    Raises:
        InputError: If there is one.
    """
    for name, value in _numbers(methods, "method"):
        allowed = NUMBERS.get(name.rpartition(".")[2])
        if allowed is not None:
            check_range(name, value, allowed)


def _numbers(node: Mapping[str, Any], above: str) -> Iterator[tuple[str, float]]:
    for key, value in node.items():
        name = f"{above}.{key}"
        if isinstance(value, Mapping):
            yield from _numbers(value, name)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value

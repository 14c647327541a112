"""What numbers settings may be: refused in a sentence before any work begins."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stylex.errors import InputError, shown


@dataclass(frozen=True)
class Range:
    """What a number may be.

    Attributes:
        least: Smallest number.
        most: Largest number.
        beyond: Whether the number must be above `least`, not at it.
        whole: Whether it must be a whole number.
    """

    least: float
    most: float = math.inf
    beyond: bool = False
    whole: bool = False

    def fault(self, value: float) -> str | None:
        """What the number must be, if it is not that."""
        if self.whole and not isinstance(value, int):
            return "a whole number"
        if value < self.least or (self.beyond and value == self.least):
            return f"{'above' if self.beyond else 'at least'} {self.least:g}"
        return f"at most {self.most:g}" if value > self.most else None


COUNT = Range(1, 10**12, whole=True)  # of steps, images: something is there
NUMBER = Range(0, 10**12, whole=True)  # the same, or nothing
SIZE = Range(1, 2**16, whole=True)  # of networks and of what is held at once
SHARE = Range(0, 1)
AMOUNT = Range(0, 10**6)  # weights of terms
POSITIVE = Range(0, 10**6, beyond=True)
SEED = Range(0, 2**32 - 1, whole=True)  # all random generators take it
MODEL = {  # of a model's configuration
    "latent_dim": SIZE,
    "mapping_layers": Range(1, 64, whole=True),
    **{
        f"{network}.{key}": allowed
        for network in ("generator", "encoder", "discriminator")
        for key, allowed in (
            ("channel_base", Range(1, 2**24, whole=True)),
            ("channel_max", SIZE),
        )
    },
    "discriminator.minibatch_group": SIZE,
}
TEXTS = (  # of several doors
    *("task", "output_dir", "classifier.network", "classifier.weights"),
    *("classifier.feature_layers.*", "training.perceptual"),
)
SHARED = {  # by several doors
    "seed": SEED,
    "cpu_threads": Range(1, 2**10, whole=True),
    "data.seed": SEED,
    "data.resolution": SIZE,
    "data.channels": Range(1, 3, whole=True),
    "data.num_images.*": COUNT,
    "data.noise": AMOUNT,
    "data.rule.*": Range(-(10**6), 10**6),
    "classifier.input_resolution_px": SIZE,
    "classifier.input_channels": Range(1, 3, whole=True),
    "ops.low_precision_blocks": Range(0, 64, whole=True),
}


def check_ranges(settings: Mapping[str, Any], ranges: Mapping[str, Range], above: str = "") -> None:
    """Refuses numbers that are out of their range.

    Args:
        settings: As deep as they are; what they lack, or is null, is not checked.
        ranges: By key; `a.b` is b in a, and `a.*` whatever is in a.
        above: The key of the settings themselves, with a dot, for the sentence.

    Raises:
        InputError: If one is, or is no number.
    """
    for key, allowed in ranges.items():
        for name, value in _found(settings, key.split("."), above):
            check_range(name, value, allowed)


def check_range(name: str, value: Any, allowed: Range) -> None:  # noqa: ANN401  whatever was given
    """Refuses a value that is out of its range.

    Raises:
        InputError: If it is, or is no number.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{name} must be a number, got '{value}'")
    fault = allowed.fault(value)
    if fault is not None:
        raise InputError(f"{name} must be {fault}, got {value}")


def check_finite(settings: Any, name: str = "") -> None:  # noqa: ANN401  any node
    """Refuses infinities, what is no number, and texts with NUL: no setting means them.

    Raises:
        InputError: If there is one.
    """
    if isinstance(settings, str) and "\0" in settings:
        raise InputError(f"{name} must be a text without NUL, got '{shown(settings)}'")
    if isinstance(settings, float) and not math.isfinite(settings):
        raise InputError(f"{name} must be a finite number, got {settings}")
    if isinstance(settings, dict | list):
        pairs = settings.items() if isinstance(settings, dict) else enumerate(settings)
        for key, value in pairs:
            check_finite(value, f"{name}.{key}" if name else str(key))


def check_texts(settings: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuses what is no text; what the settings lack, or is null, is not checked.

    Raises:
        InputError: If there is one.
    """
    for key in keys:
        for name, value in _found(settings, key.split("."), ""):
            if not isinstance(value, str):
                raise InputError(f"{name} must be a text, got '{value}'")


def _found(settings: Any, path: list[str], above: str) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """Names and values at a path; none where something on the way is not there."""
    if not path:
        if settings is not None:
            yield above.rstrip("."), settings
        return
    if isinstance(settings, list):
        settings = dict(enumerate(settings))
    if not isinstance(settings, Mapping):
        return
    keys = list(settings) if path[0] == "*" else [path[0]]
    for key in keys:
        if key in settings:
            yield from _found(settings[key], path[1:], f"{above}{key}.")

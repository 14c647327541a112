"""All pictures of a search, from its files alone."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any


def write_report(folder: Path, progress: Callable[[Iterable[Any], str], Iterable[Any]]) -> None:
    """Writes animations/*.gif, figures/*.png and index.html into a search's folder."""

"""How long loops tell how far they are."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

Progress = Callable[[Iterable[Any], str], Iterable[Any]]


def quiet(items: Iterable[Any], _what: str) -> Iterator[Any]:
    """A progress that shows nothing."""
    yield from items


class Bars:
    """Progress bars with the time left; a loop inside a shown one shows none of its own."""

    def __init__(self) -> None:
        self.shown = False

    def __call__(self, items: Iterable[Any], what: str) -> Iterator[Any]:
        """Wraps a loop."""
        from rich.progress import track as bar

        if self.shown:
            yield from items
            return
        self.shown = True
        try:
            yield from bar(list(items), what.ljust(12))
        finally:
            self.shown = False

"""How long loops tell how far they are, and the package what it does."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
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


class _Printed(logging.Handler):
    """Prints where the process prints now, so that a line that moves stays whole."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        print(self.format(record), flush=True)


@contextmanager
def shown_log() -> Iterator[None]:
    """Prints what the package logs."""
    log, handler = logging.getLogger("stylex"), _Printed()
    level = log.level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)

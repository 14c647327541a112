"""Reads many files, in several processes and with a bar where that is worth it."""

import multiprocessing
import os
import time
from collections.abc import Iterator
from typing import TypeVar

from torch.utils.data import DataLoader, Dataset

from stylex.progress import Bars

FEW = 256  # files that one process reads by itself: others would take as long to start
QUIET_S = 3.0  # until a bar is shown
T = TypeVar("T")


def read_each(files: Dataset[T], what: str) -> Iterator[T]:
    """Gives every item in its order; as many are read at once as there are processors.

    Args:
        files: Has a length. Items are texts, bytes, numbers and lists of these: what is no tensor
            goes from process to process through a pipe, and needs no shared memory.
        what: Is done, for the bar.
    """
    count = len(files)  # type: ignore[arg-type]
    alone = count < FEW or multiprocessing.current_process().daemon
    workers = 0 if alone else len(os.sched_getaffinity(0))
    items = iter(DataLoader(files, batch_size=None, num_workers=workers))
    started = time.monotonic()
    for position in range(count):
        if time.monotonic() - started > QUIET_S:
            for _ in Bars()(range(position, count), what):
                yield next(items)
            return
        yield next(items)

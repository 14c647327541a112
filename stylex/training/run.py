"""A run's hold on its folder and on the signals that ask it to leave."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only

from stylex.folders import Lock, clear_partial, held
from stylex.processes import of_one_fate
from stylex.training.departure import Departure, departing


@dataclass(frozen=True)
class Run:
    """What a training holds while it writes.

    Attributes:
        folder: Where to.
        departure: Signals.
        lock: On the folder; none in those of several processes that write nothing.
    """

    folder: Path
    departure: Departure
    lock: Lock | None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes, of those that train together."""
        return self.lock is not None

    def check(self) -> None:
        """Makes sure that the folder is still the one of the run.

        Raises:
            InputError: If it was removed or replaced.
        """
        if self.lock is not None:
            self.lock.check()


class Guard(Callback):
    """Looks after every step for the run's folder; the first of all callbacks that write there."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Looks."""
        self.run.check()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Looks."""
        self.run.check()


@contextmanager
def begun(folder: Path) -> Iterator[Run]:
    """Holds a folder and the signals inside the block.

    Raises:
        InputError: If another run holds the folder, its disk or its permissions fail the run, or
            another process that trains with this one has ended.
    """
    leads = rank_zero_only.rank == 0  # type: ignore[attr-defined]
    if not leads:
        with departing(folder, leads) as departure, of_one_fate():
            yield Run(folder, departure, None)
        return
    with held(folder) as lock, departing(folder, leads) as departure, of_one_fate():
        for place in (folder, folder / "checkpoints", folder / "samples"):
            clear_partial(place)
        yield Run(folder, departure, lock)

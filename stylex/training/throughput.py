"""How fast a training is, what memory it takes, and when it will have ended.

On a terminal one line moves; in a file, such as a cluster's log, a line is added now and then. The
same figures go to metrics.csv and to every logger.
"""

import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import torch
from lightning import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column
from torch import Tensor

from stylex.training.callbacks import log, steps_done

REFRESH_SECONDS = 0.5  # of the line on a terminal; reading a loss waits for the GPU


class Pace:
    """Time per image, since the last row and since the beginning.

    Attributes:
        images_per_step: Real images that a step shows, over all processes.
    """

    def __init__(self, images_per_step: int, step: int, now: Callable[[], float]) -> None:
        """Begins to measure.

        Args:
            images_per_step: Real images that a step shows, over all processes.
            step: Steps done before.
            now: Seconds of a clock.
        """
        self.images_per_step, self.now = images_per_step, now
        self.row = self.warm = self.last = (step, now())
        self.first = step

    def tick(self, step: int) -> None:
        """Notes that `step` steps are done; the first one of all is slow, and no forecast's."""
        self.last = (step, self.now())
        if step == self.first + 1:
            self.warm = self.last

    def figures(self) -> dict[str, float]:
        """Seconds per thousand images and images per second, since the last row."""
        (begun, since), (step, until) = self.row, self.last
        self.row = self.last
        seconds = max(until - since, 1e-9)
        images = (step - begun) * self.images_per_step
        return {
            "seconds_per_kimg": 1000 * seconds / max(images, 1),
            "images_per_second": images / seconds,
        }

    def seconds_per_step(self) -> float | None:
        """Over all steps but the first; none before the second."""
        steps = self.last[0] - self.warm[0]
        return (self.last[1] - self.warm[1]) / steps if steps > 0 else None


class Throughput(Callback):
    """Shows one line while a run trains, and logs its pace and memory."""

    def __init__(
        self,
        num_steps: int,
        images_per_step: int,
        every_steps: int,
        every_seconds: float,
        losses: Sequence[str],
        say: Callable[[str], None] = lambda text: print(text, flush=True),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepares the callback.

        Args:
            num_steps: Step after the last one.
            images_per_step: Real images that a step shows, over all processes.
            every_steps: Steps between two rows of figures, beginning with the first step.
            every_seconds: Seconds between two lines where there is no terminal.
            losses: Terms of the step to show, as far as they are there.
            say: Prints a line where there is no terminal.
            now: Seconds of a clock.
        """
        self.num_steps, self.images_per_step = num_steps, images_per_step
        self.every_steps, self.every_seconds = every_steps, every_seconds
        self.losses, self.say, self.now = losses, say, now
        self.terms: dict[str, Tensor] = {}
        self.pace: Pace | None = None
        self.bar: Progress | None = None
        self.shown_at = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int
    ) -> None:
        """Begins to measure at the first step, and opens the line on a terminal."""
        if self.pace is not None:
            return
        step = steps_done(pl_module)
        self.pace = Pace(self.images_per_step, step, self.now)
        self.shown_at = self.now()
        if trainer.is_global_zero and on_terminal():
            whole = Column(no_wrap=True, overflow="ellipsis")
            text = TextColumn("{task.description}", table_column=whole)
            self.bar = Progress(BarColumn(10), text, console=Console(), auto_refresh=False)
            self.bar.add_task("the first step", total=self.num_steps, completed=step)
            self.bar.start()
            self.bar.refresh()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Mapping[str, Tensor],  # type: ignore[override]
        batch: object,
        batch_idx: int,
    ) -> None:
        """Logs and shows what it is time for."""
        assert self.pace is not None
        done = steps_done(pl_module)
        self.pace.tick(done)
        self.terms |= {name: outputs[name] for name in self.losses if name in outputs}
        if (done - 1) % self.every_steps == 0:
            memory = {"memory_mb": memory_mb(pl_module.device)}
            log(trainer, {**self.pace.figures(), **memory}, done - 1)
        wait = self.every_seconds if self.bar is None else REFRESH_SECONDS
        if trainer.is_global_zero and self.now() - self.shown_at >= wait:
            self._show(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Shows where the run ended."""
        if trainer.is_global_zero:
            self._show(pl_module)
        self._close()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Leaves the terminal as it was."""
        self._close()

    def _show(self, module: LightningModule) -> None:
        self.shown_at = self.now()
        step = steps_done(module)
        pace = None if self.pace is None else self.pace.seconds_per_step()
        parts = [f"step {step:,}/{self.num_steps:,}"]
        if pace is not None:
            parts += [
                f"{time_left(pace * (self.num_steps - step))} left",
                f"{1000 * pace / self.images_per_step:.3g} s/kimg",
                f"{self.images_per_step / max(pace, 1e-9):,.1f} images/s",
            ]
        parts.append(f"{memory_mb(module.device):,.0f} MB")
        parts += [f"{name} {float(value):.3g}" for name, value in self.terms.items()]
        if self.bar is None:
            self.say("  ".join(parts))
        else:
            self.bar.update(self.bar.task_ids[0], completed=step, description="  ".join(parts))
            self.bar.refresh()

    def _close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def on_terminal() -> bool:
    """Whether a line that moves can be read where this process prints."""
    return sys.stdout.isatty() and not Console().is_dumb_terminal


def memory_mb(device: torch.device) -> float:
    """The most memory taken so far: allocated on a GPU, else resident of this process [MB]."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6


def time_left(seconds: float) -> str:
    """A time as it is said: days, hours, minutes or seconds."""
    for unit, length in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds > 1.5 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.0f} seconds"

"""What surrounds a training loop: metrics, validation, pictures, state to go on from."""

import csv
import os
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import CSVLogger
from torch import Tensor

from stylex.artifacts import read_state, replacing, write_state
from stylex.imaging import grid, write_png
from stylex.loggers import log_picture
from stylex.model import StylEx
from stylex.types import Images, Pixels

STATE_FILE = "last.ckpt"


class Resumable(Protocol):
    """A module that counts its steps and can be taken up again."""

    step: int

    def training_state(self) -> dict[str, Any]:
        """All that a resumed run needs."""

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Takes over such a state."""


def steps_done(module: Any) -> int:
    """Steps that a module counted: batches, where Lightning counts optimiser calls."""
    return int(module.step)


class Metrics(Callback):
    """Averages every term of the training step and logs it every few steps, from step 0."""

    def __init__(self, every_steps: int) -> None:
        self.every_steps = every_steps
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Adds a step's terms; logs their means when it is time."""
        for name, value in outputs.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
            self.counts[name] = self.counts.get(name, 0) + 1
        step = steps_done(pl_module) - 1
        if step % self.every_steps == 0:
            log(
                trainer,
                {name: float(total) / self.counts[name] for name, total in self.sums.items()},
                step,
            )
            self.sums, self.counts = {}, {}


def log(trainer: Trainer, metrics: Mapping[str, float], step: int) -> None:
    """Writes metrics to every logger, at our step (Lightning's counts optimiser calls)."""
    for logger in trainer.loggers:
        logger.log_metrics(dict(metrics), step=step)
        logger.save()


class Validation(Callback):
    """Measures on validation images every few steps and at the end."""

    def __init__(self, every_steps: int, measure: Callable[[], Mapping[str, float]]) -> None:
        self.every_steps, self.measure = every_steps, measure

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Measures when it is time."""
        step = steps_done(pl_module)
        if step % self.every_steps == 0 or step == 1:
            log(trainer, {f"validation_{k}": v for k, v in self.measure().items()}, step - 1)


class Pictures(Callback):
    """Writes a grid every few steps: originals, reconstructions, samples of the noise path.

    It goes into a folder and to every logger that has a place for pictures.
    """

    def __init__(self, every_steps: int, folder: Path, model: StylEx, images: Images) -> None:
        self.every_steps, self.folder, self.model, self.images = every_steps, folder, model, images

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Writes a grid when it is time."""
        step = steps_done(pl_module)
        if step % self.every_steps == 0 or step == 1:
            pixels = sample_grid(self.model, self.images.to(pl_module.device))
            write_png(self.folder / f"{step:07d}.png", pixels)
            log_picture(trainer.loggers, "samples", pixels, step - 1)


@torch.no_grad()
def sample_grid(model: StylEx, images: Images) -> Tensor:
    """Three rows: originals, reconstructions, samples with the originals' probabilities.

    Returns:
        Pixels [c h w].
    """
    shape = (len(images), model.mapping.latent_dim)
    z = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(images.device)
    latents = torch.cat((model.mapping(z), model.classifier.probabilities(images)), dim=1)
    rows = torch.cat((images, model.reconstruct(images), model.generator(latents)))
    pixels: Pixels = grid(rows.clamp(-1, 1).cpu(), columns=len(images))
    return pixels


class Forecast(Callback):
    """Says after some steps how long the rest will take."""

    def __init__(self, num_steps: int, after_steps: int, say: Callable[[str], None]) -> None:
        self.num_steps, self.after_steps, self.say = num_steps, after_steps, say
        self.started: tuple[float, int] | None = None

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Notes the time after one step (the first is slow), and speaks some steps later."""
        if batch_idx == 1:
            self.started = (time.monotonic(), steps_done(pl_module))
        elif batch_idx == self.after_steps and self.started is not None:
            begun, first = self.started
            step = steps_done(pl_module)
            pace = (time.monotonic() - begun) / (step - first)
            minutes = pace * (self.num_steps - step) / 60
            left = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.0f} minutes"
            self.say(
                f"{self.num_steps - step} steps are left: about {left} at {1 / pace:.1f} steps a "
                "second"
            )


class Checkpoint(Callback):
    """Keeps the state of the run, so that the same command goes on, and exports the model."""

    def __init__(
        self,
        folder: Path,
        every_steps: int,
        state: Mapping[str, Any] | None,
        facts: Mapping[str, Any],
        export: Callable[[Path], None],
    ) -> None:
        """Prepares the callback.

        Args:
            folder: Where the state and the model go.
            every_steps: Steps between two states.
            state: State to go on from; none starts at step 0.
            facts: Stored with the state and compared when a run goes on.
            export: Writes the model for use into a folder.
        """
        self.folder, self.every_steps = folder, every_steps
        self.state, self.facts, self.export = state, facts, export

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes over the stored state, now that the optimisers exist."""
        if self.state is not None:
            cast(Resumable, pl_module).load_training_state(self.state)
            for callback in trainer.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, Metrics):
                    callback.sums, callback.counts = self.state["sums"], self.state["counts"]
            self.state = None

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Saves when it is time."""
        if steps_done(pl_module) % self.every_steps == 0:
            self._save(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves at the end. A run stopped inside a step goes on from the last state."""
        self._save(trainer, pl_module)

    def _save(self, trainer: Trainer, module: Any) -> None:
        self.export(self.folder)
        metrics = [c for c in trainer.callbacks if isinstance(c, Metrics)]  # type: ignore[attr-defined]
        state = {
            **module.training_state(),
            "facts": dict(self.facts),
            "sums": metrics[0].sums if metrics else {},
            "counts": metrics[0].counts if metrics else {},
        }
        write_state(self.folder / STATE_FILE, state)


def stored_state(folder: Path) -> dict[str, Any] | None:
    """The state that a run in this folder left, or none.

    Raises:
        InputError: If the file is broken.
    """
    path = folder / STATE_FILE
    return read_state(path) if path.is_file() else None


def trim_metrics(path: Path, step: int) -> None:
    """Drops the rows of metrics.csv from `step` on, which a resumed run writes again."""
    if not path.is_file():
        return
    with path.open(newline="") as file:
        reader = csv.DictReader(file)
        names = reader.fieldnames or []
        rows = [row for row in reader if row["step"] and int(float(row["step"])) < step]
    with replacing(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, names, lineterminator=os.linesep)
        writer.writeheader()
        writer.writerows(rows)


def csv_logger(folder: Path, step: int) -> CSVLogger:
    """Lightning's CSV logger on metrics.csv, keeping the rows before `step`.

    The logger deletes an older file when it begins, so the rows are put back behind its back.
    """
    path = folder / "metrics.csv"
    trim_metrics(path, step)
    kept = path.read_text() if path.is_file() else ""
    logger = CSVLogger(folder, name="", version="")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it deletes
        writer = logger.experiment
    if kept:
        with replacing(path) as temporary:
            temporary.write_text(kept)
        writer.metrics_keys = kept.splitlines()[0].split(",")
    return logger

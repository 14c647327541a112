"""What surrounds a training loop: metrics, validation, pictures, the forecast."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from stylex.imaging import grid, write_png
from stylex.loggers import log_picture
from stylex.model import StylEx
from stylex.training.records import MetricsLogger
from stylex.training.watch import Watch
from stylex.types import Images, Pixels


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


class Watching(MetricsLogger):
    """Shows a watch all that is logged, as any logger gets it."""

    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self.watch = watch

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Shows it."""
        self.watch.look(step or 0, metrics)


class Validation(Callback):
    """Measures on validation images after the first step and every few.

    Attributes:
        found: What was measured, until somebody takes it away.
    """

    def __init__(self, every_steps: int, measure: Callable[[], Mapping[str, float]]) -> None:
        self.every_steps, self.measure = every_steps, measure
        self.found: Mapping[str, float] | None = None

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
            self.found = self.measure()
            log(trainer, {f"validation_{k}": v for k, v in self.found.items()}, step - 1)


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

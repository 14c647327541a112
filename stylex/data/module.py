"""Training batches and the validation set, as Lightning wants them."""

from collections.abc import Callable

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader

from stylex.data.datasets import ImageSet
from stylex.data.steps import StepBatches, step_loader
from stylex.errors import InputError
from stylex.imaging import from_uint8
from stylex.types import Images, Labels, Pixels


class ImageDataModule(LightningDataModule):
    """One pass over the training batches is the whole training, one batch a step.

    Attributes:
        train: Images to train on.
        validation: Images for callbacks; no loader is made of them.
        start_step: First step of the pass, 0 at first; whoever resumes a run sets it before
            the loader is made.

    Args:
        train: Images to train on.
        validation: Images for callbacks, of the same classes and form.
        batch_size: Number of images in a batch.
        num_workers: Processes that read images; 0 reads them in the training process.
        seed: Decides the order of the images (see `StepBatches`).
        num_steps: Step after the last one.
        share: Gives this process's part of a batch (see `StepBatches`).

    Raises:
        InputError: If the two sets differ in classes, resolution or channels.
    """

    def __init__(
        self,
        *,
        train: ImageSet,
        validation: ImageSet,
        batch_size: int,
        num_workers: int,
        seed: int,
        num_steps: int,
        share: Callable[[list[int]], list[int]] = list,
    ) -> None:
        super().__init__()
        for name in ("class_names", "resolution", "channels"):
            ours, theirs = getattr(train, name), getattr(validation, name)
            if ours != theirs:
                raise InputError(
                    f"train and validation must agree in {name}, got {ours} and {theirs}"
                )
        self.train = train
        self.validation = validation
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.num_steps = num_steps
        self.share = share
        self.start_step = 0

    def train_dataloader(self) -> DataLoader:
        """Makes the loader of the batches from `start_step` to the end.

        Returns:
            A loader of pairs of images, still 8-bit if the set keeps such, and labels.

        Raises:
            InputError: If there are fewer training images than `batch_size`.
        """
        steps = StepBatches(
            num_images=len(self.train),
            batch_size=self.batch_size,
            seed=self.seed,
            start_step=self.start_step,
            stop_step=self.num_steps,
            share=self.share,
        )
        return step_loader(self.train, steps, self.num_workers)

    def on_after_batch_transfer(
        self, batch: tuple[Images | Pixels, Labels], dataloader_idx: int
    ) -> tuple[Images, Labels]:
        """Makes images in [-1, 1] of 8-bit ones, on the device that trains."""
        images, labels = batch
        return (from_uint8(images) if images.dtype == torch.uint8 else images), labels

"""Training batches and the validation set, as Lightning wants them."""

from collections.abc import Sequence

import torch
from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset

from stylex.data.datasets import ImageSet
from stylex.data.steps import StepBatches
from stylex.errors import InputError
from stylex.types import Images, Labels


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
        self.start_step = 0

    def train_dataloader(self) -> DataLoader:
        """Makes the loader of the batches from `start_step` to the end.

        Returns:
            A loader of pairs of images in [-1, 1] and labels.

        Raises:
            InputError: If there are fewer training images than `batch_size`.
        """
        steps = StepBatches(
            num_images=len(self.train),
            batch_size=self.batch_size,
            seed=self.seed,
            start_step=self.start_step,
            stop_step=self.num_steps,
        )
        return DataLoader(
            _Batched(self.train),
            sampler=steps,
            batch_size=None,  # the sampler's items are whole batches
            collate_fn=tuple,  # torch's own makes a list of the pair
            num_workers=self.num_workers,
            pin_memory=torch.cuda.is_available(),
        )


class _Batched(Dataset[tuple[Images, Labels]]):
    """An image set whose items are batches, so that a loader reads a batch in one call."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Images, Labels]:
        return self.images.batch(indices)

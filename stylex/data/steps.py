"""Which images each training step sees, as a pure function of seed and step.

A run resumed at a step therefore sees exactly the batches that an unbroken run would have seen.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from stylex.data.datasets import ImageSet
from stylex.errors import InputError
from stylex.types import Images, Labels, Pixels


class StepBatches(Sampler[list[int]]):
    """Index batches of the training steps from `start_step` up to, not including, `stop_step`.

    An epoch is a permutation of all images, cut into whole batches; the rest of it is dropped. Of
    several processes that train together each gets its share of every batch.

    Args:
        num_images: Size of the image set.
        batch_size: Number of images in a batch.
        seed: Another seed gives other permutations.
        start_step: First step, counted from the start of the whole training.
        stop_step: Step after the last one.
        share: Gives this process's part of a batch, asked when the batches are; none: all of it.

    Raises:
        InputError: If `num_images` is below `batch_size`, or `batch_size` below 1.
        ValueError: If the steps do not run forward from 0 or later.
    """

    def __init__(
        self,
        *,
        num_images: int,
        batch_size: int,
        seed: int,
        start_step: int,
        stop_step: int,
        share: Callable[[list[int]], list[int]] = list,
    ) -> None:
        if batch_size < 1:
            raise InputError(f"batch_size must be at least 1, got {batch_size}")
        if num_images < batch_size:
            raise InputError(
                f"batch_size must not exceed the number of training images ({num_images}), "
                f"got {batch_size}: lower it or add images"
            )
        if not 0 <= start_step <= stop_step:
            raise ValueError(
                "start_step must be from 0 to stop_step, "
                f"got start_step {start_step} and stop_step {stop_step}"
            )
        self.num_images = num_images
        self.batch_size = batch_size
        self.seed = seed
        self.start_step = start_step
        self.stop_step = stop_step
        self.share = share

    def __len__(self) -> int:
        """Returns the number of steps."""
        return self.stop_step - self.start_step

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the batch of every step; a second pass yields the same batches."""
        steps_per_epoch = self.num_images // self.batch_size
        drawn_epoch = -1
        order: list[int] = []
        for step in range(self.start_step, self.stop_step):
            epoch, position = divmod(step, steps_per_epoch)
            if epoch != drawn_epoch:
                drawn_epoch, order = epoch, self._order(epoch)
            batch = order[position * self.batch_size : (position + 1) * self.batch_size]
            yield self.share(batch)

    def _order(self, epoch: int) -> list[int]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, epoch))
        return torch.randperm(self.num_images, generator=generator).tolist()


class ClassBatches(Sampler[list[int]]):
    """Index batches of P classes with K images each, for losses that compare images.

    Each step draws its classes, and their images, without replacement and by itself.

    Args:
        labels: Of the image set; every class in it has images.
        num_classes: P, classes in a batch.
        images_per_class: K, images of each.
        seed: Another seed gives other batches.
        start_step: First step, counted from the start of the whole training.
        stop_step: Step after the last one.

    Raises:
        InputError: If P or K is below 2, or there are fewer classes than P or fewer images of a
            class than K.
    """

    def __init__(
        self,
        labels: Labels,
        *,
        num_classes: int,
        images_per_class: int,
        seed: int,
        start_step: int,
        stop_step: int,
    ) -> None:
        self._members = [(labels == k).nonzero()[:, 0] for k in labels.unique().tolist()]
        fewest = min((len(members) for members in self._members), default=0)
        for name, value, most, of in (
            ("classes_per_batch", num_classes, len(self._members), "classes to train on"),
            ("images_per_class", images_per_class, fewest, "images of the smallest class"),
        ):
            if not 2 <= value <= most:
                raise InputError(
                    f"{name} must be at least 2 and at most the number of {of} ({most}), got "
                    f"{value}; change it or the data"
                )
        self.num_classes, self.images_per_class, self.seed = num_classes, images_per_class, seed
        self.start_step, self.stop_step = start_step, stop_step

    def __len__(self) -> int:
        """Returns the number of steps."""
        return self.stop_step - self.start_step

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the batch of every step; a second pass yields the same batches."""
        for step in range(self.start_step, self.stop_step):
            generator = torch.Generator().manual_seed(step_seed(self.seed, step))
            chosen = torch.randperm(len(self._members), generator=generator)[: self.num_classes]
            batch: list[int] = []
            for k in chosen.tolist():
                order = torch.randperm(len(self._members[k]), generator=generator)
                batch += self._members[k][order[: self.images_per_class]].tolist()
            yield batch


def step_seed(seed: int, step: int) -> int:
    """A seed for one step (or epoch) of a run.

    A hash, because seed + step would give step 1 of seed 0 to step 0 of seed 1.
    """
    digest = hashlib.sha256(f"{seed} {step}".encode()).digest()
    return int.from_bytes(digest[:7], "big")


def step_loader(
    images: ImageSet, steps: Sampler[list[int]], num_workers: int
) -> "DataLoader[tuple[Images | Pixels, Labels]]":
    """A loader of the batch of every step, as `ImageSet.packed` gives it.

    Args:
        images: Where the batches come from.
        steps: Positions of the images of each step.
        num_workers: Processes that read images; 0 reads them in this one.
    """
    return DataLoader(
        _Batched(images),
        sampler=steps,
        batch_size=None,  # the sampler's items are whole batches
        collate_fn=tuple,  # torch's own makes a list of the pair
        num_workers=num_workers,
        persistent_workers=num_workers > 0,  # a second pass starts none anew
        pin_memory=torch.cuda.is_available(),
    )


class _Batched(Dataset[tuple[Images | Pixels, Labels]]):
    """An image set whose items are batches, so that a loader reads a batch in one call."""

    def __init__(self, images: ImageSet) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, indices: Sequence[int]) -> tuple[Images | Pixels, Labels]:
        return self.images.packed(indices)
